import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { createElement, Element } from "./element.mjs";
import { LIVE, page, restore, streams } from "./page.mjs";
import { settle } from "./world.mjs";

afterEach(restore);

const AGENT = "arn:aws:connect:eu-central-1:123456789012:instance/i/agent/u";
const URL_ = "https://watchdog.example/w/";

/** A page that is live, its first messages looked at. */
const started = async (options = {}, browser = {}) => {
  const p = await page(browser);
  p.statuses = [];
  p.handle = p.presence({ url: URL_, agent: AGENT, onStatus: (status) => p.statuses.push(status), ...options });
  await settle();
  p.look();
  return p;
};

/** The same, after its worker has taken over. */
const driven = async (options = {}) => {
  const p = await started(options);
  const [worker] = p.workers;
  await worker.say("ready");
  worker.got.length = 0;
  return [p, worker];
};

const told = (event) => ({ state: "live", transport: "post", incarnation: 0, seq: 9, ticket: "w", open: true, ...event });

test("a page says hello at once, without waiting for its worker", async () => {
  const p = await page();
  p.presence({ url: URL_, agent: "i/u" });
  await settle();
  const [{ url, init, ...hello }] = p.sent;
  assert.equal(url, "https://watchdog.example/w/v1/heartbeat");
  assert.deepEqual(
    [hello.type, hello.instance_id, hello.user_id, hello.driver, hello.visibility, hello.login],
    ["hello", "i", "u", "main", "visible", undefined],
  );
  assert.equal(init.credentials, "omit");
  assert.equal(init.headers, undefined); // a text alone is text/plain: no preflight
});

test("each page load has a session of its own", async () => {
  const ids = [];
  for (let load = 0; load < 2; load++) ids.push((await started()).handle.sessionId);
  assert.match(ids[0], /^[0-9a-f-]{36}$/);
  assert.notEqual(ids[0], ids[1]);
});

test("the worker takes over between two messages", async () => {
  const p = await started();
  const [worker] = p.workers;
  assert.equal(worker.options.type, "module");
  await p.pass(4000);
  await worker.say("ready");
  const [name, session, url, ws, wait_ms] = worker.got[0];
  assert.deepEqual([name, url, ws, wait_ms], ["begin", "https://watchdog.example/w/v1/heartbeat", true, 6000]);
  assert.deepEqual([session.seq, session.ticket, session.open], [1, "t1", true]);
  assert.equal(p.statuses.at(-1).driver, "worker");
  await p.pass(60000);
  assert.deepEqual(p.look(), []);
});

test("the worker of a page that was opened in the background beats at once: it needs no longer lease", async () => {
  const p = await page();
  p.document.visibilityState = "hidden";
  p.presence({ url: URL_, agent: AGENT });
  await settle();
  await p.workers[0].say("ready");
  assert.equal(p.workers[0].got[0][4], 0);
  const q = await page();
  q.document.visibilityState = "hidden";
  q.replies = null;
  q.presence({ url: URL_, agent: AGENT });
  await settle();
  await q.workers[0].say("ready");
  // Whoever is not answered keeps to the rules for that.
  assert.ok(q.workers[0].got[0][4] >= 1000);
});

test("a worker that is ready early waits for the first answer", async () => {
  const p = await page();
  p.replies = null;
  p.presence({ url: URL_, agent: AGENT });
  await p.workers[0].say("ready");
  await p.pass(600);
  assert.equal(p.workers[0].got.length, 0);
  p.replies = LIVE;
  await p.pass(500);
  assert.equal(p.workers[0].got[0][0], "begin");
});

test("a worker elsewhere is made of a module of our own that imports it", async () => {
  const p = await started();
  // The module is a file: here, and the page is not.
  assert.match(p.workers[0].source, /^blob:/);
});

