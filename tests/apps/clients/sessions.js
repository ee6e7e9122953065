// Opens Socket.IO sessions over every transport, lets each emit once to all, and counts what arrives where.
//
//   node sessions.js URL [--each N] [--text] [--megabyte] [--connect-only] [--hold]
//
// Every eighth packet carries Buffers; none with --text. Prints one line of JSON. With --hold it prints {"connected":…} first, and goes on when it reads a line.
const { createHash } = require("crypto");
const { io } = require("socket.io-client");

const [url, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const each = option("--each", 200);
const transports = {
  polling: ["polling"],
  websocket: ["websocket"],
  upgrade: ["polling", "websocket"],
};
// Once nothing has come for so long, the rest is missing.
const PATIENCE = 60_000;

const result = { connected: {}, upgraded: 0, errors: [], disconnects: 0, events: 0, missing: 0, duplicates: 0, corrupted: 0 };
const note = (text) => result.errors.length < 10 && result.errors.push(text);

// Bytes that anybody can make again from the number of the sender.
const bytes = (number, length) => {
  const all = [];
  for (let i = 0; all.length * 32 < length; i++) all.push(createHash("sha256").update(`${number}/${i}`).digest());
  return Buffer.concat(all).subarray(0, length);
};

// Every eighth sender's packet carries Buffers, one of them nested.
const packet = (number) =>
  number % 8 === 0 && !flags.includes("--text") ? { number, binary: bytes(number, 300), nested: { list: [1, { deep: bytes(number + 1, 40) }] } } : { number };

const intact = (value) => {
  const wanted = packet(value.number);
  if (!wanted.binary) return value.binary === undefined;
  return (
    Buffer.isBuffer(value.binary) &&
    wanted.binary.equals(value.binary) &&
    Buffer.isBuffer(value.nested.list[1].deep) &&
    wanted.nested.list[1].deep.equals(value.nested.list[1].deep)
  );
};

function connect(kind) {
  return new Promise((resolve) => {
    const socket = io(url, { transports: transports[kind], forceNew: true, reconnection: false, timeout: 60_000, rejectUnauthorized: false });
    const session = { kind, socket };
    let settled = false;
    const settle = () => {
      if (settled) return;
      settled = true;
      resolve(session);
    };
    socket.on("connect", () => {
      result.connected[kind] = (result.connected[kind] || 0) + 1;
      if (kind !== "upgrade") return settle();
      const upgraded = () => {
        result.upgraded++;
        settle();
      };
      if (socket.io.engine.transport.name === "websocket") return upgraded();
      socket.io.engine.on("upgrade", upgraded);
      socket.io.engine.on("upgradeError", (error) => {
        note(`${kind}: upgrade: ${error}`);
        settle();
      });
    });
    socket.on("connect_error", (error) => {
      const context = error.context && (error.context.responseText || error.context.statusCode || error.context.status);
      note(`${kind}: connect: ${error.message} ${error.description || ""} ${context || ""}`);
      settle();
    });
    socket.on("disconnect", (reason) => {
      if (result.closing) return;
      result.disconnects++;
      note(`${kind}: disconnect: ${reason}`);
    });
  });
}

// As many at a time as `width`.
async function many(list, width, work) {
  const out = new Array(list.length);
  let next = 0;
  const lane = async () => {
    while (next < list.length) {
      const i = next++;
      out[i] = await work(list[i], i);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return out;
}

// The arguments of the acknowledgement; none if it does not come.
const ask = (socket, ...args) =>
  new Promise((resolve) => {
    socket.timeout(PATIENCE).emit(...args, (error, ...answer) => {
      if (error) note(`${args[0]}: no acknowledgement`);
      resolve(error ? [] : answer);
    });
  });

async function main() {
  const kinds = Array.from({ length: each * 3 }, (_, i) => Object.keys(transports)[i % 3]);
  const started = Date.now();
  const sessions = await many(kinds, 60, connect);
  result.connect_seconds = (Date.now() - started) / 1000;
  if (flags.includes("--hold")) {
    console.log(JSON.stringify({ connected: result.connected }));
    await new Promise((resolve) => process.stdin.once("data", resolve));
  }
  if (!flags.includes("--connect-only")) await talk(sessions);
  result.closing = true;
  for (const { socket } of sessions) socket.disconnect();
  delete result.closing;
  console.log(JSON.stringify(result));
  process.exit(0);
}

async function talk(sessions) {
  const all = sessions.length;
  result.workers = {};
  for (const [who] of await many(sessions, 60, ({ socket }) => ask(socket, "who"))) {
    const key = who ? `${who.index}/${who.pid}` : "none";
    result.workers[key] = (result.workers[key] || 0) + 1;
  }

  let last = Date.now();
  const wanted = all * all;
  const done = new Promise((resolve) => {
    for (const session of sessions) {
      session.seen = new Uint16Array(all);
      session.socket.on("all", (value) => {
        last = Date.now();
        if (++session.seen[value.number] === 1) result.events++;
        else result.duplicates++;
        if (!intact(value)) result.corrupted++;
        if (result.events === wanted) resolve();
      });
      session.socket.on("ask", (answer) => answer(session.socket.id));
    }
    const timer = setInterval(() => {
      if (Date.now() - last > PATIENCE) resolve();
      if (result.events === wanted) clearInterval(timer);
    }, 1000);
  });
  const started = Date.now();
  for (const [number, { socket }] of sessions.entries()) {
    socket.emit("all", packet(number));
    if (number % 20 === 19) await new Promise(setImmediate);
  }
  await done;
  result.emit_seconds = (Date.now() - started) / 1000;
  // Every session has everything: what still comes is a duplicate. An echo on each session pushes it out.
  await many(sessions, 60, async ({ socket, kind }, number) => {
    const [back] = await ask(socket, "echo", packet(number * 8));
    if (!back || !intact(back)) note(`${kind}: echo`);
  });
  result.missing = wanted - result.events;

  // A megabyte each way, as text and as bytes. (Not by default: Deno 2.9's own server gets stuck in it.)
  for (const { socket, kind } of flags.includes("--megabyte") ? sessions.slice(0, 3) : []) {
    for (const message of ["m".repeat(1 << 20), bytes(7, 1 << 20)]) {
      const [back] = await ask(socket, "echo", message);
      if (!(Buffer.isBuffer(message) ? Buffer.isBuffer(back) && message.equals(back) : message === back)) {
        note(`${kind}: a megabyte`);
      }
    }
  }

  // One asker per transport: complete answers from every worker.
  for (const { socket, kind } of sessions.slice(0, 3)) {
    const [error, ids] = await ask(socket, "fetchSockets");
    if (error) note(`${kind}: fetchSockets: ${error}`);
    else result[`fetchSockets_${kind}`] = new Set(ids).size;
    const [failure, answers] = await ask(socket, "serverSideEmit", 41);
    if (failure) note(`${kind}: serverSideEmit: ${failure}`);
    else result[`serverSideEmit_${kind}`] = (answers || []).filter((answer) => answer === 42).length;
    const [late, acks] = await ask(socket, "broadcastAck", 60_000);
    if (late) note(`${kind}: broadcastAck: ${late}`);
    result[`broadcastAck_${kind}`] = acks ? new Set(acks).size : 0;
  }
}

// Whatever hangs, there is a report.
setTimeout(() => {
  note("the driver's own limit");
  console.log(JSON.stringify(result));
  process.exit(0);
}, 480_000).unref();

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
