"use strict";

const HISTORY = 240;
// Between two looks.
const SECONDS = 2;
const LOG_LINES = 500;
const byId = (id) => document.getElementById(id);

let apps = [];
let chosen = null;
let log = null;
let lastError = { key: null, text: null };
const history = new Map();

const span = (seconds) => {
  const two = (big, bigUnit, small, smallUnit) => (small ? `${big}${bigUnit} ${small}${smallUnit}` : `${big}${bigUnit}`);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return two(Math.floor(seconds / 3600), "h", Math.floor(seconds / 60) % 60, "m");
  return two(Math.floor(seconds / 86400), "d", Math.floor(seconds / 3600) % 24, "h");
};
const size = (bytes) => {
  if (bytes < 1024) return `${bytes}B`;
  let unit = "B";
  for (const next of ["K", "M", "G", "T"]) {
    if (bytes < 1024) break;
    bytes /= 1024;
    unit = next;
  }
  return `${bytes.toFixed(1)}${unit}`;
};

// How the next scale above a value is found, so that it changes seldom and is easy to read.
const round = (value) => {
  for (let power = 1; ; power *= 10) for (const step of [1, 2, 5]) if (step * power >= value) return step * power;
};
const power = (value) => 2 ** Math.ceil(Math.log2(value));

// Title, value, how it is written; the least that a graph's height stands for, and how its scale is found.
const FIGURES = [
  ["CPU", (unit) => unit.cpu_percent, (value) => `${value.toFixed(1)}%`, 10, round],
  ["Memory", (unit) => unit.memory_bytes, size, 16 << 20, power],
  ["Lag", (unit) => unit.lag_ms, (value) => `${value.toFixed(1)} ms`, 10, round],
  ["Sessions", (unit) => unit.sessions, String, 10, round],
];
const shown = (value, write) => (value === null || value === undefined ? "–" : write(value));

const mood = (state) => {
  const word = state.split(" ")[0];
  if (["ready", "running"].includes(word)) return "good";
  if (["failed", "restarting", "file"].includes(word)) return "bad";
  return word === "stopped" ? "faint" : "middling";
};

const key = (app, unit) => `${app.scope} ${unit.unit}`;
// The workers by their indices; one that is being replaced stands below the new one.
const inOrder = (workers) => {
  const known = (id) => id !== null && id !== undefined;
  const place = (unit) => {
    const heir = workers.find((it) => known(it.id) && it.index === unit.index && known(unit.index));
    return known(unit.id) ? unit.id : heir ? heir.id + 0.5 : Infinity;
  };
  return [...workers].sort((one, other) => (place(one) < place(other) ? -1 : place(one) > place(other) ? 1 : 0));
};
// The router of an app without addresses is no news where there is one worker, whose row says it all.
const isIdle = (app) =>
  !app.error && !app.listen.length && !app.listen_wanted && ["running", "reloading", "stopped"].includes(app.router.state) && app.workers.length === 1;
const rowsOf = () =>
  apps.flatMap((app) =>
    [...(isIdle(app) ? [] : [app.router]), ...inOrder(app.workers)].map((unit) => ({ app, unit, key: key(app, unit) })),
  );
const isBroken = (app, unit) => app.error && !unit.slot && !unit.pid;
const stateOf = (app, unit) => (isBroken(app, unit) ? "file has errors" : unit.state || "stopped");
const restartsOf = (unit) => {
  const end = unit.last_end;
  const after = end && end.failed && unit.restarts > 0 && !(unit.state || "").startsWith("failed");
  return after ? `${unit.restarts} (${end.reason})` : unit.restarts;
};

function cell(row, text, options = {}) {
  const cell = document.createElement("td");
  cell.textContent = text;
  if (options.class) cell.className = options.class;
  row.append(cell);
}

