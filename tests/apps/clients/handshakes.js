// Opens Socket.IO sessions over long-polling, by hand, as fast as it goes: GET handshake, POST connect, GET poll.
// The POST leaves the instant that the handshake's body is there: that is the race in which a router may not know the
// session yet.
//
//   node handshakes.js HOST PORT [--count N] [--width N]
//
// HOST may be a list with commas, one is taken after the other. Prints one line of JSON.
const net = require("net");

const [hosts, port, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const count = option("--count", 20_000);
const width = option("--width", 100);
const names = hosts.split(",");
const path = "/socket.io/?EIO=4&transport=polling";

const result = { sessions: 0, unknown: 0, failed: 0, errors: [] };
const note = (text) => result.errors.length < 10 && result.errors.push(text);

// One request on a connection of its own; the answer's status and body as soon as they are whole.
function request(number, method, target, body = "") {
  return new Promise((resolve) => {
    const host = names[number % names.length];
    const socket = net.connect(Number(port), host);
    socket.setNoDelay();
    let text = "";
    let answered = false;
    const answer = (status, body) => {
      if (answered) return;
      answered = true;
      resolve({ status, body });
      socket.destroy();
    };
    socket.setTimeout(60_000, () => answer(0, "timeout"));
    socket.on("error", (error) => answer(0, String(error)));
    socket.on("close", () => {
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) answer(0, `closed after ${JSON.stringify(text.slice(0, 80))}`);
      else answer(Number(text.slice(9, 12)), text.slice(end + 4));
    });
    socket.on("data", (data) => {
      text += data.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end + 2));
      const body = text.slice(end + 4);
      if (length && body.length >= Number(length[1])) answer(Number(text.slice(9, 12)), body);
    });
    const type = body ? `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\n` : "";
    socket.write(`${method} ${target} HTTP/1.1\r\nHost: ${host}:${port}\r\n${type}\r\n${body}`);
  });
}

async function session(number) {
  const steps = async () => {
    const open = await request(number, "GET", path);
    const sid = open.status === 200 && /"sid":"([^"]+)"/.exec(open.body);
    if (!sid) return ["handshake", open];
    const posted = await request(number, "POST", `${path}&sid=${sid[1]}`, "40");
    if (posted.status !== 200 || posted.body !== "ok") return ["connect", posted];
    const polled = await request(number, "GET", `${path}&sid=${sid[1]}`);
    if (polled.status !== 200 || !polled.body.startsWith('40{"sid"')) return ["poll", polled];
    return null;
  };
  const wrong = await steps();
  if (!wrong) return void result.sessions++;
  const [step, { status, body }] = wrong;
  if (body.includes("Session ID unknown")) result.unknown++;
  else result.failed++;
  note(`${step}: ${status} ${body.slice(0, 200)}`);
}

async function main() {
  const started = Date.now();
  let next = 0;
  const lane = async () => {
    while (next < count) await session(next++);
  };
  await Promise.all(Array.from({ length: width }, lane));
  result.seconds = (Date.now() - started) / 1000;
  console.log(JSON.stringify(result));
}

main();
