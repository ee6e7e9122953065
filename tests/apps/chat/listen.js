// The same for those who never heard of sticky: a plain server that listens, with the tests' events and routes.
const { createServer } = require("http");
const { Server } = require("socket.io");
const handlers = require("./handlers");

const httpServer = createServer(handlers.request);
const io = new Server(httpServer, { maxHttpBufferSize: 1e8, allowEIO3: Boolean(process.env.EIO3) });

if (process.env.ADAPTER) io.adapter(require("@socket.io/cluster-adapter").createAdapter());

handlers.events(io);
httpServer.listen(3000);
