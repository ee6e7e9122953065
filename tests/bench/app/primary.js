// The primary of Node's cluster as Socket.IO documents it (https://socket.io/docs/v4/cluster-adapter/).
//
//   WORKERS=N, PORT: on loopback. MODE=plain: Node's cluster alone, the workers listen.
const cluster = require("cluster");
const http = require("http");
const path = require("path");

cluster.setupPrimary({ exec: path.join(__dirname, "worker.js"), serialization: "advanced" });
if (process.env.MODE !== "plain") {
  const httpServer = http.createServer();
  require("@socket.io/sticky").setupMaster(httpServer, { loadBalancingMethod: "least-connection" });
  require("@socket.io/cluster-adapter").setupPrimary();
  httpServer.listen(Number(process.env.PORT), "127.0.0.1", 4096);
}
for (let i = 0; i < Number(process.env.WORKERS); i++) cluster.fork();
cluster.on("exit", (worker) => {
  console.error(`worker ${worker.process.pid} died`);
  process.exit(1);
});
