/** As much of a browser as the page's half touches. Each page is a new copy of the module in globals of its own. */
import { settle } from "./world.mjs";

const PRESENCE = new URL("../../watchdog/web/client/presence.js", import.meta.url);
const REAL = { setTimeout, clearTimeout, setInterval, clearInterval, console };
let copies = 0;

export const LIVE = { state: "live", next_ms: 10000, ttl_ms: 35000, ticket: "t1", boot: "b" };

/** Sets a global, also one that node has of its own. */
const put = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

export const page = async ({ scripts = [], prerendering = false, workers = true, prepare = () => {} } = {}) => {
  let now = 0;
  let timers = [];
  const p = {
    sent: [],
    beacons: [],
    workers: [],
    locks: 0,
    warnings: [],
    replies: LIVE,
    get last() {
      return p.sent.at(-1);
    },
    look: () => p.sent.splice(0).map(({ type, incarnation }) => `${type} ${incarnation}`),
    async pass(ms) {
      const until = now + ms;
      await settle();
      for (;;) {
        const next = timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        if (next.every) next.at += next.every;
        else timers = timers.filter((timer) => timer !== next);
        now = Math.max(now, next.every ? next.at - next.every : next.at);
        next.then();
        await settle();
      }
      now = until;
    },
    fire(target, type, more = {}) {
      target.dispatchEvent(Object.assign(new Event(type), more));
      return settle();
    },
    hide(hidden) {
      document.visibilityState = hidden ? "hidden" : "visible";
      return p.fire(document, "visibilitychange");
    },
    intervals: () => timers.filter((timer) => timer.every).length,
  };
  const add = (then, ms, every) => {
    const timer = { at: now + (ms ?? 0), then, every };
    timers.push(timer);
    return timer;
  };
  const remove = (timer) => (timers = timers.filter((each) => each !== timer));
  class FakeWorker {
    constructor(source, options) {
      if (!workers) throw new Error("SecurityError");
      Object.assign(this, { source: String(source), options, got: [], terminated: false });
      p.workers.push(this);
    }
    postMessage(message) {
      this.got.push(structuredClone(message));
    }
    say(...message) {
      this.onmessage({ data: message });
      return settle();
    }
    terminate() {
      this.terminated = true;
    }
  }
  const document = Object.assign(new EventTarget(), { visibilityState: "visible", prerendering, scripts });
  const window = new EventTarget();
  Object.assign(p, { document, window });
  const fetch = async (url, init) => {
    const m = JSON.parse(init.body);
    p.sent.push({ ...m, url: String(url), init });
    const replies = await p.replies;
    if (!replies) throw new TypeError("Failed to fetch");
    if (replies === "refused") return { status: 401, headers: new Headers(), json: async () => ({}) };
    return { status: 200, headers: new Headers(), json: async () => replies };
  };
  const globals = {
    window,
    document,
    fetch,
    location: { href: "https://ccp.example/page", origin: "https://ccp.example" },
    Worker: FakeWorker,
    performance: { now: () => now },
    setTimeout: add,
    clearTimeout: remove,
    setInterval: (then, ms) => add(then, ms, ms),
    clearInterval: remove,
    console: { ...console, warn: (...said) => p.warnings.push(said.map(String).join(" ")) },
    navigator: {
      sendBeacon: (url, body) => p.beacons.push([String(url), body]),
      locks: {
        request: async (_name, _options, held) => {
          await p.lockAfter;
          p.locks++;
          await held();
          p.locks--;
        },
      },
    },
  };
  for (const [name, value] of Object.entries(globals)) put(name, value);
  Object.assign(window, globals, { Date, Math, AbortController, console: globals.console });
  prepare(p);
  const href = `${PRESENCE.href}?copy=${copies++}`;
  for (const script of scripts) script.src ??= href;
  p.href = href;
  Object.assign(p, await import(href));
  await settle();
  return p;
};

export const restore = () => {
  for (const [name, value] of Object.entries(REAL)) put(name, value);
  delete globalThis.window;
  delete globalThis.document;
};

/** A stand-in of Amazon Connect Streams. Before `init` it has no bus, as the real one. */
export const streams = () => {
  let handlers = {};
  const bus = () => {
    const mine = (handlers = {});
    return { subscribe: (event, then) => (mine[event] ??= []).push(then) };
  };
  const s = {
    EventType: { TERMINATED: "terminated", AUTH_FAIL: "auth_fail" },
    arn: "arn:aws:connect:eu-central-1:123456789012:instance/i/agent/u",
    current: null,
    core: {
      getEventBus: () => s.current,
    },
    agent(then) {
      s.current.subscribe("init", then);
      if (s.initialized) then(s.person());
    },
    person: () => ({
      getAgentARN: s.old ? undefined : () => s.arn,
      getConfiguration: () => ({ agentARN: s.old ? s.arn : undefined }),
      onRefresh: (then) => s.current.subscribe("refresh", then),
    }),
    init() {
      s.current = bus();
    },
    trigger(event, data) {
      for (const then of handlers[event] ?? []) then(data);
      return settle();
    },
    signIn() {
      s.initialized = true;
      return s.trigger("init", s.person());
    },
  };
  return s;
};
