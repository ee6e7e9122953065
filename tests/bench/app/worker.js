// The one worker of every peer. What differs is how clients reach it:
//
//   MODE=plain      an HTTP server that says hello; else a Socket.IO app
//   STICKY=1|2      gets its connections from a sticky primary: @socket.io/sticky 1.0.4 or 2.0.1; else it listens itself
//   ADAPTER=cluster|redis   how broadcasts reach the other workers; else not at all
//   PORT, REDIS_PORT        on loopback
const { createServer } = require("http");

const hello = `hello from ${process.pid}\n`;
const server = createServer((req, res) => {
  res.setHeader("Content-Type", "text/plain");
  res.setHeader("Content-Length", hello.length);
  res.end(hello);
});
const listen = () => server.listen(Number(process.env.PORT), "127.0.0.1", 4096);

async function main() {
  if (process.env.MODE === "plain") return listen();
  const { Server } = require("socket.io");
  // No ping falls into a measurement.
  const io = new Server(server, { serveClient: false, pingInterval: 300_000, perMessageDeflate: false });
  if (process.env.ADAPTER === "cluster") {
    io.adapter(require("@socket.io/cluster-adapter").createAdapter());
  } else if (process.env.ADAPTER === "redis") {
    const publisher = require("redis").createClient({ socket: { host: "127.0.0.1", port: Number(process.env.REDIS_PORT) } });
    const subscriber = publisher.duplicate();
    await Promise.all([publisher.connect(), subscriber.connect()]);
    io.adapter(require("@socket.io/redis-adapter").createAdapter(publisher, subscriber));
  }
  io.on("connection", (socket) => {
    socket.on("who", (done) => done(process.pid));
    socket.on("echo", (text, done) => done(text));
    // To everybody, on every worker.
    socket.on("all", (number, text) => io.emit("all", number, text));
  });
  if (process.env.STICKY === "1") require("sticky-1").setupWorker(io);
  else if (process.env.STICKY === "2") require("@socket.io/sticky").setupWorker(io);
  else listen();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
