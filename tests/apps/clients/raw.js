// HTTP by hand on plain sockets: as fast as it goes, each request on a connection of its own.
const net = require("net");

// The answer's status, headers and body as soon as they are whole. Status 0: there was none, and `body` says why.
exports.request = (host, port, method, target, body = "") =>
  new Promise((resolve) => {
    const socket = net.connect(Number(port), host);
    socket.setNoDelay();
    let text = "";
    let answered = false;
    const answer = (status, body, head = "") => {
      if (answered) return;
      answered = true;
      resolve({ status, body, head });
      socket.destroy();
    };
    const whole = (end) => answer(Number(text.slice(9, 12)), text.slice(end + 4), text.slice(0, end + 2));
    socket.setTimeout(60_000, () => answer(0, "timeout"));
    socket.on("error", (error) => answer(0, String(error)));
    socket.on("close", () => {
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) answer(0, `closed after ${JSON.stringify(text.slice(0, 80))}`);
      else whole(end);
    });
    socket.on("data", (data) => {
      text += data.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end + 2));
      if (length && text.length - end - 4 >= Number(length[1])) whole(end);
    });
    const type = body ? `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\n` : "";
    socket.write(`${method} ${target} HTTP/1.1\r\nHost: ${host}:${port}\r\n${type}\r\n${body}`);
  });

exports.header = (head, name) => (new RegExp(`\r\n${name}: *([^\r]*)`, "i").exec(head) || [])[1];

const PATH = "/socket.io/?EIO=4&transport=polling";

// A Socket.IO session over long-polling: GET handshake, POST connect, GET poll. The POST leaves the instant that the
// handshake's body is there: that is the race in which a router may not know the session yet.
// With `close`, a second POST ends the session; else it lives until the server misses its pongs.
// Gives what was wrong, if anything: {step, status, body, worker}; `worker`: the header x-worker of the handshake's answer.
exports.handshake = async (request, close = false) => {
  const open = await request("GET", PATH);
  const worker = exports.header(open.head, "x-worker");
  const sid = open.status === 200 && /"sid":"([^"]+)"/.exec(open.body);
  if (!sid) return { step: "handshake", worker, ...open };
  const posted = await request("POST", `${PATH}&sid=${sid[1]}`, "40");
  if (posted.status !== 200 || posted.body !== "ok") return { step: "connect", ...posted, worker };
  const polled = await request("GET", `${PATH}&sid=${sid[1]}`);
  if (polled.status !== 200 || !polled.body.startsWith('40{"sid"')) return { step: "poll", ...polled, worker };
  if (!close) return null;
  const closed = await request("POST", `${PATH}&sid=${sid[1]}`, "1");
  return closed.status === 200 ? null : { step: "close", ...closed, worker };
};
