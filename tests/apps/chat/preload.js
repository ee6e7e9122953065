// For `node --require`: gives the same events and routes to an app that stays as it is, such as the seeds' worker.js.
const Module = require("module");
const handlers = require("./handlers");

const socketio = Module.createRequire(`${process.cwd()}/`)("socket.io");
const { Server } = socketio;

socketio.Server = class extends Server {
  constructor(httpServer, options) {
    httpServer.on("request", handlers.request);
    super(httpServer, { maxHttpBufferSize: 1e8, ...options });
    handlers.events(this);
  }
};
