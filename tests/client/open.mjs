/**
 * Opens a page in node that has the client from a running daemon: its four files as served, on the network and the clocks
 * of this machine, in as much of a browser as they touch.
 *
 *   node open.mjs https://watchdog.example tag|module AGENT-ARN TOKEN
 *
 * Each line on standard output is what there is now: `{"status": …, "said": […]}`. Lines on standard input: `offline`,
 * `online`, `close`. The end of the input closes it, too.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { createElement, Element } from "./element.mjs";
import { streams } from "./page.mjs";

const [daemon, way, arn, token] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "client-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, "package.json"), '{"type": "module"}');
for (const name of ["presence.js", "core.js", "worker.js", "banner.js"]) {
  const file = await fetch(`${daemon}/client/${name}`);
  if (!file.ok) throw new Error(`${name}: ${file.status}`);
  writeFileSync(join(folder, name), await file.text());
}
const href = pathToFileURL(join(folder, "presence.js")).href;

const real = fetch;
let online = true;
const under = new Set();
globalThis.fetch = (...request) => {
  const answer = online ? real(...request) : Promise.reject(new TypeError("Failed to fetch"));
  under.add(answer);
  answer.catch(() => {}).finally(() => under.delete(answer));
  return answer;
};

const connect = Object.assign(streams(), { arn });
const body = new Element();
const attributes = { streams: "", url: daemon, token, transport: "post", banner: "" };
globalThis.location = new URL("https://ccp.example/");
Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
globalThis.window = Object.assign(new EventTarget(), globalThis, { fetch: globalThis.fetch, connect });
for (const name of ["AbortController", "Date", "Math", "performance", "setTimeout", "clearTimeout"])
  window[name] = globalThis[name];
globalThis.document = Object.assign(new EventTarget(), {
  visibilityState: "visible",
  scripts: way === "tag" ? [{ src: href, dataset: attributes }] : [],
  body,
  createElement,
});

let status;
let shown;
const show = () => {
  const now = JSON.stringify({ status, said: body.said.filter((text) => text !== "Close") });
  if (now !== shown) console.log((shown = now));
};
setInterval(show, 50);

const { presence } = await import(href);
if (way === "module") {
  const { banner, warn } = await import(pathToFileURL(join(folder, "banner.js")).href);
  presence({
    url: daemon,
    streams: connect,
    getToken: () => token,
    transport: "post",
    onStatus(now) {
      status = now;
      warn(now.atRisk);
      show();
    },
    onNotice: (notice) => banner(notice),
  });
}
connect.init();
// The client looks for Streams each second.
setTimeout(() => connect.signIn(), 1100);

const close = async () => {
  window.dispatchEvent(new Event("pagehide"));
  await Promise.allSettled(under);
  process.exit();
};
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  if (line === "close") lines.close();
  else online = line === "online";
  if (line === "online") window.dispatchEvent(new Event("online"));
});
lines.on("close", close);
