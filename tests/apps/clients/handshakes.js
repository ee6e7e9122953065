// Opens Socket.IO sessions over long-polling, by hand, as fast as it goes.
//
//   node handshakes.js HOST PORT [--count N] [--width N]
//
// HOST may be a list with commas, one is taken after the other. Prints one line of JSON.
const { request, handshake } = require("./raw");

const [hosts, port, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const count = option("--count", 20_000);
const width = option("--width", 100);
const names = hosts.split(",");

const result = { sessions: 0, unknown: 0, failed: 0, errors: [] };
const note = (text) => result.errors.length < 10 && result.errors.push(text);

async function session(number) {
  const wrong = await handshake((...what) => request(names[number % names.length], port, ...what));
  if (!wrong) return void result.sessions++;
  const { step, status, body } = wrong;
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
