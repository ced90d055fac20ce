// Asks the admin API every few seconds and writes its answers down. Text is only ever set as text,
// so nothing that an error message or a tenant's name contains can become part of the page.
"use strict";

const EVERY_MS = 3000;
const ROWS_MAX = 100;
const KEPT = "tidegate-key";

const byId = (id) => document.getElementById(id);
const time = (ms) => (ms ? new Date(ms).toLocaleTimeString() : "");
const round = (number) => (typeof number === "number" ? Math.round(number * 100) / 100 : "");
const pairs = (object) => Object.entries(object || {}).map(([name, value]) => `${name}=${value}`).join(", ");

let timer = 0;

async function ask(path, key) {
  const answer = await fetch(path, { headers: { authorization: `Bearer ${key}` }, cache: "no-store" });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error ? body.error.message : `${path}: status ${answer.status}`);
  return body;
}

function cell(kind, value) {
  const made = document.createElement(kind);
  made.textContent = value === null || value === undefined ? "" : String(value);
  if (typeof value === "number") made.className = "number";
  return made;
}

function table(id, columns, rows) {
  const head = document.createElement("tr");
  head.append(...columns.map(([title]) => cell("th", title)));
  const lines = rows.slice(0, ROWS_MAX).map((row) => {
    const line = document.createElement("tr");
    line.append(...columns.map(([, value]) => cell("td", value(row))));
    return line;
  });
  if (rows.length === 0) {
    const none = cell("td", "none");
    none.colSpan = columns.length;
    none.className = "none";
    const line = document.createElement("tr");
    line.append(none);
    lines.push(line);
  }
  byId(id).replaceChildren(head, ...lines);
}

function list(id, entries) {
  byId(id).replaceChildren(...entries.flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
}

const SHOWN = {
  "/v1/admin/status": (status) => list("status", [
    ["version", status.version],
    ["up for", `${status.uptime_s} s`],
    ["policy", status.revision],
    ["filter VMs", status.filters.length],
    ["of them behind", status.filters.filter((vm) => vm.revision !== status.revision).length],
  ]),
  "/admin/clusters": ({ data }) => table("clusters", [
    ["id", (row) => row.id],
    ["what", (row) => row.title],
    ["kind", (row) => row.kind],
    ["severity", (row) => `${row.severity_level} (${round(row.severity)})`],
    ["trend", (row) => row.trend],
    ["per second", (row) => round(row.rate)],
    ["tenants", (row) => row.tenants],
    ["last seen", (row) => time(row.last_seen_ms)],
  ], [...data].sort((a, b) => b.severity - a.severity)),
  "/admin/policies": ({ data }) => table("policies", [
    ["id", (row) => row.id],
    ["cluster", (row) => row.cluster_id],
    ["kind", (row) => row.kind],
    ["does", (row) => row.action],
    ["to", (row) => pairs(row.scope) || "everything"],
    ["mode", (row) => (row.silenced ? "silenced" : row.mode)],
    ["state", (row) => row.state],
    ["refused", (row) => row.refused],
    ["until", (row) => time(row.expires_ms)],
  ], data),
  "/v1/providers": ({ data }) => table("providers", [
    ["name", (row) => row.name],
    ["type", (row) => row.type],
    ["health", (row) => row.health.status],
    ["enabled", (row) => row.enabled],
    ["weight", (row) => row.weight],
    ["keys resting", (row) => `${row.rate_limit.keys_resting} of ${row.rate_limit.keys}`],
    ["models", (row) => row.models.join(", ")],
  ], data),
  "/admin/limits": ({ rules }) => table("limits", [
    ["of", (row) => pairs(row.select) || "everybody"],
    ["requests per second", (row) => row.requests && round(row.requests.rate)],
    ["burst", (row) => row.requests && row.requests.burst],
    ["scope", (row) => row.scope],
  ], rules),
  "/admin/usage": ({ rows }) => table("usage", [
    ["tenant", (row) => row.tenant],
    ["provider", (row) => row.provider],
    ["model", (row) => row.model],
    ["requests", (row) => row.requests],
    ["tokens", (row) => row.total_tokens],
    ["cost, USD", (row) => round(row.cost_usd)],
  ], rows),
  "/admin/cache": (cache) => list("cache", Object.entries(cache)
    .filter(([, value]) => typeof value !== "object")
    .map(([name, value]) => [name.replaceAll("_", " "), round(value) === "" ? value : round(value)])),
};

function say(text, kind) {
  const state = byId("state");
  state.textContent = text;
  state.className = kind;
}

async function refresh(key) {
  const paths = Object.keys(SHOWN);
  const answers = await Promise.allSettled(paths.map(async (path) => SHOWN[path](await ask(path, key))));
  const failed = answers.find((answer) => answer.status === "rejected");
  byId("main").hidden = answers.every((answer) => answer.status === "rejected");
  say(failed ? failed.reason.message : `as of ${new Date().toLocaleTimeString()}`, failed ? "bad" : "good");
  timer = setTimeout(refresh, EVERY_MS, key);
}

function start(key) {
  clearTimeout(timer);
  sessionStorage.setItem(KEPT, key);
  byId("key").value = "";
  byId("forget").hidden = false;
  refresh(key);
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  start(byId("key").value);
});

byId("forget").addEventListener("click", () => {
  clearTimeout(timer);
  sessionStorage.removeItem(KEPT);
  byId("main").hidden = true;
  byId("forget").hidden = true;
  say("not connected", "");
});

const kept = sessionStorage.getItem(KEPT);
if (kept) start(kept);
