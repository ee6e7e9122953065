// An API that numbers its instances itself.
module.exports = {
  apps: [{
    name: "api v2",
    script: "witness.js",
    instances: "2",
    instance_var: "MY_INDEX",
    increment_var: "PORT",
    source_map_support: true,
    exp_backoff_restart_delay: 150,
    namespace: "backend",
    min_uptime: "2s",
    max_restarts: 5,
    env: { PORT: 4100, TOKEN_LIFETIME: 3600 },
  }],
};
