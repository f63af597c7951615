/**
 * What the client does and when: hellos, beats, copies, retries, the socket. No DOM, no globals: network, clocks, timers
 * and chance come in as `io`, so that the page, its worker and the tests run the same.
 *
 * The numbers are those of docs/http.md, "How a client should behave"; docs/loss.md is computed from them.
 */

const TIMEOUT_MS = 4000;
const HELLOS = 10;
const HELLO_EVERY_MS = 500;
const QUICK_FOR_MS = 20000;
const MOST_BACKOFF_MS = 15000;
const LEAST_BACKOFF_MS = 500;
/** A hidden page whose main thread keeps the time wakes once a minute: two chances within a lease. */
const THROTTLED_COPIES = 3;
/** Events of one cause come together (`online`, `resume`, `visible`): one kick. */
const KICK_EVERY_MS = 1000;
/** A timer of one second that is this late was asleep. */
const SLEPT_MS = 5000;
/** Sockets that fail are opened again after 9 minutes at most. */
const MOST_PATIENCE = 32;
/** Where a reply does not say when to come again. */
const NEXT_MS = 10000;
/** Whatever a reply says: no lease is so long, and a timer of more than 2^31 ms runs at once. */
const LONGEST_MS = 3600000;

/** @type {typeof import("./core.js").message} */
export const message = (s, type, more) =>
  JSON.stringify({
    ...s.who,
    session_id: s.sessionId,
    type,
    incarnation: s.incarnation,
    // A bye is the last of its incarnation, whatever a worker may still have sent.
    seq: type === "bye" ? Number.MAX_SAFE_INTEGER : ++s.seq,
    ticket: s.ticket,
    ...more,
  });

