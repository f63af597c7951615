import assert from "node:assert/strict";
import { test } from "node:test";
import { LIVE, living, settle, world } from "./world.mjs";

const OFFER = { ...LIVE, ws: true };
const reply = async (socket, data = LIVE) => {
  socket.on.message(JSON.stringify(data));
  await settle();
};

/** A world that beats over its socket since 100. */
const tethered = async () => {
  const w = world({}, { sockets: true });
  w.core.start();
  await w.answer(w.last, OFFER);
  await w.pass(100);
  const [socket] = w.sockets;
  socket.on.open();
  await reply(socket);
  w.look();
  return [w, socket];
};

test("a socket that is offered is opened, and its first message is a hello", async () => {
  const w = world({}, { sockets: true });
  w.core.start();
  await w.answer(w.last, OFFER);
  assert.equal(w.sockets.length, 1);
  assert.equal(w.events.at(-1).transport, "post");
  await w.pass(100);
  w.sockets[0].on.open();
  assert.deepEqual(
    w.sockets[0].sent.map(({ at, m }) => [at, m.type, m.seq, m.ticket]),
    [[100, "hello", 2, "t1"]],
  );
  await reply(w.sockets[0], { ...LIVE, ticket: "t2" });
  assert.equal(w.events.at(-1).transport, "ws");
  assert.equal(w.s.ticket, "t2");
  await w.pass(10000);
  assert.equal(w.sockets[0].sent.at(-1).m.type, "beat");
  assert.equal(w.sent.length, 1);
});

test("no socket without an offer, nor where none is wanted", async () => {
  const w = await living({}, { sockets: true });
  assert.equal(w.sockets.length, 0);
  const post = world();
  post.core.start();
  await post.answer(post.last, OFFER);
  assert.equal(post.state, "live");
});

test("posts go on until the socket is open", async () => {
  const w = world({}, { sockets: true });
  w.core.start();
  await w.answer(w.last, OFFER);
  await w.pass(10000);
  assert.equal(w.sent.length, 2);
  await w.answer(w.last, OFFER);
  assert.equal(w.sockets.length, 1);
});

test("a socket that closes is followed by a post at once", async () => {
  const [w, socket] = await tethered();
  await w.pass(3000);
  socket.on.close();
  assert.deepEqual(w.look(), [[3100, "beat", 3]]);
  await w.answer(w.last, OFFER);
  assert.equal(w.events.at(-1).transport, "post");
  // Its second event, and those of an old socket, mean nothing.
  socket.on.close();
  socket.on.open();
  await reply(socket, { state: "stop" });
  assert.equal(w.state, "live");
  assert.equal(w.sent.length, 2);
});

test("a socket is not opened again at once", async () => {
  const [w, socket] = await tethered();
  socket.on.close();
  await w.answer(w.last, OFFER);
  assert.equal(w.sockets.length, 1);
  await w.pass(10000);
  await w.answer(w.last, OFFER);
  // 1 s and half of 15.
  assert.equal(w.sockets.length, 2);
});

/** An hour in which every post is answered; returns how many sockets were opened. */
const hour = async (w, meet) => {
  let met = w.sockets.length;
  const before = met;
  let answered = 0;
  for (let second = 0; second < 3600; second++) {
    while (answered < w.sent.length) await w.answer(w.sent[answered++], OFFER);
    while (met < w.sockets.length) await meet(w.sockets[met++]);
    await w.pass(1000);
  }
  return met - before;
};

for (const [what, meet] of [
  ["do not open", (socket) => socket.on.close()],
  ["bring no answer", (socket) => socket.on.open()],
])
  test(`sockets that ${what} are opened ever more rarely, until one has brought an answer`, async () => {
    const w = world({}, { sockets: true });
    w.core.start();
    const opened = await hour(w, meet);
    assert.ok(opened >= 10 && opened <= 20, String(opened));
    const again = await hour(w, async (socket) => {
      socket.on.open();
      await reply(socket);
      socket.on.close();
    });
    assert.ok(again >= 100, String(again));
  });

