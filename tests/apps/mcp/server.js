// An MCP server over Streamable HTTP with sessions of its own, in the memory of the worker that opened them.
const { randomUUID } = require("crypto");
const { createServer } = require("http");
const { McpServer } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { z } = require("zod");

const sessions = new Map();
const worker = process.env.NODE_APP_INSTANCE;

const text = (value) => ({ content: [{ type: "text", text: value }] });

function open() {
  const notes = [];
  const server = new McpServer({ name: "notes", version: "1.0.0" }, { capabilities: { logging: {} } });
  const log = (data) => server.server.sendLoggingMessage({ level: "info", data });
  server.registerTool("note", { description: "Remembers a text", inputSchema: { text: z.string() } }, async ({ text: it }) => {
    notes.push(it);
    // Not part of an answer: it comes by the client's own stream.
    await log(`noted ${it}`);
    return text(worker);
  });
  server.registerTool("notes", { description: "All of them" }, async () => text(JSON.stringify(notes)));
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => void sessions.set(id, transport),
    onsessionclosed: (id) => void sessions.delete(id),
  });
  return server.connect(transport).then(() => transport);
}

async function serve(request, response) {
  const id = request.headers["mcp-session-id"];
  const transport = id ? sessions.get(id) : await open();
  if (transport) return transport.handleRequest(request, response);
  response.writeHead(404, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ jsonrpc: "2.0", error: { code: -32001, message: "Session not found" }, id: null }));
}

createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    response.destroy();
  });
}).listen(3000);
