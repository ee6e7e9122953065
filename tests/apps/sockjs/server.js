// A SockJS server: what it remembers of a session is in the memory of one worker.
const { createServer } = require("http");
const sockjs = require("sockjs");

const service = sockjs.createServer({ log: () => {} });
service.on("connection", (connection) => {
  let count = 0;
  connection.on("data", (text) => {
    count++;
    connection.write(JSON.stringify({ worker: process.env.NODE_APP_INSTANCE, count, text }));
  });
});

const server = createServer((request, response) => response.end(process.env.NODE_APP_INSTANCE));
service.installHandlers(server, { prefix: "/echo" });
server.listen(3000);
