// A file in a package of ES modules.
import { readFileSync } from "node:fs";
const port = JSON.parse(readFileSync(new URL("./ports.json", import.meta.url))).web;

export const apps = [{ name: "modern", script: "witness.js", instances: 1, env: { PORT: port } }];
