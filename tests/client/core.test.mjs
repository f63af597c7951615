import assert from "node:assert/strict";
import { test } from "node:test";
import { message } from "../../watchdog/web/client/core.js";
import { LIVE, living, settle, world } from "./world.mjs";

const UNKNOWN = { state: "unknown", next_ms: 10000 };
const STOP = { state: "stop", next_ms: 10000 };
const times = (look) => look.map(([at]) => at);

test("a page says hello at once, and again each half second, ten times, giving no copy up", async () => {
  const w = world();
  w.core.start();
  await w.pass(4600);
  assert.deepEqual(
    w.look(),
    [0, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500].map((at, index) => [at, "hello", index + 1]),
  );
  assert.equal(w.sent.filter((each) => each.aborted).length, 2); // those of 0 and 500, after their 4 s
});

test("any answer ends the hellos, also one to an early copy", async () => {
  const w = world();
  w.core.start();
  await w.pass(1200);
  await w.answer(w.sent[0]);
  assert.equal(w.state, "live");
  await w.pass(9999);
  assert.equal(w.look().length, 3);
  await w.pass(1);
  assert.deepEqual(w.look(), [[11200, "beat", 4]]);
});

test("hellos that are refused by the network go on in their rhythm, and then as after a failure of the last", async () => {
  const w = world();
  w.core.start();
  for (let copy = 0; copy < 10; copy++) {
    await w.refuse();
    if (copy < 9) assert.equal(w.events.length, 0);
    await w.pass(500);
  }
  assert.equal(w.look().length, 10);
  assert.equal(w.state, "retrying");
  // Failed at 4,500; again after 2 s, the middle of 1 to 3.
  await w.pass(1500);
  assert.deepEqual(w.look(), [[6500, "hello", 11]]);
});

test("hellos without an answer fail 4 s after the last copy", async () => {
  const w = world();
  w.core.start();
  await w.pass(8499);
  assert.deepEqual(w.events, []);
  await w.pass(1);
  assert.equal(w.state, "retrying");
  await w.pass(2000);
  assert.deepEqual(w.look().at(-1), [10500, "hello", 11]);
});

test("beats come when the daemon says, with what it needs", async () => {
  const w = await living({ token: "secret", meta: { site: "b" } });
  assert.deepEqual(w.sent[0].m, {
    agent: "arn",
    session_id: w.s.sessionId,
    type: "hello",
    incarnation: 0,
    seq: 1,
    token: "secret",
    visibility: "visible",
    driver: "worker",
    gap_ms: 0,
    meta: { site: "b" },
  });
  w.lag = 7;
  w.core.set({ login: true, visibility: "hidden" });
  await w.pass(10000);
  // The ticket in place of the token.
  assert.deepEqual(w.last.m, {
    agent: "arn",
    session_id: w.s.sessionId,
    type: "beat",
    incarnation: 0,
    seq: 2,
    ticket: "t1",
    visibility: "hidden",
    driver: "worker",
    login: true,
    lag_ms: 7,
    gap_ms: 10000,
  });
  await w.answer(w.last, { ...LIVE, next_ms: 300000 });
  w.look();
  await w.pass(299999);
  assert.deepEqual(w.look(), []);
  await w.pass(1);
  assert.equal(w.look().length, 1);
});

test("a reply that does not say when does not make a storm", async () => {
  for (const next_ms of [undefined, 0, -5, "soon"]) {
    const w = world();
    w.core.start();
    await w.answer(undefined, { ...LIVE, next_ms });
    await w.pass(499);
    assert.equal(w.sent.length, 1, String(next_ms));
  }
});

test("a beat is given up after 4 s, and retried 1 to 3 s later", async () => {
  for (const [chance, after] of [
    [0, 1000],
    [0.5, 2000],
    [0.9999, 2999.8],
  ]) {
    const w = await living();
    w.chance = chance;
    await w.pass(14000);
    assert.equal(w.last.aborted, true);
    assert.equal(w.state, "retrying");
    w.look();
    await w.pass(after - 1);
    assert.deepEqual(w.look(), []);
    await w.pass(1);
    assert.deepEqual(w.look(), [[14000 + after, "beat", 3]]);
  }
});

test("an answer that comes after it was given up counts no more", async () => {
  const w = await living();
  await w.pass(10000);
  const late = w.last;
  await w.pass(4000);
  await w.answer(late, { ...LIVE, ticket: "late" });
  assert.equal(w.s.ticket, "t1");
  assert.equal(w.state, "retrying");
});

