// The dashboard's parts that need no page: the stream of events, what is kept of it, and what is said.

import assert from "node:assert/strict";
import { test } from "node:test";

import { readToken } from "../../watchdog/web/dashboard/api.js";
import { Model, MOST_ACTIONS, MOST_SAMPLES } from "../../watchdog/web/dashboard/model.js";
import { MOST_WAIT_MS, Parser, backOff, follow } from "../../watchdog/web/dashboard/stream.js";
import { OUTCOMES, STATES, count, duration, evidenceOf, sentence } from "../../watchdog/web/dashboard/words.js";

const STREAM = 'retry: 1000\nevent: hello\ndata: {"a":\ndata: 1}\n\n:\n\nid: b-7\nevent: action\r\ndata:x\r\n\r\nid: b-8\n\ndata: last\n';

test("events are read, however the text is cut", () => {
  for (let cut = 1; cut <= STREAM.length; cut++) {
    const parser = new Parser();
    const found = [];
    for (let at = 0; at < STREAM.length; at += cut) found.push(...parser.feed(STREAM.slice(at, at + cut)));
    assert.deepEqual(found, [
      { type: "hello", data: '{"a":\n1}' },
      { type: "action", data: "x" },
    ], `cut at ${cut}`);
    assert.equal(parser.lastId, "b-8");
  }
});

test("attempts wait longer and longer, never the same, and never for long", () => {
  assert.deepEqual([0, 1, 2, 3].map((failures) => backOff(failures, 0)), [500, 1000, 2000, 4000]);
  assert.equal(backOff(0, 1), 1000);
  assert.equal(backOff(10_000, 1), MOST_WAIT_MS);
});

/** A stream in pieces, as fetch gives it. */
const answer = (...pieces) => ({
  body: new ReadableStream({
    start(stream) {
      for (const piece of pieces) stream.enqueue(new TextEncoder().encode(piece));
      stream.close();
    },
  }),
});

test("who comes back says what it had last", async () => {
  const asked = [];
  const told = [];
  await new Promise((resolve) => {
    const reading = follow({
      async open(headers) {
        asked.push(headers);
        if (asked.length === 3) {
          reading.stop();
          resolve();
        }
        if (asked.length === 2) throw new Error("away");
        return answer('event: hello\ndata: {}\n\nid: boot-3\nevent: action\nda', 'ta: {"id":"ü"}\n\n');
      },
      event: (type, data) => told.push([type, data]),
      link: (up) => {
        told.push(up);
        if (!up) setImmediate(() => reading.now());
      },
    });
  });
  assert.deepEqual(asked, [{}, { "last-event-id": "boot-3" }, { "last-event-id": "boot-3" }]);
  assert.deepEqual(told, [true, ["hello", {}], ["action", { id: "ü" }], false, false]);
});

const agents = { live: 412, grace: 3, due: 0, held: 0, away: 5, gone: 1 };
const hello = (boot) => ({ boot, version: "1", at: 0, series: { fields: ["at", "live", "heartbeats"], samples: [] } });

test("an hour is kept, and no more", () => {
  const model = new Model();
  model.event("hello", hello("a"), 0);
  for (let second = 1; second <= 2 * 3600; second++) {
    model.event("counts", { agents, heartbeats: 3 * second }, second * 1000);
    model.event("action", { id: String(second) }, second * 1000);
    model.tick(second * 1000);
  }
  assert.equal(model.samples.length, MOST_SAMPLES);
  assert.equal(model.recent.length, MOST_ACTIONS);
  assert.ok(model.beats.length <= 15);
  assert.equal(model.rate, 3);
  assert.deepEqual(new Set(model.rates().slice(1)), new Set([3]));
});

test("whoever sets the browser's clock changes nothing", (t) => {
  const model = new Model();
  model.event("hello", { ...hello("a"), at: 5000 });
  model.event("counts", { agents, heartbeats: 0 });
  t.mock.method(Date, "now", () => 1);
  assert.ok(Math.abs(model.time() - 5000) < 5);
  model.tick();
  assert.ok(Math.abs(model.beats[0][0] - 5000) < 5);
});

test("a stream takes the place of another one", async () => {
  const asked = [];
  await new Promise((resolve) => {
    const reading = follow({
      after: "boot-7",
      async open(headers) {
        asked.push(headers);
        if (asked.length === 1) return answer("event: hello\ndata: {}\n\nid: boot-9\n\n");
        assert.equal(reading.lastId, "boot-9");
        reading.stop();
        resolve();
        return answer("");
      },
      event: () => {},
      link: (up) => up || setImmediate(() => reading.now()),
    });
  });
  assert.deepEqual(asked, [{ "last-event-id": "boot-7" }, { "last-event-id": "boot-9" }]);
});

test("a token is taken without what comes along when it is copied, and nothing else is one", () => {
  assert.equal(readToken("  abc-._~+/=123\n"), "abc-._~+/=123");
  assert.equal(readToken("Bearer abc"), "abc");
  assert.equal(readToken(""), "");
  for (const text of ["ab cd", "t\u00f6ken", "abc\u200b", "abc\u2026", "a\tb"]) assert.equal(readToken(text), null, text);
});