test("without a worker the page goes on, chained on the replies", async () => {
  for (const [options, browser] of [
    [{ worker: false }, {}],
    [{}, { workers: false }],
  ]) {
    const p = await started(options, browser);
    await p.pass(20000);
    assert.deepEqual(p.look(), ["beat 0", "beat 0"]);
    assert.equal(p.statuses.at(-1).driver, "main");
  }
});

test("a worker that fails gives the session back, and the page's error handler hears nothing", async () => {
  const [p, worker] = await driven();
  await worker.say("tell", told());
  let prevented = false;
  worker.onerror({ preventDefault: () => (prevented = true) });
  await p.pass(0);
  assert.equal(worker.terminated, true);
  assert.equal(prevented, true);
  assert.deepEqual([p.last.type, p.last.ticket, p.last.driver], ["beat", "w", "main"]);
  assert.ok(p.last.seq > 1000);
});

test("a worker that fails after the bye wakes nobody", async () => {
  const [p, worker] = await driven();
  await p.fire(p.window, "pagehide", { persisted: true });
  p.look();
  worker.onerror({ preventDefault() {} });
  await p.pass(60000);
  assert.deepEqual(p.look(), []);
});

test("a page answers its worker", async () => {
  const [, worker] = await driven();
  await worker.say("ping");
  assert.deepEqual(worker.got, [["pong"]]);
});

test("a page that goes says bye with the ticket, in a request that outlives it", async () => {
  const p = await started();
  await p.fire(p.window, "pagehide");
  assert.deepEqual(
    [p.last.type, p.last.ticket, p.last.incarnation, p.last.reason],
    ["bye", "t1", 0, "pagehide"],
  );
  assert.equal(p.last.init.keepalive, true);
  assert.equal(p.last.init.credentials, "omit");
  assert.equal(p.last.init.headers, undefined);
  assert.deepEqual(p.beacons, [[p.last.url, p.last.init.body]], "in another one, too, which a browser that quits sends");
  p.look();
  await p.fire(p.window, "pagehide");
  await p.pass(60000);
  assert.deepEqual(p.look(), []);
  assert.equal(p.beacons.length, 1);
});

test("a bye that was cut short is said by the next listener", async () => {
  const p = await started();
  const { fetch } = globalThis;
  globalThis.fetch = () => {
    globalThis.fetch = fetch;
    throw new Error("stopped");
  };
  p.look();
  await p.fire(p.window, "pagehide");
  assert.deepEqual(p.look(), ["bye 0"]);
});

test("a page whose hello was not answered has no ticket, and says no bye", async () => {
  const p = await page();
  p.replies = null;
  p.presence({ url: URL_, agent: AGENT });
  await settle();
  p.look();
  await p.fire(p.window, "pagehide");
  assert.deepEqual(p.look(), []);
});

test("the bye has the ticket and the incarnation that the worker has", async () => {
  const [p, worker] = await driven();
  await worker.say("tell", told({ incarnation: 3, ticket: "t3" }));
  await p.fire(p.window, "pagehide", { persisted: true });
  assert.deepEqual([p.last.type, p.last.incarnation, p.last.ticket], ["bye", 3, "t3"]);
  assert.deepEqual(worker.got.at(-1), ["leave"]);
});

test("a page that comes back from the cache says hello in the next incarnation", async () => {
  const p = await started();
  assert.equal(p.locks, 1);
  await p.fire(p.window, "pagehide", { persisted: true });
  // A page that holds a lock is not cached.
  assert.equal(p.locks, 0);
  await p.fire(p.window, "pageshow", { persisted: true });
  assert.deepEqual(p.look(), ["bye 0", "hello 1"]);
  assert.equal(p.locks, 1);
  assert.equal(p.statuses.at(-1).state, "live");
});

test("the page dictates the number to its worker, and old news of it does not count", async () => {
  const [p, worker] = await driven();
  await worker.say("tell", told({ incarnation: 2 }));
  await p.fire(p.window, "pagehide", { persisted: true });
  await p.fire(p.window, "pageshow", { persisted: true });
  assert.deepEqual(worker.got.at(-1), ["enter", 3]);
  p.look();
  await worker.say("tell", told({ incarnation: 2, ticket: "old" }));
  await p.fire(p.window, "pagehide", { persisted: true });
  assert.deepEqual(p.look(), []);
});