test("once 20 s have passed since the first failure it backs off, evenly up to 15 s", async () => {
  const w = await living();
  w.chance = 0;
  await w.pass(10000);
  for (let at = 10000; at <= 29000; at += 1000) {
    assert.equal(w.last.at, at);
    await w.refuse();
    await w.pass(1000);
  }
  // The first failure was at 10,000: at 30,000 it is 20 s ago.
  assert.equal(w.last.at, 30000);
  await w.refuse();
  await w.pass(499);
  assert.equal(w.last.at, 30000);
  await w.pass(1);
  assert.equal(w.last.at, 30500);
  w.chance = 1;
  await w.refuse();
  await w.pass(14999);
  assert.equal(w.last.at, 30500);
  await w.pass(1);
  assert.equal(w.last.at, 45500);
  w.chance = 0.2;
  await w.refuse();
  await w.pass(3000);
  assert.equal(w.last.at, 48500);
});

test("an answer ends the failing: the next failure is a first one", async () => {
  const w = await living();
  w.chance = 0;
  await w.pass(10000);
  while (w.now < 40000) {
    await w.refuse();
    await w.pass(500);
  }
  await w.pass(500);
  await w.answer();
  assert.equal(w.state, "live");
  await w.pass(10000);
  const at = w.last.at;
  await w.refuse();
  await w.pass(1000);
  assert.equal(w.last.at, at + 1000);
});

test("a server's fault is a failure", async () => {
  for (const status of [500, 502, 503]) {
    const w = await living();
    await w.pass(10000);
    await w.answer(w.last, {}, status);
    assert.equal(w.state, "retrying");
    await w.pass(2000);
    assert.equal(w.last.at, 12000);
  }
});

test("a server's fault does not end the hellos", async () => {
  const w = world();
  w.core.start();
  await w.answer(w.last, {}, 502);
  await w.pass(500);
  assert.deepEqual(times(w.look()), [0, 500]);
});

test("Retry-After is obeyed, whatever else holds", async () => {
  const w = world();
  w.core.start();
  await w.answer(w.last, {}, 503, 2000);
  assert.equal(w.state, "retrying");
  await w.pass(1999);
  w.core.kick();
  assert.equal(w.sent.length, 1);
  await w.pass(1);
  assert.deepEqual(times(w.look()), [0, 2000]);
  // And then as after a failure: one at a time.
  await w.pass(3999);
  assert.equal(w.sent.length, 1 + 1);
});

test("nobody is told to be silent for longer than an hour, nor to come at once by a number that no timer has", async () => {
  for (const [data, status, retry_ms] of [
    [{}, 503, 2 ** 40],
    [{ ...LIVE, next_ms: 2 ** 40 }, 200, 0],
  ]) {
    const w = world();
    w.core.start();
    await w.answer(w.last, data, status, retry_ms);
    await w.pass(3599999);
    assert.equal(w.sent.length, 1);
    await w.pass(1);
    assert.equal(w.sent.length, 2);
  }
});

test("a refusal that a retry does not mend is retried no faster", async () => {
  for (const status of [200, 400, 403, 404, 409]) {
    const w = await living();
    await w.pass(10000);
    await w.answer(w.last, {}, status);
    assert.equal(w.state, "retrying", String(status));
    await w.pass(2000);
    assert.equal(w.last.at, 12000);
  }
});

test("an unknown session says hello in the next incarnation, like a new page", async () => {
  const w = await living();
  await w.pass(10000);
  await w.answer(w.last, UNKNOWN);
  w.look();
  assert.deepEqual(w.last.m.incarnation, 1);
  assert.equal(w.last.m.type, "hello");
  assert.equal(w.last.m.seq, 1);
  assert.equal(w.last.m.ticket, undefined);
  await w.pass(1000);
  assert.deepEqual(times(w.look()), [10500, 11000]);
});

test("the page is told the new incarnation before a hello is sent in it", async () => {
  const w = await living();
  await w.pass(10000);
  let before;
  w.onTell = (event) => {
    before = [event.state, event.incarnation, event.ticket, w.sent.length];
    w.onTell = undefined;
  };
  await w.answer(w.last, UNKNOWN);
  assert.deepEqual(before, ["connecting", 1, undefined, 2]);
  assert.equal(w.sent.length, 3);
});

