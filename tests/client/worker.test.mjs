import assert from "node:assert/strict";
import { test } from "node:test";
import { settle } from "./world.mjs";

const PONG = ["pong"];

test("a worker pings its page each second, and tells for how long it has not answered", async () => {
  const said = [];
  const sent = [];
  let now = 1000;
  let second;
  let nap;
  Object.assign(globalThis, {
    onmessage: null,
    postMessage: (message) => said.push(message),
    setInterval: (then, ms) => ((second = then), ms),
    setTimeout: (then, ms) => ((nap = { then, ms }), 0),
    clearTimeout() {},
    fetch: async (_url, { body }) => {
      sent.push(JSON.parse(body));
      return { status: 200, headers: new Headers(), json: async () => ({ state: "live", next_ms: 10000, ticket: "t" }) };
    },
  });
  Object.defineProperty(globalThis, "performance", { value: { now: () => now }, configurable: true });
  await import("../../watchdog/web/client/worker.js");
  const hear = (...message) => globalThis.onmessage({ data: message });
  assert.deepEqual(said.splice(0), [["ready"]]);
  // A page may say so before the session is given to the worker.
  for (const name of ["kick", "leave", "set", "pong"]) hear(name, {});

  const session = { who: { agent: "a" }, sessionId: "s", incarnation: 2, seq: 5, open: true, ticket: "t", gap: 0 };
  hear("begin", { ...session, visibility: "visible", driver: "main" }, "https://x/v1/heartbeat", true, 700);
  assert.equal(nap.ms, 700);
  second();
  assert.deepEqual(said.splice(0), [["ping"]]);
  hear(...PONG);
  second();
  assert.deepEqual(said.splice(0), [["ping"]]);
  for (let missed = 0; missed < 3; missed++) {
    now += 1000;
    second();
  }
  assert.deepEqual(said, []);
  hear("kick");
  await settle();
  assert.deepEqual([sent[0].type, sent[0].seq, sent[0].driver, sent[0].lag_ms], ["beat", 6, "worker", 3000]);
  assert.deepEqual([said[0][0], said[0][1].state, said[0][1].seq], ["tell", "live", 6]);
  hear(...PONG);
  now += 1000;
  hear("kick");
  await settle();
  assert.equal(sent[1].lag_ms, 0);
  // The machine slept.
  now += 60000;
  second();
  await settle();
  assert.ok(sent[2].gap_ms >= 60000);
  // The page hangs no more between a beat and its answer: the next beat tells of it.
  now += 4000;
  hear("kick");
  hear(...PONG);
  await settle();
  now += 1000;
  hear("kick");
  await settle();
  assert.ok(sent[4].gap_ms >= 4000);
  hear("enter", 3);
  await settle();
  assert.deepEqual([sent[5].type, sent[5].incarnation], ["hello", 3]);
});
