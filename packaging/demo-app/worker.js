// One worker of the demo. The cluster is made by the six lines below that name `io`, as in Socket.IO's documentation;
// nothing in here knows about appctl.

const { readFileSync } = require("fs");
const { createServer } = require("http");
const { join } = require("path");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/cluster-adapter");
const { setupWorker } = require("@socket.io/sticky");

const httpServer = createServer(page);
const io = new Server(httpServer, { allowRequest: sameOrigin });

io.adapter(createAdapter());

setupWorker(io);

const me = { index: Number(process.env.NODE_APP_INSTANCE ?? 0), pid: process.pid };
const LONGEST_NAME = 24;
const LONGEST_TEXT = 500;
const MESSAGES_A_SECOND = 10;

io.on("connection", (socket) => {
  const name = clean(socket.handshake.auth.name, LONGEST_NAME) || "somebody";
  socket.data.name = name;
  console.log(`${name} connects (${socket.conn.transport.name}) ${socket.id}`);
  socket.emit("you", { worker: me, name, mayCrash: isLocal(socket) });
  tellPeople();

  let second = 0;
  let sent = 0;
  socket.on("say", (text, done) => {
    const now = Math.floor(Date.now() / 1000);
    sent = now === second ? sent + 1 : 1;
    second = now;
    text = clean(text, LONGEST_TEXT);
    const accepted = text !== "" && sent <= MESSAGES_A_SECOND;
    if (accepted) {
      // To everybody, on whichever worker they are.
      io.emit("said", { name, text, worker: me, from: socket.id });
    }
    if (typeof done === "function") done(accepted);
  });

  // What a bug would do. Only for visitors on the machine itself.
  socket.on("crash", () => {
    if (!isLocal(socket)) return;
    console.error(`${name} crashes this worker`);
    process.exit(1);
  });

  socket.on("disconnect", (reason) => {
    console.log(`${name} leaves (${reason}) ${socket.id}`);
    tellPeople();
  });
});

// Who is where, asked of all workers and told to everybody. At most once in 100 ms.
let timer;
function tellPeople() {
  timer ??= setTimeout(async () => {
    timer = undefined;
    // A worker that died a moment ago does not answer: then the others' answers have to do.
    const others = await io.serverSideEmitWithAck("who").catch(({ responses }) => responses ?? []);
    io.emit("people", [here(), ...others]);
  }, 100);
}

io.on("who", (answer) => answer(here()));

function here() {
  return { ...me, names: Array.from(io.of("/").sockets.values(), ({ data }) => data.name).filter(Boolean) };
}

tellPeople();

function page(request, response) {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname !== "/" || !["GET", "HEAD"].includes(request.method)) {
    response.writeHead(404, { "content-type": "text/plain" }).end("Not found\n");
    return;
  }
  response.writeHead(200, {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:",
    "x-served-by": `worker ${me.index} (pid ${me.pid})`,
  });
  response.end(request.method === "HEAD" ? undefined : html);
}

const html = readFileSync(join(__dirname, "index.html"));

// No other site may talk to the demo through its visitors' browsers.
function sameOrigin(request, callback) {
  const { origin, host } = request.headers;
  let accepted = true;
  if (origin !== undefined) {
    try {
      accepted = new URL(origin).host === host;
    } catch {
      accepted = false;
    }
  }
  callback(accepted ? null : "another site", accepted);
}

function isLocal(socket) {
  return ["127.0.0.1", "::1", "::ffff:127.0.0.1"].includes(socket.handshake.address);
}

function clean(text, longest) {
  return typeof text === "string" ? text.replace(/\p{C}/gu, " ").trim().slice(0, longest) : "";
}