test("unknown to a hello is a failure, and the retry is in the next incarnation", async () => {
  const w = world();
  w.core.start();
  await w.answer(w.last, UNKNOWN);
  assert.equal(w.state, "retrying");
  w.look();
  await w.pass(1999);
  assert.deepEqual(w.look(), []);
  await w.pass(1);
  assert.deepEqual(w.look(), [[2000, "hello", 1]]);
  assert.equal(w.last.m.incarnation, 1);
});

test("unknown to an old copy says nothing: it was overtaken", async () => {
  const w = world();
  w.core.start();
  await w.pass(500);
  await w.answer(w.sent[0], UNKNOWN);
  assert.equal(w.s.incarnation, 0);
  await w.answer(w.sent[1]);
  assert.equal(w.state, "live");
});

test("unknown to an old copy, and nothing else, is a failure in the end", async () => {
  const w = await living({ driver: "main", visibility: "hidden" });
  await w.pass(10000);
  const [first, second, third] = w.sent.slice(-3);
  await w.refuse(second);
  await w.refuse(third);
  await w.answer(first, UNKNOWN);
  assert.equal(w.state, "retrying");
  assert.equal(w.s.incarnation, 0);
});

test("a stopped session is silent, whatever kicks it, until it enters again", async () => {
  const w = await living();
  await w.pass(10000);
  await w.answer(w.last, STOP);
  assert.equal(w.state, "stopped");
  w.look();
  await w.pass(60000);
  w.core.kick();
  w.core.tick();
  assert.deepEqual(w.look(), []);
  assert.equal(w.timers, 0);
  w.core.enter(1);
  assert.deepEqual(w.look(), [[70000, "hello", 1]]);
  assert.equal(w.last.m.incarnation, 1);
});

test("who enters says hello in an incarnation that nobody had", async () => {
  for (const [given, had, expected] of [
    [1, 0, 1],
    [5, 0, 5],
    [1, 1, 2],
    [1, 3, 4],
  ]) {
    const w = await living({ incarnation: had });
    w.core.enter(given);
    assert.equal(w.last.m.incarnation, expected);
    assert.equal(w.last.m.seq, 1);
    assert.equal(w.last.m.ticket, undefined);
    assert.equal(w.last.m.type, "hello");
  }
});

test("who enters does not wait for what was said to the page that left", async () => {
  const w = await living();
  await w.pass(10000);
  await w.answer(w.last, {}, 503, 60000);
  w.core.leave();
  w.core.enter(1);
  await w.answer();
  await w.pass(1000);
  w.core.kick();
  assert.equal(w.last.at, 11000);
  assert.equal(w.last.m.type, "beat");
});

test("who leaves is silent, and answers to what is under way do not wake it", async () => {
  const w = await living();
  await w.pass(10000);
  w.core.leave();
  await w.answer();
  await w.pass(60000);
  w.core.kick();
  assert.equal(w.sent.length, 2);
});

test("a kick beats at once, and several of one cause are one", async () => {
  const w = await living();
  await w.pass(5000);
  w.core.kick();
  w.core.kick();
  assert.deepEqual(w.look(), [[5000, "beat", 2]]);
  await w.answer();
  w.core.kick();
  assert.deepEqual(w.look(), []);
  await w.pass(1000);
  w.core.kick();
  assert.deepEqual(w.look(), [[6000, "beat", 3]]);
  await w.answer();
  // The beat that was due at 10,000 is not sent besides.
  await w.pass(9999);
  assert.deepEqual(w.look(), []);
  await w.pass(1);
  assert.deepEqual(times(w.look()), [16000]);
});

test("a kick while a message is under way is none", async () => {
  const w = await living();
  await w.pass(12000);
  w.core.kick();
  assert.deepEqual(times(w.look()), [10000]);
});

test("a kick ends a back-off", async () => {
  const w = await living();
  await w.pass(10000);
  await w.refuse();
  w.look();
  await w.pass(1500);
  w.core.kick();
  assert.deepEqual(times(w.look()), [11500]);
});