function drawRow(row, { app, unit, key }) {
  row.replaceChildren();
  row.dataset.key = key;
  row.setAttribute("aria-selected", String(key === chosen));
  row.tabIndex = key === chosen ? 0 : -1;
  const state = stateOf(app, unit);
  cell(row, shown(unit.id, String), { class: "number id faint" });
  cell(row, app.scope === "user" ? `${app.name} (user)` : app.name);
  cell(row, unit.slot || "router", { class: unit.slot ? "" : "faint" });
  cell(row, state, { class: `state ${mood(state)}` });
  cell(row, shown(restartsOf(unit), String), { class: "restarts" });
  cell(row, shown(unit.uptime_seconds, span), { class: "number uptime" });
  for (const [title, read, write] of FIGURES) {
    cell(row, shown(read(unit), write), { class: `number ${title.toLowerCase()}` });
  }
}

function drawTable() {
  const rows = rowsOf();
  const body = byId("rows");
  const focused = document.activeElement && document.activeElement.dataset.key;
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, at) => drawRow(body.rows[at] || body.insertRow(), row));
  if (focused) focus(focused);
  byId("none").hidden = rows.length > 0;
  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const workers = apps.reduce((sum, app) => sum + app.workers.length, 0);
  const sessions = apps.reduce((sum, app) => sum + (app.router.sessions || 0), 0);
  byId("sum").textContent = [count(apps.length, "app"), count(workers, "worker"), count(sessions, "session")].join(", ");
}

function focus(key) {
  const row = [...byId("rows").rows].find((row) => row.dataset.key === key);
  if (row) row.focus({ preventScroll: false });
}

const NAMESPACE = "http://www.w3.org/2000/svg";