test("an answer that comes when the page has left changes nothing", async () => {
  const [p, worker] = await driven();
  await p.fire(p.window, "pagehide", { persisted: true });
  p.look();
  await worker.say("tell", told({ ticket: "late" }));
  assert.equal(p.statuses.at(-1).state, "away");
  p.handle.stop();
  assert.deepEqual(p.look(), []);
});

test("a page that goes while its token is awaited says nothing", async () => {
  const p = await started({ getToken: () => new Promise(() => {}) });
  await p.fire(p.window, "pagehide", { persisted: true });
  await p.pass(2000);
  assert.deepEqual(p.look(), []);
});

test("a lock that is granted when the page has left is not held", async () => {
  const p = await page();
  let grant;
  p.lockAfter = new Promise((resolve) => (grant = resolve));
  p.presence({ url: URL_, agent: AGENT });
  await settle();
  await p.fire(p.window, "pagehide", { persisted: true });
  grant();
  await settle();
  assert.equal(p.locks, 0);
});

test("an unknown session is handed over only when its hello has been answered", async () => {
  const p = await started();
  let answer;
  p.replies = new Promise((resolve) => (answer = resolve));
  await p.pass(10000);
  const [worker] = p.workers;
  await worker.say("ready");
  assert.equal(worker.got.length, 0);
  p.replies = LIVE;
  answer({ state: "unknown" });
  await p.pass(0);
  await settle();
  assert.deepEqual(p.look(), ["beat 0", "hello 1"]);
  assert.deepEqual(
    worker.got.map(([name, session]) => [name, session.incarnation, session.open]),
    [["begin", 1, true]],
  );
});

test("the first show of a page is no return", async () => {
  const p = await started();
  await p.fire(p.window, "pageshow", { persisted: false });
  assert.deepEqual(p.look(), []);
});

test("what is visible is told, and looking at the page beats at once", async () => {
  const [p, worker] = await driven();
  await p.hide(true);
  assert.deepEqual(worker.got.splice(0), [["set", { visibility: "hidden" }]]);
  await p.hide(false);
  assert.deepEqual(worker.got, [["set", { visibility: "visible" }], ["kick"]]);
});

test("a page without a worker tells at once that it is hidden: it needs the longer lease", async () => {
  const p = await started({ worker: false });
  await p.pass(2000);
  await p.hide(true);
  assert.deepEqual(
    p.sent.map(({ type, visibility }) => [type, visibility]),
    [1, 2, 3].map(() => ["beat", "hidden"]),
  );
});

test("one kick on each of online, resume and visible", async () => {
  const [p, worker] = await driven();
  await p.fire(p.window, "online");
  await p.fire(p.document, "resume");
  assert.deepEqual(worker.got, [["kick"], ["kick"]]);
});

test("stop says why, and is for good", async () => {
  const [p, worker] = await driven();
  p.handle.stop("shift is over");
  assert.deepEqual([p.last.type, p.last.reason], ["bye", "shift is over"]);
  assert.equal(worker.terminated, true);
  assert.equal(p.statuses.at(-1).state, "ended");
  await settle();
  assert.equal(p.locks, 0);
  p.look();
  p.handle.stop();
  await p.fire(p.window, "pageshow", { persisted: true });
  await p.fire(p.window, "online");
  await worker.say("tell", told());
  await p.hide(true);
  await p.pass(60000);
  assert.deepEqual(p.look(), []);
  assert.equal(p.statuses.at(-1).state, "ended");
  assert.deepEqual(worker.got, [["leave"]]);
});