test("a hidden page whose main thread keeps the time sends each message three times at once", async () => {
  const w = world({ driver: "main", visibility: "hidden" });
  w.core.start();
  assert.deepEqual(w.look(), [
    [0, "hello", 1],
    [0, "hello", 2],
    [0, "hello", 3],
  ]);
  await w.answer(w.sent[1]);
  await w.pass(10000);
  assert.deepEqual(w.look(), [
    [10000, "beat", 4],
    [10000, "beat", 5],
    [10000, "beat", 6],
  ]);
  await w.refuse(w.sent[5]);
  await w.refuse(w.sent[4]);
  assert.equal(w.state, "live");
  await w.refuse(w.sent[3]);
  assert.equal(w.state, "retrying");
});

test("neither a visible page nor a worker sends three", async () => {
  for (const session of [{ driver: "main" }, { visibility: "hidden" }]) {
    const w = await living(session);
    await w.pass(10000);
    assert.equal(w.look().length, 1);
  }
});

test("a refused token is asked for anew, and the hello goes out with it at once", async () => {
  const w = world({ token: "old" });
  w.core.start();
  await w.answer(w.last, {}, 401);
  assert.equal(w.state, "unauthorized");
  assert.equal(w.tokens.length, 1);
  await w.pass(300);
  w.tokens[0].resolve("new");
  await settle();
  assert.deepEqual(times(w.look()), [0, 300]);
  assert.equal(w.last.m.token, "new");
  await w.answer();
  assert.equal(w.state, "live");
});

test("a refused ticket is dropped for a token", async () => {
  const w = await living({ token: "old" });
  await w.pass(10000);
  assert.equal(w.last.m.token, undefined);
  await w.answer(w.last, {}, 401);
  w.tokens[0].resolve("new");
  await settle();
  assert.equal(w.last.at, 10000);
  assert.equal(w.last.m.ticket, undefined);
  assert.equal(w.last.m.token, "new");
  assert.equal(w.last.m.type, "beat");
});

test("the same token again, none, or no answer to the question makes no storm", async () => {
  for (const answer of [
    (asked) => asked.resolve("old"),
    (asked) => asked.reject(new Error("signed out")),
    () => {},
  ]) {
    const w = world({ token: "old" });
    w.core.start();
    await w.answer(w.last, {}, 401);
    answer(w.tokens[0]);
    await w.pass(1999);
    assert.equal(w.sent.length, 1);
    await w.pass(1);
    assert.equal(w.sent.length, 2);
  }
});

test("a token that comes late is used for what is sent next", async () => {
  const w = world({ token: "old" });
  w.core.start();
  await w.answer(w.last, {}, 401);
  await w.pass(2000);
  w.tokens[0].resolve("new");
  await settle();
  assert.equal(w.sent.length, 2);
  await w.refuse();
  await w.pass(2000);
  assert.equal(w.last.m.token, "new");
});

test("the gap is the longest time for which no timer ran since a message was answered", async () => {
  const w = await living();
  for (let second = 0; second < 9; second++) {
    await w.pass(1000);
    w.core.tick();
  }
  await w.pass(1000);
  assert.equal(w.last.m.gap_ms, 1000);
  await w.refuse();
  await w.sleep(1500);
  await w.pass(500);
  assert.equal(w.last.m.gap_ms, 2000);
  await w.refuse();
  for (let tick = 0; tick < 4; tick++) {
    await w.pass(500);
    w.core.tick();
  }
  assert.equal(w.last.m.gap_ms, 2000);
  await w.answer();
  for (let second = 0; second < 10; second++) {
    await w.pass(1000);
    w.core.tick();
  }
  assert.equal(w.last.m.gap_ms, 1000);
});

test("a message that was not our timer's tells the gap, too", async () => {
  const w = world();
  w.core.start();
  await w.answer();
  await w.sleep(9000);
  // Thawed: what the page says comes first, and only then the timers that are late.
  w.core.kick();
  assert.equal(w.last.m.gap_ms, 9000);
  await w.answer();
  w.core.kick();
  await w.pass(1000);
  w.core.kick();
  assert.equal(w.last.m.gap_ms, 1000);
});

test("a page that hangs has a gap, though its worker's timer runs", async () => {
  const w = await living();
  for (let second = 1; second < 10; second++) {
    w.lag = 1000 * second;
    await w.pass(1000);
    w.core.tick();
  }
  w.lag = 0;
  await w.pass(1000);
  assert.deepEqual([w.last.m.gap_ms, w.last.m.lag_ms], [9000, 0]);
  await w.answer();
  w.core.kick();
  await w.pass(1000);
  w.core.kick();
  assert.equal(w.last.m.gap_ms, 1000);
});

