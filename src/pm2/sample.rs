//! What `appctl ecosystem` writes: the same app in PM2's form and in ours.

/// PM2's form.
pub const ECOSYSTEM: &str = "\
// For PM2, and for `appctl start ecosystem.config.js`.
module.exports = {
  apps: [
    {
      name: \"app\",
      script: \"./app.js\",
      instances: \"max\", // one a processor
      max_memory_restart: \"500M\", // a worker that uses more is replaced
      // wait_ready: true, // the app says process.send('ready')
      // watch: true, // a change reloads it
      // cron_restart: \"0 4 * * *\",
      env: {
        PORT: 3000,
        NODE_ENV: \"development\",
      },
      // --env production
      env_production: {
        NODE_ENV: \"production\",
      },
    },
  ],
};
";

/// The same in ours. `DIRECTORY` stands for the place of the app.
pub const TOML: &str = "\
# `appctl start ./app.toml` installs this and starts it; `appctl check ./app.toml` tells its mistakes.
exec = [\"node\", \"app.js\"]
directory = DIRECTORY
workers = \"max\"            # one a processor
listen = [\"3000\"]          # where clients connect
# user = \"deploy\"          # without it: a user of the app's own
# watch = true             # a change reloads it, without a gap
# active_profile = \"production\"

[environment]
PORT = 3000
NODE_ENV = \"development\"

[profile.production.environment]
NODE_ENV = \"production\"

[limits]
memory_reload = \"500M\"     # a worker that uses more is replaced

# [ready]
# on = \"message\"           # the app says process.send('ready')

# [schedule]
# reload = \"0 4 * * *\"     # new workers every night, without a gap
";

/// PM2's form, short.
pub const SIMPLE: &str = "\
// For PM2, and for `appctl start ecosystem.config.js`.
module.exports = {
  apps: [{ name: \"app\", script: \"./app.js\" }],
};
";

/// The same in ours.
pub const SIMPLE_TOML: &str = "\
# `appctl start ./app.toml` installs this and starts it.
exec = [\"node\", \"app.js\"]
directory = DIRECTORY
listen = [\"3000\"]
";
