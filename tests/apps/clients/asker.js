// Holds sessions on all workers and asks the whole cluster through them.
//
//   node asker.js URL [--each N]
//
// N sessions over WebSocket and N over long-polling, with Socket.IO's own reconnection. Prints {"workers":{PID:sessions}}
// when they stand. Each line on standard input is one word, answered by one line of JSON:
//
//   ask [PID]  calls fetchSockets() on every worker, but not on PID
//   open       how many of these calls have no answer yet; every other worker has just answered something else
//   answers    waits for them: error or how many sockets
//   shout      broadcasts once from every worker, and counts who hears it
//   drops [P]  waits until no session is with worker P any more, and all stand again: how many were dropped, by worker
const { io } = require("socket.io-client");

const [url, ...flags] = process.argv.slice(2);
const each = flags.includes("--each") ? Number(flags[flags.indexOf("--each") + 1]) : 8;
const PATIENCE = 60_000;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const sessions = [];
let drops = {};
let heard = 0;
let asked = [];

function hold(kind) {
  const socket = io(url, { transports: [kind], forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, timeout: PATIENCE });
  const session = { socket, worker: undefined };
  sessions.push(session);
  socket.on("connect", () => {
    const id = socket.id;
    socket.emit("who", (who) => {
      if (socket.id === id) session.worker = who.pid;
    });
  });
  socket.on("disconnect", () => {
    drops[session.worker] = (drops[session.worker] || 0) + 1;
    session.worker = undefined;
  });
  socket.on("all", () => heard++);
}

const until = async (holds) => {
  for (const end = Date.now() + PATIENCE; !holds() && Date.now() < end; ) await pause(5);
  return holds();
};
const stand = () => until(() => sessions.every((session) => session.worker));
// One session of every worker, but of that one.
const one = (but) => [...new Map(sessions.filter(({ worker }) => worker && worker !== but).map((it) => [it.worker, it])).values()];
const count = () => sessions.reduce((workers, { worker }) => ({ ...workers, [worker]: (workers[worker] || 0) + 1 }), {});

const acts = {
  async ask(but) {
    asked = one(Number(but)).map(({ socket, worker }) => {
      const call = { worker };
      call.done = new Promise((resolve) => socket.emit("fetchSockets", (error, ids) => resolve(Object.assign(call, { error, sockets: ids && ids.length }))));
      return call;
    });
    return { asked: asked.length };
  },
  async open() {
    const answering = sessions.filter(({ worker }) => asked.some((call) => call.worker === worker));
    await Promise.all(answering.map(({ socket }) => new Promise((resolve) => socket.emit("who", resolve))));
    return { open: asked.filter((call) => call.error === undefined).length };
  },
  async answers() {
    await Promise.all(asked.map(({ done }) => done));
    return { answers: asked.map(({ worker, error, sockets }) => ({ worker, error, sockets })) };
  },
  async shout() {
    heard = 0;
    const from = one();
    for (const { socket } of from) socket.emit("all", "x");
    await until(() => heard >= from.length * sessions.length);
    return { heard, wanted: from.length * sessions.length };
  },
  async drops(gone) {
    // A process that was killed closes its connections a moment later.
    await until(() => !sessions.some(({ worker }) => worker && worker === Number(gone)));
    const standing = await stand();
    const before = drops;
    drops = {};
    return { standing, drops: before, workers: count() };
  },
};

async function main() {
  for (let number = 0; number < each; number++) ["websocket", "polling"].forEach(hold);
  await stand();
  console.log(JSON.stringify({ workers: count() }));
  for await (const line of require("readline").createInterface({ input: process.stdin })) {
    const [word, ...words] = line.split(" ");
    console.log(JSON.stringify(await acts[word](...words)));
  }
  process.exit(0);
}

main();