test("a token is asked for before the hello", async () => {
  const p = await started({ getToken: async () => "secret" });
  const q = await page();
  q.presence({ url: URL_, agent: AGENT, getToken: async () => "secret" });
  await settle();
  assert.equal(q.sent[0].token, "secret");
  assert.equal(p.statuses.at(-1).state, "live");
});

test("a token that cannot be had, or does not come, holds nothing up", async () => {
  for (const getToken of [
    () => {
      throw new Error("signed out");
    },
    () => new Promise(() => {}),
  ]) {
    const p = await page();
    p.presence({ url: URL_, agent: AGENT, getToken });
    await p.pass(2000);
    assert.deepEqual(p.look(), ["hello 0"]);
  }
});

test("a page that came back while its token was awaited begins once", async () => {
  let give;
  const p = await started({ getToken: () => new Promise((resolve) => (give = resolve)) });
  await p.fire(p.window, "pagehide");
  await p.fire(p.window, "pageshow", { persisted: true });
  const [worker] = p.workers;
  await worker.say("ready");
  assert.deepEqual(p.look(), ["hello 1"]);
  give("late");
  await p.pass(60000);
  assert.deepEqual(p.look(), []);
  assert.equal(worker.got.filter(([name]) => name === "begin").length, 1);
});

test("the wait for a token ends with the first hello, whatever its worker is at when the page hangs meanwhile", async () => {
  const p = await started({ getToken: async () => "secret" });
  const [worker] = p.workers;
  await worker.say("ready");
  p.look();
  await worker.say("tell", told({ state: "connecting", incarnation: 1, seq: 0, ticket: undefined, open: false }));
  await p.pass(2000);
  assert.deepEqual(p.look(), []);
});

test("a worker's question for a token is answered by the page", async () => {
  let token = "first";
  const [, worker] = await driven({ getToken: () => token });
  token = "second";
  await worker.say("token");
  assert.deepEqual(worker.got, [["token", "second"]]);
});

test("a notice is passed on once for each change", async () => {
  const notices = [];
  const [, worker] = await driven({ onNotice: (notice) => notices.push(notice.restored) });
  const notice = { status: "Offline", set_at: "2026-01-31T12:00:00.000Z", why: "x", restored: null };
  for (const restored of [null, null, "Available", "Available"])
    await worker.say("tell", told({ notice: { ...notice, restored } }));
  assert.deepEqual(notices, [null, "Available"]);
});

/** Whether the agent is to be warned, at each change of that, with the second. */
const risks = async (p, s) => {
  const found = [];
  for (let at = 0; at < s; at++) {
    const { atRisk } = p.statuses.at(-1);
    if (atRisk !== (found.at(-1)?.[1] ?? false)) found.push([at, atRisk]);
    await p.pass(1000);
  }
  return found;
};

test("the agent is to be warned when half of the lease is over, and no longer when the page is heard", async () => {
  for (const options of [{}, { worker: false }]) {
    const p = await started(options);
    p.replies = null;
    const [[at, risk], ...more] = await risks(p, 30);
    // An attempt fails each 1 to 3 s, from the tenth second on.
    assert.ok(risk && at > 17 && at <= 22, `${at} s`);
    assert.deepEqual(more, []);
    p.replies = LIVE;
    await p.pass(15000);
    assert.deepEqual([p.statuses.at(-1).state, p.statuses.at(-1).atRisk], ["live", false]);
  }
});

test("the lease is the one that the daemon gives, also to a worker", async () => {
  const [p, worker] = await driven();
  await worker.say("tell", told({ ttl_ms: 150000 }));
  await p.pass(70000);
  await worker.say("tell", told({ state: "retrying" }));
  assert.equal(p.statuses.at(-1).atRisk, false);
  await p.pass(6000);
  await worker.say("tell", told({ state: "retrying" }));
  assert.equal(p.statuses.at(-1).atRisk, true);
});

