// For `node --require`: @socket.io/pm2 opens its port on all addresses and has no option for it; a benchmark has no
// business there. Nothing else changes.
const { Server } = require("net");

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  const open = (typeof port === "number" || /^\d+$/.test(port)) && typeof rest[0] !== "string";
  return open ? listen.call(this, Number(port), "127.0.0.1", ...rest) : listen.call(this, port, ...rest);
};
