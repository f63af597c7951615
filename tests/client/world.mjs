/** A core on a clock that only the test moves; what it sends is listed, and answered by the test. */
import { createCore } from "../../watchdog/web/client/core.js";

/** Lets what was promised be done. */
export const settle = async () => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
};

export const LIVE = { state: "live", next_ms: 10000, ttl_ms: 35000, ticket: "t1", boot: "b" };

export const world = (session = {}, { sockets = false } = {}) => {
  let now = 0;
  let wallAhead = 0;
  let timers = [];
  const w = {
    /** Everything that was posted: `at`, the message, and how to answer it. */
    sent: [],
    events: [],
    chance: 0.5,
    sockets: [],
    tokens: [],
    lag: undefined,
    s: {
      who: { agent: "arn" },
      sessionId: "00000000-0000-4000-8000-000000000000",
      incarnation: 0,
      seq: 0,
      open: false,
      gap: 0,
      driver: "worker",
      visibility: "visible",
      ...session,
    },
    get now() {
      return now;
    },
    get last() {
      return w.sent.at(-1);
    },
    get state() {
      return w.events.at(-1)?.state;
    },
    /** What was posted since the last look, as `[at, type, seq]`. */
    looked: 0,
    look: () => w.sent.slice(w.looked, (w.looked = w.sent.length)).map(({ at, m }) => [at, m.type, m.seq]),
    /** Time passes; timers run when they are due. */
    async pass(ms) {
      const until = now + ms;
      await settle();
      for (;;) {
        const next = timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        timers = timers.filter((timer) => timer !== next);
        now = Math.max(now, next.at);
        next.then();
        await settle();
      }
      now = until;
    },
    /** The machine sleeps: no timer runs. Some clocks stand meanwhile. */
    async sleep(ms, { monotonic = true } = {}) {
      if (monotonic) now += ms;
      else wallAhead += ms;
      await settle();
    },
    /** Somebody sets the time of day. */
    set(ms) {
      wallAhead += ms;
    },
    async answer(which, data = LIVE, status = 200, retry_ms = 0) {
      (which ?? w.last).resolve({ status, data, retry_ms });
      await settle();
    },
    async refuse(which) {
      (which ?? w.last).reject(new TypeError("Failed to fetch"));
      await settle();
    },
    get timers() {
      return timers.length;
    },
  };
  const io = {
    now: () => now,
    wall: () => 1e12 + now + wallAhead,
    random: () => w.chance,
    after(ms, then) {
      const timer = { at: now + ms, then };
      timers.push(timer);
      return () => (timers = timers.filter((each) => each !== timer));
    },
    post(body) {
      const call = { at: now, m: JSON.parse(body), aborted: false };
      const reply = new Promise((resolve, reject) => Object.assign(call, { resolve, reject }));
      w.sent.push(call);
      return [
        reply,
        () => {
          call.aborted = true;
          call.reject(new Error("aborted"));
        },
      ];
    },
    connect: sockets
      ? (on) => {
          if (w.noSockets) throw new Error("SecurityError");
          const socket = {
            on,
            at: now,
            sent: [],
            closed: false,
            send: (text) => socket.sent.push({ at: now, m: JSON.parse(text) }),
            // As in a browser, the event comes later, if at all.
            close: () => (socket.closed = true),
          };
          w.sockets.push(socket);
          return socket;
        }
      : undefined,
    token: () => new Promise((resolve, reject) => w.tokens.push({ resolve, reject })),
    lag: () => w.lag,
    tell: (event) => {
      w.events.push(event);
      w.onTell?.(event);
    },
  };
  w.core = createCore(io, w.s);
  return w;
};

/** A world whose page has just been answered, at 0. */
export const living = async (session, options) => {
  const w = world(session, options);
  w.core.start();
  await w.answer();
  w.look();
  return w;
};
