// A chat that is told to stop by a message, and a task that runs once.
export const apps = [
  {
    name: "chat",
    script: "witness.js",
    instances: 1,
    exec_mode: "cluster_mode",
    shutdown_with_message: true,
    log_file: "/run/chat.log",
    log_type: "json",
    port: 4200,
    env: {},
  },
  { name: "migrate", script: "witness.js", autorestart: false, env: { ONCE: 0 } },
  { name: "import", script: "witness.js", stop_exit_codes: [4, 5], env: { ONCE: 4 } },
];
