// Opens SockJS sessions over the fallbacks that need many requests each, as browsers do, and counts what comes back.
//
//   node client.js URL [--each N] [--cookies]
//
// Each session has an address of its own (127.0.1.N) or, with --cookies, a browser's cookies. Prints one line of JSON.
const { AsyncLocalStorage } = require("async_hooks");
const http = require("http");
const SockJS = require("sockjs-client");

const [url, ...flags] = process.argv.slice(2);
const each = flags.includes("--each") ? Number(flags[flags.indexOf("--each") + 1]) : 15;
const MESSAGES = 6;
const PATIENCE = 60_000;

const result = { opened: 0, echoed: 0, workers: {}, moved: 0, errors: [] };
const note = (text) => result.errors.length < 10 && result.errors.push(text);

// In Node the client has neither cookies, nor connections of its own, nor an address of its choice.
const browser = new AsyncLocalStorage();
const { request } = http;
http.request = (options, ...rest) => {
  const self = browser.getStore();
  if (!self) return request(options, ...rest);
  options = { ...options, headers: { ...options.headers }, agent: self.agent };
  if (!flags.includes("--cookies")) options.localAddress = self.address;
  else if (self.cookies.size) options.headers.Cookie = [...self.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  const asked = request(options, ...rest);
  asked.prependListener("response", (response) => {
    for (const line of response.headers["set-cookie"] || []) {
      const [name, value] = line.split(";")[0].split("=");
      self.cookies.set(name, value);
    }
  });
  return asked;
};

function session(number, transport) {
  const self = { address: `127.0.1.${(number % 250) + 1}`, cookies: new Map(), agent: new http.Agent({ keepAlive: true }) };
  return browser.run(self, () =>
    new Promise((resolve) => {
      const workers = new Set();
      let said = 0;
      const socket = new SockJS(`${url}/echo`, null, { transports: [transport], timeout: PATIENCE });
      const late = setTimeout(() => (note(`${transport} ${number}: late after ${said}`), socket.close()), PATIENCE);
      socket.onopen = () => {
        result.opened++;
        socket.send("0");
      };
      socket.onmessage = ({ data }) => {
        const { worker, count, text } = JSON.parse(data);
        workers.add(worker);
        said++;
        if (count !== said || text !== String(said - 1)) note(`${transport} ${number}: ${data}`);
        if (said < MESSAGES) return socket.send(String(said));
        result.echoed++;
        socket.close(1000);
      };
      socket.onclose = ({ code, reason }) => {
        clearTimeout(late);
        if (code !== 1000) note(`${transport} ${number}: ${code} ${reason}`);
        for (const worker of workers) result.workers[worker] = (result.workers[worker] || 0) + 1;
        if (workers.size > 1) result.moved++;
        resolve();
      };
    }),
  );
}

const transports = ["xhr-streaming", "xhr-polling"];
const all = transports.flatMap((transport, kind) => Array.from({ length: each }, (_, n) => session(kind * each + n, transport)));
Promise.all(all).then(() => {
  console.log(JSON.stringify(result));
  process.exit(0);
});
