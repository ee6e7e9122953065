// A real browser on a page, by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/).
//
//   browser.js URL [STEP…]      prints what the steps gave, a JSON array
//
// Steps: `size=WIDTHxHEIGHT`, `dark`, `press=KEY`, `picture=FILE`, `until=EXPRESSION` (waits until it is true, and gives its
// value), `give=EXPRESSION`.
const { spawn } = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");
const WebSocket = require("ws");

const [url, ...steps] = process.argv.slice(2);
const PATIENCE = 60_000;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "browser-"));
const browser = spawn("chromium", [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0", `--user-data-dir=${profile}`,
  "about:blank",
], { stdio: ["ignore", "ignore", "pipe"] });

const address = new Promise((resolve, reject) => {
  let said = "";
  browser.stderr.on("data", (data) => {
    said += data;
    const found = /DevTools listening on (ws:\S+)/.exec(said);
    if (found) resolve(found[1]);
  });
  browser.on("exit", (code) => reject(new Error(`chromium ended: ${code}\n${said}`)));
  browser.on("error", reject);
});

async function main() {
  const socket = new WebSocket(await address, { perMessageDeflate: false });
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  const waiting = new Map();
  let last = 0;
  let session;
  socket.on("message", (text) => {
    const { id, result, error } = JSON.parse(text);
    if (!waiting.has(id)) return;
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  });
  const call = (method, params = {}) => new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    socket.send(JSON.stringify({ id: last, method, params, sessionId: session }));
  });
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  session = (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description || exceptionDetails.text}`);
    return result.value;
  };
  const size = (width, height) => call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  await size(1280, 900);
  await call("Page.enable");
  await call("Page.navigate", { url });
  const gave = [];
  for (const step of steps) {
    const [, act, what] = /^(\w+)=?([^]*)$/.exec(step);
    if (act === "size") await size(...what.split("x").map(Number));
    else if (act === "dark") await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: "dark" }] });
    else if (act === "press") {
      for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key: what, code: what });
    } else if (act === "picture") {
      fs.writeFileSync(what, Buffer.from((await call("Page.captureScreenshot", { format: "png" })).data, "base64"));
    } else if (act === "until") {
      let value;
      for (const end = Date.now() + PATIENCE; !value; await pause(50)) {
        // While a page is on its way there is nothing to ask.
        value = await evaluate(what).catch(() => undefined);
        if (!value && Date.now() > end) throw new Error(`never ${what}:\n${await evaluate("document.documentElement.outerHTML")}`);
      }
      gave.push(value);
    } else if (act === "give") gave.push(await evaluate(what));
    else throw new Error(`no step ${step}`);
  }
  console.log(JSON.stringify(gave));
}

main().then(() => 0, (error) => (console.error(error), 1)).then((code) => {
  browser.removeAllListeners("exit");
  browser.on("exit", async () => {
    // Its children may still write there; what then stays is in a directory for what may go.
    await fs.promises.rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }).catch(() => {});
    process.exit(code);
  });
  browser.kill("SIGKILL");
});
