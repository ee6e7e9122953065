// Is the demo right? Real Socket.IO clients over every transport against a running one.
//
//   node check.js URL WORKERS
//
// Prints a line for each question, exits 0 when all answers are yes, else 1.

const { io } = require("socket.io-client");

const [url, wanted] = [process.argv[2], Number(process.argv[3])];
const LIMIT_MS = 60_000;
const TRANSPORTS = [["polling"], ["websocket"], ["polling", "websocket"]];
const clients = [];

async function main() {
  await page();
  await allWorkersAnswer();
  const each = Math.max(4, wanted);
  await connect(each);
  await workersAreUsed();
  await messagesCross();
  await peopleAreCounted();
  await strangersAreRefused();
}

async function page() {
  const response = await fetch(url);
  const text = await response.text();
  expect(response.status === 200 && text.includes("One chat, several processes"), `the page: status ${response.status}`);
  const script = await fetch(new URL("/socket.io/socket.io.js", url));
  const size = (await script.text()).length;
  expect(script.status === 200 && size > 10_000, `the page's script: status ${script.status}, ${size} characters`);
  said(`the page is served, by ${response.headers.get("x-served-by")}`);
}

// The app serves from its first worker on; here we wait for the last. Each visitor stays until all are found, so that
// the next one gets another worker.
async function allWorkersAnswer() {
  const visitors = [];
  const found = new Set();
  while (found.size < wanted) {
    if (over) throw new Error(`only the workers ${[...found]} answer within ${LIMIT_MS / 1000} s, not ${wanted}`);
    const visitor = io(url, { transports: ["websocket"], auth: { name: "visitor" }, forceNew: true, reconnection: false });
    visitors.push(visitor);
    const { worker } = await new Promise((resolve, reject) => {
      visitor.on("you", resolve);
      visitor.on("connect_error", reject);
    });
    if (found.has(worker.index)) await new Promise((resolve) => setTimeout(resolve, 50));
    found.add(worker.index);
  }
  for (const visitor of visitors) visitor.disconnect();
}

async function connect(each) {
  await Promise.all(TRANSPORTS.flatMap((transports) => Array.from({ length: each }, (_, number) => open(transports, number))));
  const kinds = TRANSPORTS.map((transports) => {
    const kind = transports.join("+");
    const now = new Set(clients.filter((client) => client.kind === kind).map(({ socket }) => socket.io.engine.transport.name));
    return `${each} by ${kind}${kind.includes("+") ? ` (now ${[...now].join(", ")})` : ""}`;
  });
  said(`${clients.length} clients are connected: ${kinds.join(", ")}`);
}

async function open(transports, number) {
  const kind = transports.join("+");
  const name = `${kind} ${number}`;
  const socket = io(url, { transports, auth: { name }, forceNew: true, reconnection: false });
  const client = { kind, name, socket, heard: [], people: [] };
  clients.push(client);
  socket.on("said", (message) => client.heard.push(message));
  socket.on("people", (people) => { client.people = people; });
  const failed = new Promise((_, reject) => {
    socket.on("connect_error", (error) => reject(new Error(`${name}: ${error.message} ${error.context?.responseText ?? ""}`)));
    socket.on("disconnect", (reason) => closing || reject(new Error(`${name} was disconnected: ${reason}`)));
  });
  failed.catch((error) => fail(error.message));
  const you = new Promise((resolve) => socket.on("you", resolve));
  client.worker = (await Promise.race([you, failed])).worker;
  if (kind === "polling+websocket" && socket.io.engine.transport.name !== "websocket") {
    await Promise.race([new Promise((resolve) => socket.io.engine.once("upgrade", resolve)), failed]);
  }
}

async function workersAreUsed() {
  const workers = new Map(clients.map(({ worker }) => [worker.index, worker.pid]));
  const numbers = [...workers.keys()].sort((a, b) => a - b);
  const expected = Array.from({ length: wanted }, (_, index) => index);
  expect(numbers.join() === expected.join(), `the clients are on the workers ${numbers}, not on ${expected}`);
  expect(new Set(workers.values()).size === wanted, "two workers have the same process");
  said(`all workers serve: ${numbers.map((index) => `${index} (pid ${workers.get(index)})`).join(", ")}`);
}

async function messagesCross() {
  for (const { socket, name } of clients) socket.emit("say", `this is ${name}`);
  await until("every client hears every client", () => clients.every(({ heard }) => heard.length >= clients.length));
  // Whatever would come twice comes now.
  await Promise.all(clients.map(({ socket }) => socket.timeout(10_000).emitWithAck("say", "")));
  for (const { heard, name } of clients) {
    const texts = heard.map(({ text }) => text).sort();
    const expected = clients.map((client) => `this is ${client.name}`).sort();
    expect(texts.join("\n") === expected.join("\n"), `${name} heard ${texts.length} messages instead of each of ${expected.length} once`);
  }
  const crossed = clients.flatMap(({ heard, worker }) => heard.filter((message) => message.worker.pid !== worker.pid)).length;
  expect(wanted === 1 || crossed > 0, "no message came from another worker");
  said(`every client hears every client exactly once; ${crossed} of ${clients.length ** 2} messages came from another worker`);
}

async function peopleAreCounted() {
  const expected = clients.map(({ name, worker }) => `${worker.index} ${worker.pid} ${name}`).sort().join("\n");
  const seen = ({ people }) => people.flatMap(({ index, pid, names }) => names.map((name) => `${index} ${pid} ${name}`)).sort().join("\n");
  await until("every client knows who is where", () => clients.every((client) => seen(client) === expected),
    () => `expected\n${expected}\nbut the first one knows\n${seen(clients[0])}`);
  said(`every client knows which of the ${clients.length} is on which worker`);
}

async function strangersAreRefused() {
  const target = new URL("/socket.io/?EIO=4&transport=polling", url);
  const response = await fetch(target, { headers: { origin: "http://elsewhere.example" } });
  expect(response.status === 403, `a request of another site: status ${response.status}`);
  said("a request that another site's page makes is refused");
}

async function until(what, done, story = () => "") {
  while (!done()) {
    if (over) throw new Error(`not within ${LIMIT_MS / 1000} s: ${what}\n${story()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function expect(truth, otherwise) {
  if (!truth) throw new Error(otherwise);
}

function said(line) {
  console.log(`  yes: ${line}`);
}

let over = false;
let closing = false;
function fail(reason) {
  if (closing) return;
  closing = true;
  console.log(`  NO: ${reason}`);
  process.exit(1);
}

setTimeout(() => { over = true; }, LIMIT_MS).unref();
setTimeout(() => fail(`no end within ${LIMIT_MS / 1000 + 5} s`), LIMIT_MS + 5000).unref();
main().then(() => {
  closing = true;
  process.exit(0);
}, (error) => fail(error.message));
