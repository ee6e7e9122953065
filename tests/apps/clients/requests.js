// Plain HTTP requests, each on a connection of its own.
//
//   node requests.js URL [--count N] [--width N]
//
// Prints one line of JSON: how many had which answer (status and start of the body, or the error).
const http = require("http");

const [url, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const count = option("--count", 300);
const width = option("--width", 1);

const result = { answers: {}, slowest_seconds: 0 };

function request() {
  return new Promise((resolve) => {
    const started = Date.now();
    const done = (answer) => {
      result.answers[answer] = (result.answers[answer] || 0) + 1;
      result.slowest_seconds = Math.max(result.slowest_seconds, (Date.now() - started) / 1000);
      resolve();
    };
    const req = http.get(url, { agent: false, timeout: 120_000 }, (res) => {
      let body = "";
      res.setEncoding("utf8");
      res.on("data", (text) => (body += text));
      res.on("error", (error) => done(`body: ${error.code || error.message}`));
      res.on("end", () => done(`${res.statusCode} ${body.slice(0, 100)}`));
    });
    req.on("timeout", () => req.destroy(new Error("timeout")));
    req.on("error", (error) => done(error.code || error.message));
  });
}

async function main() {
  const started = Date.now();
  let next = 0;
  const lane = async () => {
    while (next++ < count) await request();
  };
  await Promise.all(Array.from({ length: width }, lane));
  result.seconds = (Date.now() - started) / 1000;
  console.log(JSON.stringify(result));
}

main();