function graph(values, most) {
  const points = values.map((value, at) => `${HISTORY - values.length + at},${(40 - (value / most) * 39).toFixed(2)}`);
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const area = document.createElementNS(NAMESPACE, "polygon");
  area.setAttribute("points", [`${HISTORY - values.length},40`, ...points, `${HISTORY - 1},40`].join(" "));
  const line = document.createElementNS(NAMESPACE, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(area, line);
  return svg;
}

function text(kind, content, className) {
  const element = document.createElement(kind);
  element.textContent = content;
  if (className) element.className = className;
  return element;
}

function drawChosen() {
  const row = rowsOf().find((row) => row.key === chosen);
  byId("chosen").hidden = !row;
  if (!row) return;
  byId("name").textContent = row.unit.slot ? `${row.app.name}@${row.unit.slot}` : row.app.name;
  byId("log-title").textContent = row.unit.slot ? "Log" : "Log of the whole app";
  const figures = FIGURES.map(([title, read, write, least, scale], at) => {
    const values = history.get(row.key)[at];
    const most = scale(Math.max(...values, least));
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.append(text("span", title), text("b", shown(read(row.unit), write)));
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.append(graph(values, most), text("span", write(most).replace(".0", ""), "most"));
    const axis = document.createElement("div");
    axis.className = "axis";
    axis.append(text("span", `${Math.round((HISTORY * SECONDS) / 60)} min ago`), text("span", "now"));
    figure.append(caption, plot, axis);
    return figure;
  });
  byId("graphs").replaceChildren(...figures);
  drawFacts(row);
  drawShown(row.unit.metrics || []);
}

const time = (seconds) => new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

function drawFacts({ app, unit, key }) {
  const end = unit.last_end;
  const state = stateOf(app, unit);
  const facts = [
    ["State", state, mood(state)],
    ["Id", unit.id],
    ["PID", unit.pid],
    ["Addresses", unit.slot ? null : app.listen.join(", ")],
    ["Since", unit.uptime_seconds === null ? null : `${time(Date.now() / 1000 - unit.uptime_seconds)}, ${span(unit.uptime_seconds)}`],
    ["Restarts", unit.restarts || null],
    ["Last end", end && (end.failed || !end.ordered) ? `${end.reason}, ${time(end.at)}` : null, "bad"],
    ["Last error", lastError.key === key ? lastError.text : null, "bad"],
    ["File", unit.slot ? null : app.file],
    ["Its error", unit.slot ? null : app.error, "bad"],
  ];
  const entries = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const draw = ([title, value, className]) => {
    const entry = document.createElement("div");
    entry.append(text("dt", title), text("dd", String(value), className));
    return entry;
  };
  byId("facts").replaceChildren(...entries.map(draw));
}

// What the app shows of itself; the package's own figures last.
function drawShown(metrics) {
  const internal = ({ type }) => Number((type || "").startsWith("internal/"));
  const entries = [...metrics].sort((one, other) => internal(one) - internal(other)).map(({ name, value, unit }) => {
    const entry = document.createElement("div");
    const title = document.createElement("dt");
    const figure = document.createElement("dd");
    title.textContent = name;
    figure.textContent = unit && !String(value).endsWith(unit) ? `${value} ${unit}` : String(value);
    entry.append(title, figure);
    return entry;
  });
  byId("metrics").replaceChildren(...entries);
  byId("shown").hidden = entries.length === 0;
}

function choose(key) {
  if (key === chosen) return;
  chosen = key;
  drawTable();
  drawChosen();
  if (log) log.close();
  const view = byId("log");
  view.replaceChildren();
  const row = rowsOf().find((row) => row.key === key);
  if (!row) return;
  log = new EventSource(`/log?scope=${row.app.scope}&unit=${row.unit.unit}`);
  // It begins again after a break: from the start.
  log.addEventListener("open", () => view.replaceChildren());
  log.addEventListener("line", ({ data }) => {
    const follows = view.scrollTop + view.clientHeight >= view.scrollHeight - 4;
    const entry = JSON.parse(data);
    if (entry.error) {
      // Time, who, text.
      lastError = { key, text: entry.text.replace(/^\S+ +\S+ \S+ \S+: /, "") };
      drawFacts(rowsOf().find((row) => row.key === key) || row);
    }
    view.append(text("span", `${entry.text}\n`, entry.error ? "bad" : ""));
    while (view.childNodes.length > LOG_LINES) view.firstChild.remove();
    if (follows) view.scrollTop = view.scrollHeight;
  });
}

function take(now) {
  const before = rowsOf().findIndex((row) => row.key === chosen);
  apps = now;
  const rows = rowsOf();
  for (const { key, unit } of rows) {
    const values = history.get(key) || FIGURES.map(() => []);
    FIGURES.forEach(([, read], at) => {
      values[at].push(read(unit) || 0);
      if (values[at].length > HISTORY) values[at].shift();
    });
    history.set(key, values);
  }
  const here = new Set(rows.map((row) => row.key));
  for (const key of history.keys()) if (!here.has(key)) history.delete(key);
  if (here.has(chosen)) {
    drawTable();
    drawChosen();
  } else {
    // A worker that a reload took away: whoever is in its place; at first the first.
    const next = rows[Math.min(Math.max(before, 0), rows.length - 1)];
    chosen = undefined;
    choose(next ? next.key : null);
    drawTable();
    drawChosen();
  }
}

function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

byId("rows").addEventListener("click", ({ target }) => choose(target.closest("tr").dataset.key));
byId("rows").addEventListener("keydown", (event) => {
  const rows = rowsOf();
  const at = rows.findIndex((row) => row.key === chosen);
  const places = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1, PageUp: at - 10, PageDown: at + 10 };
  if (!(event.key in places) || !rows.length) return;
  event.preventDefault();
  const key = rows[Math.min(Math.max(places[event.key], 0), rows.length - 1)].key;
  choose(key);
  focus(key);
});

const events = new EventSource("/events");
events.addEventListener("apps", ({ data }) => {
  trouble("");
  take(JSON.parse(data));
});
events.addEventListener("trouble", ({ data }) => trouble(JSON.parse(data)));
events.addEventListener("error", () => trouble("appctl dashboard has ended; what is shown is from before."));
