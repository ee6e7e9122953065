// What the tests ask of a worker: events for its sockets and a few plain HTTP routes.
const { createHash } = require("crypto");
const cluster = require("cluster");

const who = () => ({
  pid: process.pid,
  version: process.env.VERSION,
  index: process.env.NODE_APP_INSTANCE,
  id: cluster.worker && cluster.worker.id,
});

const asError = (error) => error && String(error.message || error);

exports.events = (io) => {
  // Which process has a session, for those who speak HTTP only.
  io.engine.on("headers", (headers) => (headers["x-worker"] = process.pid));
  io.on("connection", (socket) => {
    socket.on("who", (done) => done(who()));
    // To everybody, on every worker.
    socket.on("all", (...args) => io.emit("all", ...args));
    socket.on("echo", (value, done) => done(value));
    // An echo whose order can be seen.
    socket.on("say", (number) => socket.emit("said", number));
    socket.on("join", (room, done) => {
      socket.join(room);
      done();
    });
    socket.on("room", (room, ...args) => io.to(room).emit("room", ...args));
    socket.on("fetchSockets", (done) => {
      io.fetchSockets().then(
        (sockets) => done(null, sockets.map((one) => one.id)),
        (error) => done(asError(error)),
      );
    });
    // The sum that every other worker makes.
    socket.on("serverSideEmit", (number, done) => {
      io.serverSideEmit("add", number, (error, answers) => done(asError(error), answers));
    });
    // What every client answers to the event "ask".
    socket.on("broadcastAck", (limit, done) => {
      io.timeout(limit).emit("ask", (error, answers) => done(asError(error), answers));
    });
    socket.on("block", (milliseconds) => {
      const end = Date.now() + milliseconds;
      while (Date.now() < end);
    });
    socket.on("exit", (code) => process.exit(code));
  });
  io.on("add", (number, done) => done(number + 1));
};

// For requests that Engine.IO does not take.
exports.request = (req, res) => {
  const url = new URL(req.url, "http://host");
  if (url.pathname === "/hash") {
    const hash = createHash("sha256");
    let length = 0;
    req.on("data", (chunk) => {
      hash.update(chunk);
      length += chunk.length;
    });
    req.on("end", () => res.end(`${length} ${hash.digest("hex")}\n`));
  } else if (url.pathname === "/big") {
    res.end(Buffer.alloc(Number(url.searchParams.get("bytes")), "x"));
  } else if (url.pathname === "/path") {
    res.end(`${url.searchParams.get("n")}\n`);
  } else if (url.pathname === "/slow") {
    setTimeout(() => res.end(`${url.searchParams.get("n")}\n`), Number(url.searchParams.get("ms")));
  } else if (url.pathname === "/who") {
    res.end(JSON.stringify(who()));
  } else {
    res.statusCode = 404;
    res.end("no such path\n");
  }
};
