"use strict";

const HISTORY = 240;
const LOG_LINES = 500;
const byId = (id) => document.getElementById(id);

let apps = [];
let chosen = null;
let log = null;
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

const FIGURES = [
  ["CPU", (unit) => unit.cpu_percent, (value) => `${value.toFixed(1)}%`],
  ["Memory", (unit) => unit.memory_bytes, size],
  ["Lag", (unit) => unit.lag_ms, (value) => `${value.toFixed(1)} ms`],
  ["Sessions", (unit) => unit.sessions, String],
];
const shown = (value, write) => (value === null || value === undefined ? "–" : write(value));

const mood = (state) => {
  const word = state.split(" ")[0];
  if (["ready", "running"].includes(word)) return "good";
  if (["failed", "restarting", "file"].includes(word)) return "bad";
  return word === "stopped" ? "faint" : "middling";
};

const key = (app, unit) => `${app.scope} ${unit.unit}`;
const rowsOf = () => apps.flatMap((app) => [app.router, ...app.workers].map((unit) => ({ app, unit, key: key(app, unit) })));

function cell(row, text, options = {}) {
  const cell = document.createElement("td");
  cell.textContent = text;
  if (options.class) cell.className = options.class;
  if (options.title) cell.dataset.title = options.title;
  row.append(cell);
}

function drawRow(row, { app, unit, key }) {
  row.replaceChildren();
  row.dataset.key = key;
  row.setAttribute("aria-selected", String(key === chosen));
  row.tabIndex = key === chosen ? 0 : -1;
  const broken = app.error && !unit.slot && !unit.pid;
  const state = broken ? "file has errors" : unit.state || "stopped";
  const after = unit.last_end && unit.last_end.failed && unit.restarts > 0 && !state.startsWith("failed");
  cell(row, app.scope === "user" ? `${app.name} (user)` : app.name);
  cell(row, unit.slot || "router", { class: unit.slot ? "" : "faint" });
  cell(row, after ? `${state}, after: ${unit.last_end.reason}` : state, { class: `state ${mood(state)}` });
  const figures = [
    ["Restarts", unit.restarts, String],
    ["Uptime", unit.uptime_seconds, span],
    ...FIGURES.map(([title, read, write]) => [title, read(unit), write]),
  ];
  for (const [title, value, write] of figures) cell(row, shown(value, write), { class: "number", title });
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

function graph(values) {
  const most = Math.max(...values, 0) || 1;
  const points = values.map((value, at) => `${HISTORY - values.length + at},${(40 - (value / most) * 38).toFixed(2)}`);
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

function drawChosen() {
  const row = rowsOf().find((row) => row.key === chosen);
  byId("chosen").hidden = !row;
  if (!row) return;
  byId("name").textContent = row.unit.unit.replace(/\.service$/, "");
  const figures = FIGURES.map(([title, read, write], at) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.textContent = title;
    const value = document.createElement("b");
    value.textContent = shown(read(row.unit), write);
    caption.append(name, value);
    figure.append(caption, graph(history.get(row.key)[at]));
    return figure;
  });
  byId("graphs").replaceChildren(...figures);
  drawShown(row.unit.metrics || []);
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
    view.append(`${JSON.parse(data)}\n`);
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
