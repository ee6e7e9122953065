// Watches an app through its clients while the router dies again and again, and counts what is lost.
//
//   node witness.js HOST PORT [--each N] [--width N] [--pause MS]
//
// N sessions over WebSocket and N over long-polling are held, with Socket.IO's own reconnection. Each sends numbered
// messages that the server sends back; several send numbered broadcasts that every session must hear. Meanwhile `width`
// lanes each of new sessions (by hand and by the client, with upgrade) and of plain requests, each on connections of its
// own, `pause` ms apart.
//
// Prints {"ready":true} when all is at work. A line on standard input says that another reload begins: how often each session
// moves is counted per reload. When standard input ends the lanes stop, everybody is given the time to hear the last,
// and one line of JSON tells it all. A session is *dropped* when its connection ended and its worker lives on; it *moved*
// when its worker went as well.
const { request, handshake } = require("./raw");
const { io } = require("socket.io-client");
const { monitorEventLoopDelay } = require("perf_hooks");

const [host, port, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const each = option("--each", 8);
const width = option("--width", 2);
const pausing = option("--pause", 5);
const url = `http://${host}:${port}`;
// Once nothing has come for so long, the rest is missing.
const PATIENCE = 20_000;
// From the end of a worker's connections to its own.
const LAST_BREATH = 300;
// Of each kind of session, so many broadcast.
const SENDERS = 3;
// Unanswered messages of one session.
const WINDOW = 50;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const lag = monitorEventLoopDelay({ resolution: 5 });

const result = {
  echoes: { sent: 0, back: 0, lost: 0, doubled: 0, reordered: 0, cut: 0 },
  broadcasts: { sent: 0, heard: 0, lost: 0, missing: 0, doubled: 0, reordered: 0 },
  moves: 0,
  most_moves: 0,
  connections: 0,
  refused: 0,
  lost: 0,
  unknown: 0,
  sessions: 0,
  upgraded: 0,
  failed: 0,
  cut: 0,
  longest_connection_ms: 0,
  longest_session_ms: 0,
  workers: {},
  dropped: [],
  errors: [],
};
const note = (text) => result.errors.length < 30 && result.errors.push(`${((Date.now() - began) / 1000).toFixed(3)} ${text}`);
const began = Date.now();
let ending = false;

// ---- numbers in their order

// What one listener has heard of one sender. `last`: how far it has heard before, if that is known.
class Hearing {
  constructor(last) {
    this.last = last;
    this.holes = new Set();
  }

  hear(number, counts) {
    if (this.last === undefined || number === this.last + 1) {
      this.last = number;
    } else if (number > this.last) {
      for (let hole = this.last + 1; hole < number; hole++) this.holes.add(hole);
      this.last = number;
    } else if (this.holes.delete(number)) {
      counts.reordered++;
    } else {
      counts.doubled++;
    }
  }
}

// ---- sessions that are held

const held = [];
// Of a broadcast, "sender number": nobody may miss it.
const missed = new Set();
// Sessions that moved, and how many reloads had begun.
const moves = [];
let reloads = 0;

// Whether a worker whose connection has just ended goes too. What asks is waited for at the end.
const asking = [];
function survives(pid) {
  const answer = pause(LAST_BREATH).then(() => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  });
  asking.push(answer);
  return answer;
}

function settle(session) {
  const { echoes } = result;
  if (!session.echo) return;
  echoes.lost += session.echo.holes.size;
  for (const [sender, hearing] of session.heard) for (const hole of hearing.holes) miss(sender, hole);
  session.heard.clear();
  session.echo = undefined;
}

function miss(sender, number) {
  result.broadcasts.missing++;
  missed.add(`${sender} ${number}`);
}

function hold(kind, number) {
  const socket = io(url, { transports: [kind], forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, timeout: 60_000 });
  const session = { kind, socket, number, epoch: 0, said: 0, sent: 0, worker: undefined, echo: undefined, heard: new Map() };
  held.push(session);
  socket.on("connect", () => {
    const asked = socket.id;
    socket.emit("who", (who) => {
      if (socket.id !== asked) return;
      session.said = session.sent = 0;
      session.echo = new Hearing(0);
      session.sender = `${kind}${number}.${++session.epoch}`;
      // Whoever is here hears all of this one from the first; who comes later, from some number on.
      for (const other of held) if (other.worker) other.heard.set(session.sender, new Hearing(0));
      session.heard.set(session.sender, new Hearing(0));
      session.worker = who.pid;
    });
  });
  socket.on("disconnect", (why, details) => {
    if (session.worker) {
      result.echoes.cut += session.said - session.echo.last;
      const end = { session: `${kind} ${number}`, kind, worker: session.worker, why: `${why} ${details ? reason(details) : ""}`, at: Date.now() - began, reloads };
      survives(session.worker).then((lives) => (lives ? result.dropped : moves).push(end));
    }
    session.worker = undefined;
    settle(session);
  });
  socket.on("connect_error", (error) => note(`${kind} ${number}: connect: ${reason(error)}`));
  socket.on("said", (value) => {
    result.echoes.back++;
    if (session.echo) session.echo.hear(value, result.echoes);
  });
  socket.on("all", (sender, value) => {
    result.broadcasts.heard++;
    if (!session.heard.has(sender)) session.heard.set(sender, new Hearing());
    session.heard.get(sender).hear(value, result.broadcasts);
  });
  const talk = () => {
    if (!session.worker || !socket.connected || ending) return;
    if (session.said - session.echo.last < WINDOW) {
      socket.emit("say", ++session.said);
      result.echoes.sent++;
    }
    if (number < SENDERS && session.said % 3 === 0) shout(session);
  };
  setInterval(talk, 50 + 5 * number);
}

