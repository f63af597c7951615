import assert from "node:assert/strict";
import { test } from "node:test";
import { wire } from "../../watchdog/web/client/core.js";

const at = "https://watchdog.example/w/v1/heartbeat";
const scope = (reply, more = {}) => ({
  AbortController,
  fetch: async (url, init) => {
    scope.asked = { url, init };
    return reply;
  },
  ...more,
});
const answering = (status, body, headers = {}) => ({ status, headers: new Headers(headers), json: async () => body });

test("a post is a text without headers or cookies, so that no preflight is needed", async () => {
  const [reply, abort] = wire(scope(answering(200, { state: "live" })), at, true).post("{}");
  assert.deepEqual(await reply, { status: 200, retry_ms: 0, data: { state: "live" } });
  const { url, init } = scope.asked;
  assert.deepEqual([url, init.method, init.body, init.credentials, init.headers], [at, "POST", "{}", "omit", undefined]);
  abort();
  assert.equal(init.signal.aborted, true);
});

test("Retry-After is read in seconds, and left alone where it is a date", async () => {
  for (const [value, retry_ms] of [
    ["2", 2000],
    ["Wed, 21 Oct 2026 07:28:00 GMT", 0],
  ]) {
    const [reply] = wire(scope(answering(503, {}, { "retry-after": value })), at, true).post("{}");
    assert.equal((await reply).retry_ms, retry_ms);
  }
});

test("an answer that is no JSON is one without a state", async () => {
  const broken = {
    ...answering(502),
    json: async () => {
      throw new SyntaxError("<html>");
    },
  };
  const [reply] = wire(scope(broken), at, true).post("{}");
  assert.deepEqual((await reply).data, {});
  // Some gateways say so for nothing.
  const [empty] = wire(scope(answering(200, null)), at, true).post("{}");
  assert.deepEqual((await empty).data, {});
});

test("the socket is beside the heartbeat, speaks our protocol, and tells what becomes of it", () => {
  const made = [];
  class WebSocket {
    constructor(...given) {
      made.push(given);
    }
  }
  const heard = [];
  const on = {
    open: () => heard.push("open"),
    message: (text) => heard.push(text),
    close: () => heard.push("close"),
  };
  const socket = wire({ WebSocket }, at, true).connect(on);
  wire({ WebSocket }, "http://heartbeat.example/v1/heartbeat", true).connect(on);
  assert.deepEqual(made, [
    ["wss://watchdog.example/w/v1/ws", "watchdog.v1"],
    ["ws://heartbeat.example/v1/ws", "watchdog.v1"],
  ]);
  socket.onopen();
  socket.onmessage({ data: "text" });
  socket.onerror();
  socket.onclose();
  assert.deepEqual(heard, ["open", "text", "close", "close"]);
  assert.equal(wire({ WebSocket }, at, false).connect, undefined);
});
