// Tells the collector on port 4999 what it finds when it starts, and what it is told.
const net = require("net");
const http = require("http");

const who = process.env.APPCTL_APP ? "appctl" : "pm2";
const index = process.env.NODE_APP_INSTANCE || process.env.MY_INDEX || "0";

function tell(event, facts, then) {
  const line = JSON.stringify({ who, name: process.env.name, index, pid: process.pid, event, ...facts }) + "\n";
  net.connect(4999, "127.0.0.1").on("error", () => {}).on("close", then || (() => {})).end(line);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGUSR2"]) {
  process.on(signal, () => tell("signal", { signal }, () => process.exit(0)));
}
process.on("message", (message) => {
  if (message === "shutdown") tell("message", { message }, () => process.exit(0));
});

tell("start", {
  environment: process.env,
  arguments: process.argv.slice(2),
  runtime: process.execArgv,
  directory: process.cwd(),
  user: process.getuid(),
  group: process.getgid(),
});

if (process.env.ONCE) setTimeout(() => process.exit(Number(process.env.ONCE)), 200);
const server = http.createServer((request, response) => {
  if (request.url === "/exit") process.exit(3);
  response.end(process.env.name + " " + index);
});
if (process.env.PORT) {
  server.listen(process.env.PORT, () => process.send && process.send("ready"));
} else {
  // A job that listens nowhere.
  setInterval(() => {}, 1 << 30);
  if (process.send) process.send("ready");
}