test("a page that was never answered, or whose token is refused, warns too", async () => {
  for (const [replies, state] of [
    [null, "retrying"],
    ["refused", "unauthorized"],
  ]) {
    const p = await page();
    p.replies = replies;
    p.statuses = [];
    p.presence({ url: URL_, agent: AGENT, onStatus: (status) => p.statuses.push(status) });
    await p.pass(9000);
    assert.equal(p.statuses.at(-1).atRisk, false);
    await p.pass(16000);
    assert.deepEqual([p.statuses.at(-1).state, p.statuses.at(-1).atRisk], [state, true]);
  }
});

test("who signs out, comes late, or comes back is not warned of what was before", async () => {
  const s = streams();
  s.init();
  const p = await page();
  p.statuses = [];
  p.presence({ url: URL_, streams: s, onStatus: (status) => p.statuses.push(status) });
  await p.pass(600000);
  p.replies = null;
  await s.signIn();
  await p.pass(5000);
  assert.deepEqual(p.statuses.map(({ atRisk }) => atRisk).includes(true), false);
  await p.pass(20000);
  assert.equal(p.statuses.at(-1).atRisk, true);
  await s.trigger("terminated");
  assert.deepEqual([p.statuses.at(-1).state, p.statuses.at(-1).atRisk], ["away", false]);
  await p.pass(60000);
  await s.trigger("refresh");
  await p.pass(5000);
  assert.equal(p.statuses.at(-1).atRisk, false);
});

test("a page that was logged out is silent, whatever it does, until a new sign-in", async () => {
  const p = await started();
  p.replies = { state: "stop" };
  await p.pass(10000);
  assert.equal(p.statuses.at(-1).state, "stopped");
  p.look();
  await p.hide(true);
  await p.hide(false);
  await p.fire(p.window, "online");
  await p.fire(p.window, "pagehide", { persisted: true });
  p.look();
  await p.fire(p.window, "pageshow", { persisted: true });
  await p.pass(60000);
  assert.deepEqual(p.look(), []);
});

test("nothing that a page gives us throws into it", async () => {
  const p = await page();
  const broken = () => {
    throw new Error("the page's own");
  };
  for (const options of [undefined, {}, { agent: 7 }, { url: "http://[", agent: AGENT }, { streams: {} }]) {
    const handle = p.presence(options);
    handle.stop();
  }
  assert.ok(p.warnings.length >= 4);
  const q = await started({ onStatus: broken, onNotice: broken, getToken: broken });
  await q.pass(2000);
  q.handle.stop({ toString: broken });
});

test("what cannot be sent with a hello, or would make it too long for the daemon, is left out, and the page is there", async () => {
  for (const [meta, sent, warnings] of [
    [{ big: 1n }, undefined, 1],
    [{ long: "x".repeat(4000) }, undefined, 1],
    [{ desk: 7 }, { desk: 7 }, 0],
    [undefined, undefined, 0],
  ]) {
    const p = await page();
    p.presence({ url: URL_, agent: AGENT, meta });
    await settle();
    assert.deepEqual(p.last.meta, sent);
    assert.equal(p.warnings.length, warnings);
    assert.deepEqual(p.look(), ["hello 0"]);
  }
});

test("a page that is only prepared says nothing before somebody looks at it", async () => {
  const p = await page({ prerendering: true });
  p.presence({ url: URL_, agent: AGENT });
  await settle();
  assert.deepEqual(p.look(), []);
  await p.fire(p.document, "prerenderingchange");
  assert.deepEqual(p.look(), ["hello 0"]);
  const q = await page({ prerendering: true });
  q.presence({ url: URL_, agent: AGENT }).stop();
  await q.fire(q.document, "prerenderingchange");
  assert.deepEqual(q.look(), []);
  assert.equal(q.workers.length, 0);
  const r = await page({ prerendering: true });
  r.presence({ url: URL_, streams: () => undefined }).stop();
  await r.fire(r.document, "prerenderingchange");
  assert.equal(r.intervals(), 0);
});

