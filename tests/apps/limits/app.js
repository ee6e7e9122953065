// Does to its limits what it is asked to: GET /eat?n=200 takes so many MiB, /spin?n=4 the processor for so many seconds,
// /spawn?n=50 starts so many children, /open?n=500 opens so many files, /read reads the file FILE. Every answer tells which worker gave it.
const http = require("http");
const fs = require("fs");
const { spawn } = require("child_process");

const kept = [];

function spin(seconds) {
  const end = Date.now() + seconds * 1000;
  while (Date.now() < end);
}

function start(count) {
  let failed = 0;
  return Promise.all(
    Array.from({ length: count }, () => new Promise((resolve) => {
      const child = spawn("sleep", ["60"], { stdio: "ignore" });
      child.on("spawn", () => kept.push(child) && resolve());
      child.on("error", () => resolve(failed++));
    })),
  ).then(() => {
    kept.filter((it) => it.kill).forEach((child) => child.kill("SIGKILL"));
    return failed;
  });
}

function open(count) {
  const files = [];
  try {
    while (files.length < count) files.push(fs.openSync("/dev/null"));
  } catch (error) {
    return error.code;
  } finally {
    files.forEach((file) => fs.closeSync(file));
  }
  return "opened";
}

// Through a small buffer: what it costs is the kernel's page cache. Some file systems keep that while a file is open only.
function read(path) {
  const file = fs.openSync(path);
  const buffer = Buffer.alloc(1 << 16);
  let total = 0;
  for (let length; (length = fs.readSync(file, buffer)) > 0; ) total += length;
  return total;
}

if (process.env.LEAK) kept.push(Buffer.alloc(Number(process.env.LEAK) << 20, 1));

http
  .createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    const n = Number(searchParams.get("n"));
    const answer = (result) => {
      response.setHeader("Connection", "close");
      response.end(JSON.stringify({ pid: process.pid, version: process.env.VERSION, result }) + "\n");
    };
    switch (pathname) {
      case "/eat":
        kept.push(Buffer.alloc(n << 20, 1));
        return answer("eaten");
      case "/spin":
        answer("spinning");
        return setTimeout(spin, 100, n);
      case "/spawn":
        return start(n).then(answer);
      case "/read":
        return answer(read(process.env.FILE));
      case "/open":
        return answer(open(n));
      default:
        return answer(pathname);
    }
  })
  .listen(8080);
