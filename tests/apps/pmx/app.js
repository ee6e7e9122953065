// Shows figures of itself and can be called, by the package that PACKAGE names: @pm2/io, tx2 or pmx.
"use strict";

const kind = process.env.PACKAGE || "@pm2/io";
const index = Number(process.env.NODE_APP_INSTANCE);
let level = "info";

const actions = {
  "log-level": (param, reply) => {
    level = param;
    reply({ level, type: typeof param });
  },
  who: (reply) => reply({ index, level, list: [1, "é", null] }),
  twice: (reply) => {
    reply("first");
    reply("second");
  },
  refuse: (reply) => reply({ success: false, error: "not today" }),
  // So many milliseconds, or until a file is there.
  later: (when, reply) => {
    if (!when.startsWith("/")) return setTimeout(() => reply(when), Number(when));
    const look = () => (require("fs").existsSync(when) ? reply(when) : setTimeout(look, 20));
    console.log("waits for " + when);
    look();
  },
  never: () => {},
  fail: () => {
    throw new Error("the action fails");
  },
};

const packages = {
  "@pm2/io": () => {
    const io = require("@pm2/io");
    io.metric({ name: "Users", unit: "users", value: () => 10 + index });
    io.metric({ name: "Mood", value: () => "fine" });
    const downloads = io.counter({ name: "Downloads" });
    downloads.inc();
    downloads.inc(5);
    const meter = io.meter({ name: "Requests", unit: "req/s", samples: 1, timeframe: 60 });
    setInterval(() => meter.mark(), 50).unref();
    const latency = io.histogram({ name: "Latency", measurement: "max", unit: "ms" });
    for (let sample = 1; sample <= 40; sample++) latency.update(sample);
    io.actionService.scopedAction("report", (param, stream) => {
      for (let part = 1; part <= 3; part++) stream.send({ part, param });
      stream.end("done");
    });
    io.actionService.scopedAction("broken", (param, stream) => stream.error({ reason: "no" }));
    io.action("commented", { comment: "what it is for" }, (reply) => reply(null));
    return { action: (name, run) => io.action(name, run), report: (error) => io.notifyError(error, { custom: { a: 1 } }) };
  },
  tx2: () => {
    const tx2 = require("tx2");
    tx2.metric("Users", "users", () => 10 + index);
    tx2.counter("Downloads").inc(6);
    return { action: (name, run) => tx2.action(name, run), report: (error) => tx2.issue(error) };
  },
  pmx: () => {
    const pmx = require("pmx").init({ http: false });
    pmx.probe().metric({ name: "Users", unit: "users", value: () => 10 + index });
    pmx.probe().counter({ name: "Downloads" }).inc(6);
    return { action: (name, run) => pmx.action(name, run), report: (error) => pmx.notify(error) };
  },
};

const { action, report } = packages[kind]();
for (const [name, run] of Object.entries(actions)) action(name, run);

require("http")
  .createServer((request, response) => {
    if (request.url === "/report") report(new TypeError("something is wrong"));
    // No worker of an honest app does this.
    if (request.url === "/flood") flood();
    response.end(`${process.pid}\n`);
  })
  .listen(process.env.PORT || 3000);

function flood() {
  const many = {};
  for (let number = 0; number < 100000; number++) many[`metric ${number}`] = { value: number };
  process.send({ type: "axm:monitor", data: many });
  process.send({ type: "axm:monitor", data: { ["x".repeat(1 << 20)]: { value: 1 } } });
  process.send({ type: "axm:action", data: { action_name: "y".repeat(1 << 20) } });
  for (let number = 0; number < 5000; number++) {
    process.send({ type: "axm:monitor", data: { [`one by one ${number}`]: number, "\u001b[31m": 1, text: "z\u0007".repeat(5000) } });
    process.send({ type: "axm:action", data: { action_name: `action ${number}` } });
    process.send({ type: "process:exception", data: { message: `flood ${number}`, stack: "\u001b[2J" } });
    process.send({ type: "axm:reply", data: { action_name: "who", return: number } });
  }
}