test("a message without an answer within 4 s closes the socket, and is posted at once", async () => {
  const [w, socket] = await tethered();
  await w.pass(10000);
  assert.equal(socket.sent.length, 2);
  await w.pass(3999);
  assert.deepEqual(w.look(), []);
  await w.pass(1);
  assert.equal(socket.closed, true);
  assert.deepEqual(w.look(), [[14100, "beat", 4]]);
  assert.equal(w.state, "live");
});

test("what an old socket still has to say, or did not answer, does not touch the next", async () => {
  const [w, old] = await tethered();
  w.chance = 0;
  await w.pass(10000);
  assert.equal(old.sent.length, 2);
  old.on.close();
  await w.answer(w.last, { ...OFFER, next_ms: 1000 });
  await w.pass(1000);
  await w.answer(w.last, OFFER);
  const next = w.sockets[1];
  next.on.open();
  await reply(next, { ...LIVE, ticket: "t5" });
  assert.equal(w.s.ticket, "t5");
  assert.equal(w.events.at(-1).transport, "ws");
  old.on.close();
  // The time-out of what the old one did not answer.
  await w.pass(5000);
  assert.equal(next.closed, false);
  await w.pass(5000);
  assert.equal(next.sent.length, 2);
});

test("a refusal over the socket is asked for again by post", async () => {
  const [w, socket] = await tethered();
  await w.pass(10000);
  await reply(socket, { type: "urn:watchdog:problem:unauthorized", status: 401 });
  assert.equal(socket.closed, true);
  assert.deepEqual(w.look(), [[10100, "beat", 4]]);
  socket.on.message("not JSON");
  assert.equal(w.sent.length, 2);
});

test("what is not JSON closes the socket", async () => {
  const [w, socket] = await tethered();
  socket.on.message("<html>");
  assert.equal(socket.closed, true);
  assert.equal(w.look().length, 1);
});

test("answers over the socket come in order, and what was not asked for is heard, too", async () => {
  const [w, socket] = await tethered();
  const notice = { status: "Offline", set_at: "x", why: "y", restored: null };
  await reply(socket, { ...LIVE, notice });
  assert.deepEqual(w.events.at(-1).notice, notice);
  await reply(socket, { state: "stop" });
  assert.equal(w.state, "stopped");
  assert.equal(socket.closed, true);
  await w.pass(60000);
  assert.deepEqual(w.look(), []);
});

test("unknown over the socket is one hello in the next incarnation", async () => {
  const [w, socket] = await tethered();
  await w.pass(10000);
  await reply(socket, { state: "unknown" });
  assert.deepEqual([socket.sent.at(-1).m.type, socket.sent.at(-1).m.incarnation], ["hello", 1]);
  await w.pass(3000);
  assert.equal(socket.sent.length, 3);
});

test("a hidden page without a worker sends no copies over a socket", async () => {
  const w = world({ driver: "main", visibility: "hidden" }, { sockets: true });
  w.core.start();
  await w.answer(w.sent[0], OFFER);
  w.sockets[0].on.open();
  await reply(w.sockets[0]);
  await w.pass(10000);
  assert.equal(w.sockets[0].sent.length, 2);
});

test("a socket that cannot be made leaves the posts alone", async () => {
  const w = world({}, { sockets: true });
  w.noSockets = true;
  w.core.start();
  await w.answer(w.last, OFFER);
  assert.equal(w.state, "live");
  await w.pass(10000);
  assert.equal(w.sent.length, 2);
});

test("a socket that never opened ends without a kick", async () => {
  const w = world({}, { sockets: true });
  w.core.start();
  await w.answer(w.last, OFFER);
  w.sockets[0].on.close();
  await w.pass(9999);
  assert.equal(w.sent.length, 1);
});

test("who leaves hangs up, and a socket that opens later stays silent", async () => {
  const w = world({}, { sockets: true });
  w.core.start();
  await w.answer(w.last, OFFER);
  w.core.leave();
  assert.equal(w.sockets[0].closed, true);
  w.sockets[0].on.open();
  assert.deepEqual(w.sockets[0].sent, []);
});

test("a session that has a socket is handed over without it, at once", async () => {
  const [w, socket] = await tethered();
  await w.pass(2000);
  assert.equal(w.core.release(), 0);
  assert.equal(socket.closed, true);
  assert.deepEqual(w.look(), []);
});
