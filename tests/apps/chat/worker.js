// The seeds' worker with the events that the tests need. PAIR=old takes the older releases of the two packages.
const { createServer } = require("http");
const { Server } = require("socket.io");
const old = process.env.PAIR === "old";
const { createAdapter } = require(old ? "cluster-adapter-0.2" : "@socket.io/cluster-adapter");
const { setupWorker } = require(old ? "sticky-1" : "@socket.io/sticky");
const handlers = require("./handlers");

const httpServer = createServer(handlers.request);
const io = new Server(httpServer, { maxHttpBufferSize: 1e8 });

io.adapter(createAdapter());

setupWorker(io);

handlers.events(io);

// What a careful app does: ends its sessions in order, answers what is in flight, then goes.
if (process.env.GRACEFUL) {
  process.on("SIGTERM", () => io.close(() => process.exit(0)));
}

io.on("connection", (socket) => {
  console.log(`connect ${socket.id}`);
});