test("a script tag starts by itself, with what its attributes say", async () => {
  const p = await page({
    scripts: [
      { src: "https://ccp.example/other.js", dataset: { agent: "x/y" } },
      { dataset: { agent: "i/u", url: "https://watchdog.example", token: "secret", worker: "false" } },
      { dataset: {} },
    ],
  });
  assert.deepEqual(
    p.sent.map(({ url, user_id, token }) => [url, user_id, token]),
    [["https://watchdog.example/v1/heartbeat", "u", "secret"]],
  );
  assert.equal(p.workers.length, 0);
  // That of a page that imports the module by itself says nothing; one whose agent was not filled in warns.
  assert.deepEqual(p.warnings, []);
  const q = await page({ scripts: [{ dataset: { agent: "" } }] });
  assert.equal(q.warnings.length, 1);
  assert.deepEqual(q.sent, []);
});

test("a script tag shows the banner, which it has before it is needed, or not", async () => {
  const shown = async (dataset) => {
    const body = new Element();
    const p = await page({
      scripts: [{ dataset: { agent: "i/u", worker: "false", ...dataset } }],
      prepare: ({ document }) => Object.assign(document, { body, createElement }),
    });
    const loaded = async () => {
      await import("../../watchdog/web/client/banner.js");
      await settle();
      await p.pass(100);
    };
    await loaded();
    const early = body.children.length;
    p.replies = { ...LIVE, notice: { status: "Offline", set_at: "2026-01-31T12:00:00Z", why: "x", restored: null } };
    await p.pass(10000);
    await loaded();
    p.replies = null;
    await p.pass(25000);
    await loaded();
    return [early, body.said.filter((text) => text !== "Close").map((text) => text.slice(0, 24))];
  };
  assert.deepEqual(await shown({}), [0, []]);
  assert.deepEqual(await shown({ banner: "" }), [1, ["The watchdog cannot hear", "You were set to Offline "]]);
});

test("a script tag without an address means where the script is from", async () => {
  const p = await page({ scripts: [{ dataset: { agent: "i/u" } }] });
  assert.ok(p.sent[0].url.endsWith("/watchdog/web/v1/heartbeat"));
});

// Streams.

const following = async (s = streams(), options = {}) => {
  const p = await page();
  p.statuses = [];
  p.handle = p.presence({ url: URL_, streams: s, onStatus: ({ state }) => p.statuses.push(state), ...options });
  await settle();
  return [p, s];
};

test("the agent is taken from Streams, whenever it is initialised, and counts as signed in", async () => {
  for (const kind of [{}, { old: true }]) {
    const s = Object.assign(streams(), kind);
    const [p] = await following(s);
    await p.pass(5000);
    s.init();
    await p.pass(1000);
    assert.deepEqual(p.look(), []);
    await s.signIn();
    assert.deepEqual([p.last.type, p.last.agent, p.last.login], ["hello", s.arn, true]);
    assert.equal(p.warnings.length, 0);
    await p.fire(p.window, "pagehide", { persisted: true });
    p.look();
    await s.trigger("refresh");
    assert.deepEqual(p.look(), []);
  }
});

test("an agent who is there already is taken at once, and a script that loads later is found", async () => {
  const s = streams();
  s.init();
  s.initialized = true;
  const [p] = await following(s);
  assert.deepEqual(p.look(), ["hello 0"]);
  const q = await page({ scripts: [{ dataset: { streams: "" } }] });
  await q.pass(3000);
  q.window.connect = s;
  await q.pass(1000);
  assert.deepEqual(q.look(), ["hello 0"]);
});

test("a refused request is no sign-out where the agent is refreshed all the same", async () => {
  const s = streams();
  s.init();
  const [p] = await following(s);
  await s.signIn();
  await p.pass(5000);
  for (let minute = 0; minute < 3; minute++) {
    await s.trigger("auth_fail");
    await p.pass(30000);
    await s.trigger("refresh");
    await p.pass(30000);
  }
  assert.equal(p.statuses.at(-1), "live");
  assert.ok(p.look().slice(1).every((said) => said.startsWith("beat")));
});

