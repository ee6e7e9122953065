// Keeps an app of plain WebSockets busy while something is done to it, and tells what its clients saw: load.js without
// Socket.IO.
//
//   node sockets.js URL [--each N] [--width N]
//
// N WebSockets (`/ws`) that are held and opened again when they end; `width` lanes of plain requests, fast and slow, on
// connections of their own and on kept ones; `width` lanes of WebSockets that say one thing and go.
//
// Prints {"ready":true} when the held ones stand. For each line on standard input it waits until all of them stand, and
// prints one line of JSON: what happened since the line before.
const http = require("http");
const { WebSocket } = require("ws");

const [url, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const each = option("--each", 100);
const width = option("--width", 3);

const fresh = () => ({ requests: 0, failed_requests: 0, new_sessions: 0, failed_sessions: 0, connect_errors: 0, echoes: 0, drops: {}, errors: [] });
let seen = fresh();
const note = (text) => seen.errors.length < 20 && seen.errors.push(text);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const open = () => new WebSocket(url.replace(/^http/, "ws") + "/ws", { handshakeTimeout: 60_000, perMessageDeflate: false });

const held = [];

function hold(session) {
  const socket = open();
  let opened = false;
  socket.on("open", () => {
    opened = true;
    socket.send("who");
  });
  socket.on("message", (text) => {
    if (String(text).startsWith("{")) session.who = JSON.parse(text);
    else seen.echoes++;
  });
  socket.on("error", (error) => {
    if (opened) return;
    seen.connect_errors++;
    note(`connect: ${error.message}`);
  });
  socket.on("close", (code) => {
    session.who = undefined;
    if (opened) {
      session.drops++;
      seen.drops[code] = (seen.drops[code] || 0) + 1;
    }
    setTimeout(() => hold(session), 20 + Math.random() * 50);
  });
  session.socket = socket;
}

const standing = async () => {
  const until = Date.now() + 60_000;
  while (held.some(({ who }) => !who) && Date.now() < until) await pause(10);
};

let number = 0;
const kept = new http.Agent({ keepAlive: true });

function request(path, agent) {
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
    const req = http.get(`${url}${path}n=${n}`, { agent, timeout: 60_000 }, (res) => {
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
    await request(lane % 3 === 2 ? "/slow?ms=300&" : "/path?", lane % 2 ? kept : false);
    await pause(2);
  }
}

const visit = () =>
  new Promise((resolve) => {
    const socket = open();
    const end = (failure) => {
      seen.new_sessions++;
      if (failure) {
        seen.failed_sessions++;
        note(`new: ${failure}`);
      }
      socket.removeAllListeners();
      socket.on("error", () => {});
      socket.terminate();
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => end("no answer"), 60_000);
    socket.on("open", () => socket.send("hello"));
    socket.on("message", (text) => end(String(text) === "hello" ? undefined : `echo: ${text}`));
    socket.on("error", (error) => end(error.message));
    socket.on("close", (code) => end(`closed: ${code}`));
  });

async function visits() {
  for (;;) {
    await visit();
    await pause(5);
  }
}

async function main() {
  for (let i = 0; i < each; i++) {
    const session = { drops: 0 };
    held.push(session);
    hold(session);
    setInterval(() => session.who && session.socket.send("x"), 200 + Math.random() * 200);
  }
  await standing();
  for (let lane = 0; lane < width; lane++) {
    requests(lane);
    visits();
  }
  const count = (key) => held.reduce((all, { who }) => ({ ...all, [who && who[key]]: (all[who && who[key]] || 0) + 1 }), {});
  console.log(JSON.stringify({ ready: held.every(({ who }) => who), sessions: held.length, workers: count("index") }));
  for await (const _line of require("readline").createInterface({ input: process.stdin })) {
    await standing();
    const report = { ...seen, most_drops: Math.max(...held.map(({ drops }) => drops)), versions: count("version"), workers: count("index") };
    seen = fresh();
    held.forEach((session) => (session.drops = 0));
    console.log(JSON.stringify(report));
  }
  process.exit(0);
}

main();
