// Accounts, directories, names.
const path = require("path");
module.exports = {
  static: [],
  apps: [
    {
      name: "tenant",
      script: "../../witness.js",
      cwd: "users/data",
      uid: "www-data",
      gid: "www-data",
      username: "www-data",
      append_env_to_name: true,
      filter_env: ["SECRET"],
      env: { PORT: 4600 },
      env_production: { TENANT: path.basename("/x/acme") },
    },
    { name: "later", script: "witness.js", autostart: false },
  ],
};