function shout(session) {
  session.socket.emit("all", session.sender, ++session.sent);
  result.broadcasts.sent++;
}

const reason = (error) => {
  const context = error.context || {};
  return `${error.message} ${error.description || ""} ${context.status || context.statusCode || ""} ${String(context.responseText || "").slice(0, 80)}`;
};

const standing = async () => {
  const until = Date.now() + PATIENCE;
  while (held.some((session) => !session.worker) && Date.now() < until) await pause(10);
  return held.every((session) => session.worker);
};

// Everybody says one thing more, so that what is missing before it is seen; then there is time to hear it.
async function finish() {
  const here = held.filter((session) => session.worker);
  for (const session of here) {
    session.socket.emit("say", ++session.said);
    result.echoes.sent++;
    if (session.number < SENDERS) shout(session);
  }
  const senders = here.filter((session) => session.sent > 0);
  const complete = () =>
    here.every((session) => session.echo && session.echo.last === session.said && senders.every((sender) => (session.heard.get(sender.sender) || {}).last === sender.sent));
  for (const until = Date.now() + PATIENCE; !complete() && Date.now() < until; ) await pause(10);
  for (const session of here) {
    if (!session.echo) continue;
    result.echoes.lost += session.said - session.echo.last;
    for (const sender of senders) {
      const hearing = session.heard.get(sender.sender);
      if (!hearing || hearing.last === undefined) continue;
      for (let number = hearing.last + 1; number <= sender.sent; number++) miss(sender.sender, number);
    }
  }
  held.forEach(settle);
  result.broadcasts.lost = missed.size;
}

// ---- connections that come and go

// How long a connection waited for its answer counts, whatever the answer.
async function timed(...what) {
  const started = performance.now();
  const answer = await request(host, port, ...what);
  result.longest_connection_ms = Math.max(result.longest_connection_ms, Math.round(performance.now() - started));
  result.connections++;
  if (answer.status === 0 && answer.body.includes("ECONNREFUSED")) result.refused++;
  else if (answer.status === 0) result.lost++;
  return answer;
}

// A session that failed although its worker lives is a failure; else it was in the way of a reload.
async function failed({ step, status, body, worker }) {
  const at = (Date.now() - began) / 1000;
  if (worker && !(await survives(worker))) return void result.cut++;
  // The lost connection itself is counted already.
  if (status !== 0) result.failed++;
  if (body.includes("Session ID unknown")) result.unknown++;
  note(`at ${at}: ${step}: ${status} ${body.slice(0, 100)}`);
}

async function handshakes() {
  while (!ending) {
    const wrong = await handshake(timed, true);
    if (wrong) failed({ ...wrong, worker: Number(wrong.worker) });
    else result.sessions++;
    await pause(pausing);
  }
}

async function plain() {
  while (!ending) {
    const { status, body } = await timed("GET", "/who");
    const pid = status === 200 ? JSON.parse(body).pid : undefined;
    if (pid) result.workers[pid] = (result.workers[pid] || 0) + 1;
    else failed({ step: "request", status, body });
    await pause(pausing);
  }
}

function visit() {
  return new Promise((resolve) => {
    const started = performance.now();
    const socket = io(url, { transports: ["polling", "websocket"], forceNew: true, reconnection: false, timeout: 60_000 });
    let worker;
    let done = false;
    const end = (failure) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      if (failure) failed({ step: "session", status: -1, body: failure, worker });
      else result.sessions++;
      socket.removeAllListeners();
      socket.disconnect();
      resolve();
    };
    const timer = setTimeout(() => end("no answer"), 60_000);
    const upgraded = () => {
      result.upgraded++;
      socket.emit("echo", "hello", (back) => end(back === "hello" ? undefined : `echo: ${back}`));
    };
    socket.on("connect", () => {
      result.longest_session_ms = Math.max(result.longest_session_ms, Math.round(performance.now() - started));
      socket.emit("who", (who) => (worker = who.pid));
      const { engine } = socket.io;
      if (engine.transport.name === "websocket") return upgraded();
      engine.on("upgrade", upgraded);
      engine.on("upgradeError", (error) => end(`upgrade: ${reason(error)}`));
    });
    socket.on("connect_error", (error) => end(`connect: ${reason(error)}`));
    socket.on("disconnect", (why) => end(`disconnect: ${why}`));
  });
}

async function visits() {
  while (!ending) {
    await visit();
    await pause(10 * pausing);
  }
}

async function main() {
  for (let number = 0; number < each; number++) ["websocket", "polling"].forEach((kind) => hold(kind, number));
  const ready = await standing();
  const lanes = Array.from({ length: width }, () => [handshakes(), plain(), visits()]).flat();
  lag.enable();
  console.log(JSON.stringify({ ready, sessions: held.length }));
  for await (const _line of require("readline").createInterface({ input: process.stdin })) reloads++;
  ending = true;
  await Promise.all(lanes);
  result.seconds = (Date.now() - began) / 1000;
  result.standing = await standing();
  await finish();
  lag.disable();
  result.lag_ms = Math.round(lag.max / 1e6);
  await Promise.all(asking);
  const most = {};
  // Over WebSocket: of one over long-polling a request may have been lost a moment before.
  const moved = moves.filter(({ kind }) => kind === "websocket");
  for (const { session, reloads } of moved) most[`${session}, ${reloads}`] = (most[`${session}, ${reloads}`] || 0) + 1;
  result.moves = moves.length;
  result.most_moves = Math.max(0, ...Object.values(most));
  if (result.most_moves > 1) result.moved = moved.filter(({ session, reloads }) => most[`${session}, ${reloads}`] > 1);
  console.log(JSON.stringify(result));
  process.exit(0);
}

main();