for (const signOut of [
  (s) => s.trigger("terminated"),
  async (s, p) => {
    await s.trigger("auth_fail");
    await p.pass(30000);
    await s.trigger("auth_fail");
    await p.pass(59000);
    assert.ok(p.look().every((said) => said.startsWith("beat")));
    await p.pass(1000);
  },
])
  test(`a sign-out is a bye, and a new sign-in a hello: ${signOut}`, async () => {
    const s = streams();
    s.init();
    const [p] = await following(s);
    await s.signIn();
    await p.pass(5000);
    p.look();
    await signOut(s, p);
    assert.equal(p.last.reason, "signed out");
    assert.deepEqual(p.look(), ["bye 0"]);
    assert.equal(p.statuses.at(-1), "away");
    // An update that was under way.
    await p.pass(500);
    await s.trigger("refresh");
    await p.fire(p.window, "pageshow", { persisted: true });
    await p.pass(30000);
    assert.deepEqual(p.look(), []);
    await s.trigger("refresh");
    assert.deepEqual(p.look(), ["hello 1"]);
    assert.equal(p.last?.agent, undefined);
  });

test("nobody signed in is no sign-out: the first sign-in is a hello like any other", async () => {
  const s = streams();
  s.init();
  const [p] = await following(s);
  await s.trigger("auth_fail");
  await p.pass(62000);
  assert.deepEqual(p.look(), []);
  await s.signIn();
  assert.deepEqual(p.look(), ["hello 0"]);
});

test("another agent in the same page has another session", async () => {
  const s = streams();
  s.init();
  const [p] = await following(s);
  await s.signIn();
  const first = p.handle.sessionId;
  await s.trigger("terminated");
  await p.pass(10000);
  p.look();
  s.arn = s.arn.replace("/u", "/v");
  await s.signIn();
  assert.notEqual(p.handle.sessionId, first);
  assert.deepEqual([p.last.type, p.last.agent, p.last.session_id], ["hello", s.arn, p.handle.sessionId]);
  assert.equal(p.last.incarnation, 0);
});

test("an agent who was logged out by an order and signs in again is there", async () => {
  const s = streams();
  s.init();
  const [p] = await following(s);
  await s.signIn();
  p.replies = { state: "stop" };
  await p.pass(10000);
  assert.equal(p.statuses.at(-1), "stopped");
  await s.trigger("refresh");
  p.look();
  p.replies = LIVE;
  await s.trigger("terminated");
  await p.pass(5000);
  p.look();
  await s.trigger("refresh");
  assert.deepEqual(p.look(), ["hello 1"]);
});

test("a new bus is followed, too", async () => {
  const s = streams();
  s.init();
  const [p] = await following(s);
  await s.signIn();
  s.init();
  await p.pass(1000);
  p.look();
  await s.trigger("terminated");
  assert.deepEqual(p.look(), ["bye 0"]);
});

test("stop ends the following", async () => {
  const s = streams();
  s.init();
  const [p] = await following(s);
  assert.equal(p.intervals(), 1);
  p.handle.stop();
  assert.equal(p.intervals(), 0);
  await s.signIn();
  assert.deepEqual(p.look(), []);
});

test("who has ended hears of nothing any more, neither of a sign-out nor from a worker", async () => {
  const s = streams();
  s.init();
  const notices = [];
  const [p] = await following(s, { onNotice: (notice) => notices.push(notice) });
  await s.signIn();
  p.handle.stop();
  assert.equal(p.statuses.at(-1), "ended");
  await s.trigger("terminated");
  await p.workers[0].say("tell", told({ notice: { status: "Offline", set_at: "2026-01-01T00:00:00Z" } }));
  assert.equal(p.statuses.at(-1), "ended");
  assert.deepEqual(notices, []);
});