test("a sleep in which a clock stands is a gap by the other", async () => {
  for (const monotonic of [true, false]) {
    const w = await living();
    await w.pass(1000);
    w.core.tick();
    await w.sleep(60000, { monotonic });
    w.core.tick();
    assert.equal(w.last.m.gap_ms, 60000);
  }
});

test("a wall clock that is set back hides no gap", async () => {
  const w = await living();
  await w.pass(1000);
  w.core.tick();
  w.set(-60000);
  await w.sleep(20000);
  w.core.tick();
  assert.equal(w.last.m.gap_ms, 20000);
});

test("a sleep between a message and its answer is not forgotten with the answer", async () => {
  const w = await living();
  await w.pass(10000);
  await w.sleep(50000);
  await w.answer();
  await w.pass(10000);
  assert.equal(w.last.m.gap_ms, 50000);
});

test("a timer that was asleep beats when it wakes, and one that is late does not", async () => {
  const w = await living();
  await w.pass(1000);
  w.core.tick();
  await w.sleep(5000);
  w.core.tick();
  assert.deepEqual(w.look(), []);
  await w.sleep(5001);
  w.core.tick();
  assert.equal(w.look().length, 1);
});

test("a page that comes back from the cache tells that it slept", async () => {
  const w = await living();
  await w.pass(1000);
  w.core.leave();
  await w.sleep(70000);
  w.core.enter(1);
  assert.equal(w.last.m.gap_ms, 71000);
});

test("a session is handed over between two messages, with the time that is left", async () => {
  const w = await living();
  await w.pass(4000);
  assert.equal(w.core.release(), 6000);
  await w.pass(60000);
  w.core.kick();
  assert.deepEqual(w.look(), []);
  const worker = world({ ...structuredClone(w.s), driver: "worker" });
  worker.core.start(6000);
  await worker.pass(6000);
  assert.deepEqual(worker.look(), [[6000, "beat", 2]]);
  assert.equal(worker.last.m.ticket, "t1");
});

test("a session is not handed over while a message is under way, nor by one that has left", async () => {
  const w = world();
  assert.equal(w.core.release(), undefined);
  w.core.start();
  assert.equal(w.core.release(), undefined);
  await w.pass(499);
  await w.refuse();
  // Copies are still to come.
  assert.equal(w.core.release(), undefined);
  await w.pass(1);
  await w.answer();
  await w.pass(10000);
  // A beat is under way.
  assert.equal(w.core.release(), undefined);
  await w.answer();
  w.core.leave();
  assert.equal(w.core.release(), undefined);
});

test("a session that fails is handed over, too", async () => {
  const w = await living();
  await w.pass(10000);
  await w.refuse();
  assert.equal(w.core.release(), 2000);
});

test("a session may be handed over by whoever is told", async () => {
  const w = world({}, { sockets: true });
  w.onTell = () => w.core.release();
  w.core.start();
  await w.answer(w.last, { ...LIVE, ws: true });
  assert.equal(w.sockets.length, 0);
  await w.pass(60000);
  assert.equal(w.sent.length, 1);
});

test("a notice is passed on, also with a stop", async () => {
  const notice = { status: "Offline", set_at: "2026-01-31T12:00:00.000Z", why: "All closed.", restored: null };
  const w = await living();
  await w.pass(10000);
  await w.answer(w.last, { ...LIVE, notice });
  assert.deepEqual(w.events.at(-1).notice, notice);
  await w.pass(10000);
  await w.answer(w.last, { ...STOP, notice });
  assert.deepEqual(w.events.at(-1).notice, notice);
});

test("the page is told what it needs to say bye", async () => {
  const w = await living();
  const { incarnation, seq, ticket, open } = w.events.at(-1);
  assert.deepEqual({ incarnation, seq, ticket, open }, { incarnation: 0, seq: 1, ticket: "t1", open: true });
});

test("a bye has the ticket, and a number above all of its incarnation", () => {
  const { s } = world({ ticket: "t9", seq: 41, incarnation: 2 });
  const bye = JSON.parse(message(s, "bye", { reason: "pagehide" }));
  assert.deepEqual(bye, {
    agent: "arn",
    session_id: s.sessionId,
    type: "bye",
    incarnation: 2,
    seq: 2 ** 53 - 1,
    ticket: "t9",
    reason: "pagehide",
  });
  assert.equal(s.seq, 41);
});