test("one is one, and two are two", () => {
  assert.deepEqual([0, 1, 2, 1200].map((each) => count(each, "agent")), ["0 agents", "1 agent", "2 agents", "1,200 agents"]);
});

test("an action that is told twice is one", () => {
  const model = new Model();
  for (const id of ["1", "2", "1"]) model.event("action", { id });
  assert.deepEqual(model.recent.map((each) => each.id), ["1", "2"]);
});

test("a daemon that has begun anew has no rate of heartbeats below nothing", () => {
  const model = new Model();
  model.event("hello", hello("a"), 0);
  const beats = [0, 100, 200, 5, 55];
  beats.forEach((heartbeats, at) => {
    model.event("counts", { agents, heartbeats }, at * 5000);
    model.tick((at + 1) * 5000);
  });
  assert.deepEqual(model.rates(), [null, 20, 20, null, 10]);
});

test("the history is read anew after another start, a loss, and a gap", () => {
  const model = new Model();
  model.event("hello", hello("a"));
  model.event("hello", hello("a"));
  assert.equal(model.generation, 0);
  model.event("hello", hello("b"));
  model.event("lost", { actions: 3 });
  model.event("reset", {});
  assert.equal(model.generation, 3);
  assert.equal(model.event("something-new", {}), false);
});

test("calls of Connect are counted over the last ten seconds", () => {
  const model = new Model();
  model.event("hello", hello("a"), 0);
  model.event("counts", { agents, heartbeats: 0 });
  for (let second = 0; second <= 10; second++) {
    model.event("calls", [["PutUserStatus", "ok", 7 + 2 * second], ["PutUserStatus", "throttled", 1]]);
    model.tick(second * 1000);
  }
  assert.deepEqual(model.used().get("PutUserStatus"), { rate: 2, all: 28, throttled: 1, failed: 0, lately: 20 });
});

test("how it stands is a sentence", () => {
  assert.equal(sentence(agents), "412 present, 3 in grace, none held");
  assert.equal(sentence({ ...agents, live: 50_000, due: 2, held: 40 }), "50,000 present, 3 in grace, 2 due, 40 held");
});

test("times are said in two units", () => {
  const said = [-1, 0, 59.4, 60, 61, 3600, 5400, 7190, 86_390, 86400, 90_000].map(duration);
  assert.deepEqual(said, ["0 s", "0 s", "59 s", "1 min", "1 min 1 s", "1 h", "1 h 30 min", "2 h", "1 d 0 h", "1 d 0 h", "1 d 1 h"]);
});

test("a decision is explained, and evidence that is not known breaks nothing", () => {
  const evidence = {
    timer_s: 5,
    lag_s: 0.25,
    sessions_in_all: 3,
    sessions: [{ session_id: "6f9619ff-8b86-4d01", ended: "silence", ended_s_ago: 5.25, hidden: true }],
    before: { shown: true, status: "Available", contacts: [{}] },
    writes: [{ result: "accepted" }, { result: "ConnectThrottled" }],
    read_backs: [{ after_s: 2.03, shown: false, complete: true }, { after_s: 10, failed: "ConnectUnavailable" }],
    brake: { group: "all", reason: "mass_silence", held_s: 90 },
  };
  const said = evidenceOf({ outcome: "confirmed", target: "Offline", evidence });
  assert.deepEqual(said, [
    "Session 6f9619ff… fell silent: its lease ended 5.3 s before (hidden page).",
    "2 more sessions had ended before.",
    "The timer of 5 s ran out; acted upon 0.3 s after its end.",
    "Connect showed before: Available, 1 contact.",
    "The write of Offline was accepted.",
    "The write of Offline ended with ConnectThrottled.",
    "2 s later, Connect showed: not shown.",
    "10 s later, Connect showed: could not be read (ConnectUnavailable).",
    "Brake of all: mass_silence. Held for 1 min 30 s.",
  ]);
  for (const strange of [{}, { evidence: {} }, { evidence: { sessions: "x", writes: null, unknown: [] } }]) {
    assert.deepEqual(evidenceOf(strange), []);
  }
});

test("every state and outcome of the API has a word", async () => {
  const { readFileSync } = await import("node:fs");
  const model = readFileSync(new URL("../../watchdog/core/model.py", import.meta.url), "utf8");
  const names = (kind) => [...model.split(`class ${kind}(StrEnum)`)[1].split("\nclass ")[0].matchAll(/^ {4}[A-Z_]+ = "(\w+)"/gm)].map((each) => each[1]);
  assert.deepEqual(Object.keys(STATES).sort(), names("AgentState").sort());
  const outcomes = model.split("class Outcome(StrEnum)")[1].split("\nSET_BY_US")[0];
  assert.deepEqual(Object.keys(OUTCOMES).sort(), [...outcomes.matchAll(/^ {4}[A-Z_]+ = "(\w+)"/gm)].map((each) => each[1]).sort());
});