/** @type {typeof import("./core.js").createCore} */
export const createCore = (io, s) => {
  let active = false;
  /** The next attempt is that of a page that has just come: hello again and again. */
  let fresh = false;
  /** The socket's first message is a hello, also of a session that lives. */
  let greet = false;
  /** @type {"hello" | "beat"} */
  let kind = "hello";
  /** Of the attempt under way; answers to an earlier one do not count. */
  let run = 0;
  let waiting = 0;
  let copies = 0;
  let every = 0;
  let due = 0;
  let notBefore = 0;
  let sentAt = -KICK_EVERY_MS;
  /** @type {number | undefined} */
  let failingSince;
  /** @type {(() => void) | undefined} */
  let cancel;
  let ranAt = io.now();
  let ranWall = io.wall();
  /** The longest gap since the attempt began: what stays when it is answered. */
  let later = 0;
  /** @type {import("./core.js").Socket | undefined} */
  let socket;
  let connected = false;
  let connectAfter = 0;
  /** Doubles with each socket that brings no answer: a proxy, or the page's policy, may allow none at all. */
  let patience = 1;
  /** @type {((answer: import("./core.js").Answer | null) => void)[]} */
  let replies = [];

  /** Notes that our own timer runs, and returns for how long it did not. */
  const ran = () => {
    const now = io.now();
    const wall = io.wall();
    // One of the two stands while the machine sleeps, on some systems.
    const gap = Math.max(now - ranAt, wall - ranWall);
    // While its page hangs, a worker's timer proves nothing.
    const worst = Math.max(gap, io.lag?.() || 0);
    ranAt = now;
    ranWall = wall;
    s.gap = Math.max(s.gap, worst);
    later = Math.max(later, worst);
    return gap;
  };

  /** @param {import("./core.js").CoreState} state @param {Partial<import("./core.js").Reply>} [data] */
  const tell = (state, { notice, ttl_ms } = {}) =>
    io.tell({
      state,
      notice,
      ttl_ms,
      transport: connected ? "ws" : "post",
      incarnation: s.incarnation,
      seq: s.seq,
      ticket: s.ticket,
      open: s.open,
    });

  /** Ends the attempt or the nap. */
  const end = () => {
    run++;
    waiting = copies = 0;
    cancel?.();
    cancel = undefined;
  };

  /** @param {number} ms */
  const nap = (ms) => {
    end();
    due = io.now() + ms;
    cancel = io.after(Math.min(ms, LONGEST_MS), begin);
  };

  /** @param {string} body @returns {[Promise<import("./core.js").Answer | null>, () => void]} */
  const via = (body) => {
    const mine = socket;
    if (!connected || !mine) return io.post(body);
    const reply = new Promise((resolve) => replies.push(resolve));
    mine.send(body);
    return [reply, () => mine === socket && drop()];
  };

  const copy = () => {
    const mine = run;
    copies--;
    waiting++;
    sentAt = io.now();
    const body = message(s, kind, {
      token: s.ticket ? undefined : s.token,
      visibility: s.visibility,
      driver: s.driver,
      login: s.login,
      lag_ms: io.lag?.(),
      gap_ms: Math.round(s.gap),
      meta: kind === "hello" ? s.meta : undefined,
    });
    const { seq } = s;
    const [reply, abort] = via(body);
    let done = false;
    /** @param {import("./core.js").Answer | null} answer */
    const settle = (answer) => {
      if (done) return;
      done = true;
      stop();
      if (mine !== run) return;
      waiting--;
      answered(seq, answer);
    };
    const stop = io.after(TIMEOUT_MS, () => {
      ran();
      abort();
      settle(null);
    });
    reply.then(settle, () => settle(null));
    if (copies < 1) return;
    if (every) {
      cancel = io.after(every, () => {
        ran();
        copy();
      });
    } else copy();
  };

  const begin = () => {
    // What wakes a page may come before its timers.
    ran();
    end();
    const throttled = s.driver === "main" && s.visibility === "hidden";
    kind = s.open && !greet ? "beat" : "hello";
    every = throttled ? 0 : HELLO_EVERY_MS;
    // Copies are lost apart from each other; what a socket carries is not.
    copies = connected ? 1 : throttled ? THROTTLED_COPIES : fresh ? HELLOS : 1;
    fresh = greet = false;
    later = 0;
    copy();
  };

  /** @param {number} [wait_ms] @param {import("./core.js").CoreState} [state] */
  const failed = (wait_ms, state = "retrying") => {
    const now = io.now();
    failingSince ??= now;
    if (wait_ms) notBefore = now + wait_ms;
    nap(
      wait_ms ||
        (now - failingSince < QUICK_FOR_MS
          ? 1000 + 2000 * io.random()
          : Math.max(LEAST_BACKOFF_MS, MOST_BACKOFF_MS * io.random())),
    );
    tell(state);
  };

  /** @param {number} seq @param {import("./core.js").Answer | null} answer */
  const answered = (seq, answer) => {
    const old = answer?.data.state === "unknown" && seq < s.seq;
    if (!answer || old || (answer.status >= 500 && !answer.retry_ms)) {
      if (!waiting && !copies) failed();
      return;
    }
    if (answer.status === 200 && answer.data.state) {
      told(answer.data);
      return;
    }
    if (answer.status === 401) {
      s.ticket = undefined;
      failed(0, "unauthorized");
      const mine = run;
      io.token().then(
        (token) => {
          if (token === s.token) return;
          s.token = token;
          if (mine === run && active) begin();
        },
        () => {},
      );
      return;
    }
    failed(answer.retry_ms);
  };

  /** @param {import("./core.js").Reply} data */
  const told = (data) => {
    ran();
    s.gap = later;
    if (data.state === "unknown") {
      s.incarnation++;
      s.seq = 0;
      s.ticket = undefined;
      s.open = false;
      if (kind === "hello") return failed();
      fresh = true;
      // First, so that the page has the number before it may have to say bye with it.
      tell("connecting");
      return begin();
    }
    if (data.state === "stop") {
      leave();
      return tell("stopped", data);
    }
    failingSince = undefined;
    s.open = true;
    s.ticket = data.ticket ?? s.ticket;
    nap(Math.max(LEAST_BACKOFF_MS, Number(data.next_ms) || NEXT_MS));
    tell("live", data);
    // Whoever was told may have taken the session over.
    if (data.ws && active && !socket && io.connect && io.now() >= connectAfter) connect(io.connect);
  };

  /** @param {NonNullable<import("./core.js").Io["connect"]>} dial */
  const connect = (dial) => {
    /** @type {import("./core.js").Socket | undefined} */
    let mine;
    const closed = () => {
      if (mine && socket === mine) drop();
    };
    try {
      mine = socket = dial({
        open() {
          if (socket !== mine) return;
          connected = greet = true;
          begin();
        },
        message(text) {
          if (socket !== mine) return;
          let data;
          try {
            data = JSON.parse(text);
          } catch {}
          // A refusal is told in full to a POST.
          if (!data?.state) return drop();
          patience = 1;
          const reply = replies.shift();
          if (reply) reply({ status: 200, data });
          else told(data);
        },
        close: closed,
      });
    } catch {
      drop();
    }
  };

  /** Gives the socket up, and goes on by POST at once. */
  const drop = () => {
    const was = connected;
    hangUp();
    connectAfter = io.now() + patience * (1000 + MOST_BACKOFF_MS * io.random());
    patience = Math.min(2 * patience, MOST_PATIENCE);
    if (was && active) begin();
  };

  const hangUp = () => {
    const old = socket;
    socket = undefined;
    connected = false;
    replies = [];
    old?.close();
  };

  const leave = () => {
    active = false;
    end();
    hangUp();
  };

  const kick = () => {
    const now = io.now();
    if (active && !waiting && !copies && now >= notBefore && now - sentAt >= KICK_EVERY_MS) begin();
  };

  /** @param {number} [wait_ms] */
  const start = (wait_ms) => {
    active = true;
    ranAt = io.now();
    ranWall = io.wall();
    if (wait_ms === undefined) {
      fresh = true;
      begin();
    } else nap(wait_ms);
  };

  return {
    start,
    enter(incarnation) {
      ran();
      leave();
      s.incarnation = Math.max(incarnation, s.incarnation + 1);
      s.seq = 0;
      s.ticket = failingSince = undefined;
      s.open = false;
      notBefore = 0;
      tell("connecting");
      start();
    },
    leave,
    release() {
      if (!active || waiting || copies) return undefined;
      const wait_ms = connected ? 0 : Math.max(0, due - io.now());
      leave();
      return wait_ms;
    },
    set(changes) {
      Object.assign(s, changes);
    },
    kick,
    tick() {
      if (ran() > SLEPT_MS) kick();
    },
  };
};

/** @type {typeof import("./core.js").wire} */
export const wire = (scope, url, ws) => ({
  now: () => scope.performance.now(),
  wall: () => scope.Date.now(),
  random: () => scope.Math.random(),
  after(ms, then) {
    const timer = scope.setTimeout(then, ms);
    return () => scope.clearTimeout(timer);
  },
  // A text is sent as text/plain, which needs no preflight.
  post(body) {
    const abort = new scope.AbortController();
    const asked = scope.fetch(url, { method: "POST", body, credentials: "omit", signal: abort.signal });
    return [
      asked.then(async (reply) => ({
        status: reply.status,
        retry_ms: 1000 * Number(reply.headers.get("retry-after")) || 0,
        data: (await reply.json().catch(() => 0)) || {},
      })),
      () => abort.abort(),
    ];
  },
  connect: ws
    ? (on) => {
        const socket = new scope.WebSocket(url.replace(/^http(.*)heartbeat$/, "ws$1ws"), "watchdog.v1");
        socket.onopen = on.open;
        socket.onmessage = (event) => on.message(event.data);
        socket.onclose = socket.onerror = on.close;
        return socket;
      }
    : undefined,
});
