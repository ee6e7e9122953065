// A shop: a web server on several processors, and a worker of its queue.
const base = { NODE_ENV: "development", FEATURES: { cart: true, search: ["a", "b"] } };

module.exports = {
  apps: [
    {
      name: "shop",
      script: "./witness.js",
      instances: 2,
      exec_mode: "cluster",
      args: ["--mode", "web server"],
      node_args: "--max-old-space-size=200 --trace-warnings",
      wait_ready: true,
      listen_timeout: 8000,
      kill_timeout: 4000,
      kill_retry_time: 200,
      max_memory_restart: "300M",
      time: true,
      log_date_format: "YYYY-MM-DD",
      merge_logs: true,
      out_file: "/dev/null",
      error_file: "NULL",
      env: { ...base, PORT: 4000 },
      env_production: { NODE_ENV: "production", CACHE: "redis://cache" },
    },
    {
      name: "shop-queue",
      script: "witness.js",
      args: "queue --drain='all of it' \"two words\"",
      restart_delay: 300,
      env: base,
      env_production: { NODE_ENV: "production" },
    },
  ],
  deploy: { production: { user: "deploy", host: "shop.example", ref: "origin/main", repo: "git@git.example:shop.git", path: "/srv/shop", env: { DEPLOYED: "yes" } } },
};
