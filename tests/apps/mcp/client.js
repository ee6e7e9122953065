// Opens sessions of MCP over Streamable HTTP, lets each take notes, and tells what came back.
//
//   node client.js URL [--sessions N] [--rounds N] [--hold]
//
// Prints one line of JSON. With --hold it prints {"open":N} first and takes the second half of the notes when it reads a line;
// what is not an answer is not waited for then: nobody sends it again after a stream broke.
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
const { LoggingMessageNotificationSchema } = require("@modelcontextprotocol/sdk/types.js");

const [url, ...flags] = process.argv.slice(2);
const option = (name, other) => (flags.includes(name) ? Number(flags[flags.indexOf(name) + 1]) : other);
const count = option("--sessions", 50);
const rounds = option("--rounds", 4);
const holds = flags.includes("--hold");
const PATIENCE = 60_000;

const result = { sessions: 0, workers: {}, moved: 0, lost: 0, heard: 0, closed: 0, errors: [] };
const note = (text) => result.errors.length < 10 && result.errors.push(text);

async function open(number) {
  const session = { number, said: [], heard: new Set(), workers: new Set() };
  session.client = new Client({ name: `client ${number}`, version: "1.0.0" });
  let streams;
  const streaming = new Promise((go) => (streams = go));
  const asked = async (input, init) => {
    const answer = fetch(input, init);
    if (init?.method === "GET") streams(answer.catch((error) => ({ ok: false, status: String(error) })));
    return answer;
  };
  session.transport = new StreamableHTTPClientTransport(new URL(url), { fetch: asked });
  session.client.onerror = (error) => note(String(error));
  session.client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void session.heard.add(params.data));
  await session.client.connect(session.transport);
  // The client does not wait for its own stream, and what is logged before there is one is not sent.
  if (!(await streaming).ok) note(`no stream: ${(await streaming).status}`);
  result.sessions++;
  return session;
}

const call = (session, name, args) =>
  session.client.callTool({ name, arguments: args }).then((answer) => answer.content[0].text);

async function take(session, from, to) {
  for (let round = from; round < to; round++) {
    const text = `${session.number}/${round}`;
    session.workers.add(await call(session, "note", { text }));
    session.said.push(text);
  }
}

async function close(session) {
  if ((await call(session, "notes", {})) !== JSON.stringify(session.said)) result.lost++;
  const until = Date.now() + PATIENCE;
  while (!holds && session.heard.size < session.said.length && Date.now() < until) await new Promise((go) => setTimeout(go, 20));
  if (session.said.every((text) => session.heard.has(`noted ${text}`))) result.heard++;
  for (const worker of session.workers) result.workers[worker] = (result.workers[worker] || 0) + 1;
  if (session.workers.size !== 1) result.moved++;
  session.client.onerror = () => {};
  await session.transport.terminateSession();
  // It is over: its worker says so.
  const answer = await fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-session-id": session.id,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" }),
  });
  await answer.text();
  if (answer.status === 404) result.closed++;
  await session.client.close();
}

(async () => {
  const sessions = await Promise.all(Array.from({ length: count }, (_, number) => open(number)));
  for (const session of sessions) session.id = session.transport.sessionId;
  const half = rounds >> 1;
  await Promise.all(sessions.map((session) => take(session, 0, half)));
  if (holds) {
    console.log(JSON.stringify({ open: sessions.length }));
    await new Promise((resolve) => process.stdin.once("data", resolve));
    // Whoever spreads them anew spreads them in another way.
    sessions.reverse();
  }
  await Promise.all(sessions.map((session) => take(session, half, rounds)));
  await Promise.all(sessions.map(close));
  console.log(JSON.stringify(result));
  process.exit(0);
})().catch((error) => {
  note(String(error));
  console.log(JSON.stringify(result));
  process.exit(1);
});
