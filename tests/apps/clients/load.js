// Keeps an app busy while something is done to it, and tells what its clients saw.
//
//   node load.js URL [--each N] [--width N]
//
// Three kinds at once: N sessions of each transport that are held, with Socket.IO's own reconnection; `width` lanes of
// plain requests, fast and slow, each on a connection of its own; `width` lanes of new sessions that say one thing and go.
//
// Prints {"ready":true} when the held sessions stand. For each line on standard input it waits until all held sessions are
// connected, and prints one line of JSON: what happened since the line before. It ends when standard input does.
const http = require("http");
const { io } = require("socket.io-client");

const [url, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const each = option("--each", 20);
const width = option("--width", 3);
const transports = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

const fresh = () => ({ requests: 0, failed_requests: 0, new_sessions: 0, failed_sessions: 0, connect_errors: 0, drops: {}, errors: [] });
let seen = fresh();
const note = (text) => seen.errors.length < 20 && seen.errors.push(text);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const reason = (error) => {
  const context = error.context || {};
  return `${error.message} ${error.description || ""} ${context.status || context.statusCode || ""} ${String(context.responseText || "").slice(0, 80)}`;
};

// ---- sessions that are held

const held = [];

function hold(kind) {
  const socket = io(url, { transports: transports[kind], forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, timeout: 60_000 });
  const session = { kind, socket, drops: 0, version: undefined };
  held.push(session);
  socket.on("connect", () => {
    const asked = socket.id;
    socket.emit("who", (who) => {
      if (socket.id === asked) session.version = who.version;
    });
  });
  socket.on("disconnect", (why) => {
    session.version = undefined;
    session.drops++;
    seen.drops[why] = (seen.drops[why] || 0) + 1;
  });
  socket.on("connect_error", (error) => {
    seen.connect_errors++;
    note(`${kind}: connect: ${reason(error)}`);
  });
  // Some traffic, so that there is always something on its way.
  setInterval(() => socket.connected && socket.volatile.emit("echo", "x", () => {}), 100 + Math.random() * 200);
}

const standing = async () => {
  const until = Date.now() + 60_000;
  while (held.some((session) => session.version === undefined) && Date.now() < until) await pause(10);
};

// ---- plain requests

let number = 0;

function request(path) {
  return new Promise((resolve) => {
    const n = ++number;
    const done = (answer) => {
      seen.requests++;
      if (answer !== `200 ${n}\n`) {
        seen.failed_requests++;
        note(`${path}: ${answer}`);
      }
      resolve();
    };
    const req = http.get(`${url}${path}n=${n}`, { agent: false, timeout: 60_000 }, (res) => {
      let body = "";
      res.setEncoding("utf8");
      res.on("data", (text) => (body += text));
      res.on("error", (error) => done(`body: ${error.code || error.message}`));
      res.on("end", () => done(`${res.statusCode} ${body.slice(0, 100)}`));
    });
    req.on("timeout", () => req.destroy(new Error("timeout")));
    req.on("error", (error) => done(error.code || error.message));
  });
}

async function requests(lane) {
  for (;;) {
    await request(lane % 3 === 2 ? "/slow?ms=300&" : "/path?");
    await pause(2);
  }
}

// ---- sessions that come and go

function visit(kind) {
  return new Promise((resolve) => {
    const socket = io(url, { transports: transports[kind], forceNew: true, reconnection: false, timeout: 60_000 });
    const end = (failure) => {
      seen.new_sessions++;
      if (failure) {
        seen.failed_sessions++;
        note(`new ${kind}: ${failure}`);
      }
      socket.removeAllListeners();
      socket.disconnect();
      resolve();
    };
    const timer = setTimeout(() => end("no answer"), 60_000);
    const settle = (failure) => {
      clearTimeout(timer);
      end(failure);
    };
    socket.on("connect", () => socket.emit("echo", "hello", (back) => settle(back === "hello" ? undefined : `echo: ${back}`)));
    socket.on("connect_error", (error) => settle(`connect: ${reason(error)}`));
    socket.on("disconnect", (why) => settle(`disconnect: ${why}`));
  });
}

async function visits(lane) {
  const kinds = Object.keys(transports);
  for (let turn = lane; ; turn++) {
    await visit(kinds[turn % kinds.length]);
    await pause(5);
  }
}

async function main() {
  for (let i = 0; i < each; i++) Object.keys(transports).forEach(hold);
  await standing();
  for (let lane = 0; lane < width; lane++) {
    requests(lane);
    visits(lane);
  }
  console.log(JSON.stringify({ ready: held.every((session) => session.version !== undefined), sessions: held.length }));
  for await (const _line of require("readline").createInterface({ input: process.stdin })) {
    await standing();
    const versions = {};
    for (const { version } of held) versions[version] = (versions[version] || 0) + 1;
    const report = { ...seen, most_drops: Math.max(...held.map((session) => session.drops)), versions };
    seen = fresh();
    held.forEach((session) => (session.drops = 0));
    console.log(JSON.stringify(report));
  }
  process.exit(0);
}

main();
