/**
 * The page's half: owns the session and its incarnation, says bye, follows the page's life and Amazon Connect Streams,
 * and has a worker keep the time. Until the worker is ready, and where there is none, the page keeps it itself.
 *
 * Nothing here may throw into the page, or hold it up.
 */
import { createCore, message, wire } from "./core.js";

const STREAMS_EVERY_MS = 1000;
/** An event that was under way when the agent signed out does not sign in again. */
const TRAILING_MS = 1000;
/** A session that goes on is refreshed every 30 s at the latest. */
const DOUBT_MS = 60000;
const TOKEN_WITHIN_MS = 2000;
/** More than a worker can have sent since its page last heard from it. */
const UNHEARD = 1000;
/** Of a session that has not been answered yet. */
const LEASE_MS = 20000;
/** Characters of `meta`: the daemon refuses messages of more than 4 KiB. */
const MOST_META = 1000;

/** @type {<A extends any[], R>(work: (...args: A) => R) => (...args: A) => R | undefined} */
const safely =
  (work) =>
  (...args) => {
    try {
      return work(...args);
    } catch (error) {
      console.warn("presence:", error);
    }
  };

const visibility = () => document.visibilityState;

/** @param {string} agent */
const named = (agent) => {
  if (agent.startsWith("arn:")) return { agent };
  const [instance_id, user_id] = agent.split("/");
  return { instance_id, user_id };
};

const make = safely((/** @type {import("./presence.js").Options} */ options) => {
  /** @type {import("./core.js").Session} */
  const s = {
    who: {},
    sessionId: crypto.randomUUID(),
    incarnation: 0,
    seq: 0,
    open: false,
    gap: 0,
    driver: "main",
    visibility: "visible",
  };
  /** Bye has been said. */
  let left = false;
  /** The agent has signed out of Connect. */
  let out = false;
  let known = "";
  /** @type {Worker | undefined} */
  let worker;
  let ready = false;
  let driven = false;
  let begun = false;
  let ended = false;
  /** @type {import("./presence.js").Status["state"]} */
  let state = "connecting";
  let told = "";
  let noticed = "";
  /** The last answer, or since when one is waited for. */
  let heardAt = 0;
  let lease = LEASE_MS;
  /** @type {((value?: any) => void) | undefined} */
  let unlock;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  let watching;
  const { url, getToken, onStatus, onNotice } = options;
  const base = new URL(url || "..", url ? location.href : import.meta.url);
  const endpoint = base.href.replace(/\/*$/, "/v1/heartbeat");
  const ws = options.transport !== "post";
  const listening = new AbortController();

  const token = async () => {
    const given = await getToken?.();
    return given ? String(given) : undefined;
  };

  const status = (/** @type {"post" | "ws"} */ transport = "post") => {
    const { driver, sessionId } = s;
    if (state !== "retrying" && state !== "unauthorized") heardAt = performance.now();
    const atRisk = performance.now() - heardAt > lease / 2;
    const news = { state, driver, transport, sessionId, atRisk };
    const key = JSON.stringify(news);
    if (key === told) return;
    told = key;
    safely(() => onStatus?.(news))();
  };

  const tell = safely((/** @type {import("./core.js").CoreEvent} */ event) => {
    if (ended || event.incarnation < s.incarnation) return;
    const { notice, incarnation, seq, ticket, open } = event;
    if (!left) {
      Object.assign(s, { incarnation, seq, ticket, open });
      state = event.state;
      lease = event.ttl_ms || lease;
      status(event.transport);
    }
    const key = JSON.stringify(notice);
    if (notice && key !== noticed) {
      noticed = key;
      safely(() => onNotice?.(notice))();
    }
    // One that has just told a new incarnation is about to say hello in it.
    if (state !== "connecting") handOver();
  });

  const core = createCore({ ...wire(window, endpoint, ws), token, tell }, s);

  /** @type {(name: "kick" | "leave" | "enter" | "set", ...args: any[]) => void} */
  const drive = (name, ...args) => {
    if (driven) worker?.postMessage([name, ...args]);
    else core[name](.../** @type {[any]} */ (args));
  };

  const handOver = () => {
    if (!ready || !worker) return;
    const wait_ms = core.release();
    if (wait_ms === undefined) return;
    driven = true;
    // A hidden page without a worker has the longer lease: it is to end soon.
    const soon = state === "live" && s.visibility === "hidden";
    worker.postMessage(["begin", { ...s }, endpoint, ws, soon ? 0 : wait_ms]);
    s.driver = "worker";
    status();
  };

  const takeBack = () => {
    worker?.terminate();
    worker = undefined;
    if (!driven) return;
    driven = false;
    s.driver = "main";
    s.seq += UNHEARD;
    if (!left && !ended && state !== "stopped") core.start(0);
  };

  const hire = safely(() => {
    const at = new URL("./worker.js", import.meta.url);
    const elsewhere = at.origin !== location.origin;
    // A worker from another origin is refused; a module of our own may import it.
    const blob = elsewhere && new Blob([`import ${JSON.stringify(at.href)}`], { type: "text/javascript" });
    const source = blob && URL.createObjectURL(blob);
    worker = source
      ? new Worker(source, { type: "module" })
      : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.onerror = (event) => {
      // Else the page's own handler of errors hears of it.
      event.preventDefault();
      takeBack();
    };
    worker.onmessage = safely(({ data: [name, event] }) => {
      if (name === "ping") worker?.postMessage(["pong"]);
      else if (name === "tell") tell(event);
      else if (name === "token") {
        const answer = (/** @type {any} */ value) => worker?.postMessage(["token", value]);
        token().then(answer, () => answer(s.token));
      } else {
        ready = true;
        if (source) URL.revokeObjectURL(source);
        handOver();
      }
    });
  });

  const lock = () => {
    // A page that holds one is not frozen to save energy. One in the back-forward cache may not hold any.
    navigator.locks
      ?.request(`presence-${s.sessionId}`, { mode: "shared" }, () =>
        left ? undefined : new Promise((resolve) => (unlock = resolve)),
      )
      .catch(() => {});
  };

  /** @param {string} reason */
  const leave = (reason) => {
    if (!begun || ended) return;
    left = true;
    if (s.ticket) {
      const body = message(s, "bye", { reason: String(reason).slice(0, 200) });
      fetch(endpoint, { method: "POST", body, keepalive: true, credentials: "omit" }).catch(() => {});
      // Firefox drops the one when it quits, and some have no keepalive; blockers of content drop the other.
      navigator.sendBeacon?.(endpoint, body);
      s.ticket = undefined;
    }
    drive("leave");
    unlock?.();
    s.open = false;
    if (state !== "stopped") state = "away";
    status();
  };

  const back = () => {
    if (out || state === "stopped") return;
    left = false;
    const next = s.incarnation + 1;
    if (driven) {
      s.incarnation = next;
      s.ticket = undefined;
    }
    state = "connecting";
    lock();
    drive("enter", next);
  };

  const begin = () => {
    if (begun || ended) return;
    begun = true;
    // What is cut off is no JSON: it is warned of, and left out.
    if (options.meta) s.meta = safely(() => JSON.parse(JSON.stringify(options.meta).slice(0, MOST_META)))();
    s.visibility = visibility();
    lock();
    if (options.worker !== false) hire();
    status();
    const start = () => {
      // A page that has come back meanwhile has begun without the token; its worker may be at a new first number.
      if (!s.seq && !driven && !left && !ended) core.start();
    };
    if (!getToken) return start();
    setTimeout(safely(start), TOKEN_WITHIN_MS);
    token()
      .then((given) => (s.token = given))
      .catch(() => {})
      .then(safely(start));
  };

  /** @param {string} agent */
  const signedIn = (agent) => {
    if (ended || !agent) return;
    /** @type {Partial<import("./core.js").Session>} */
    const changes = { who: named(agent), login: true };
    if (begun && agent !== known) {
      leave("another agent");
      Object.assign(changes, { sessionId: crypto.randomUUID(), incarnation: -1 });
    }
    known = agent;
    out = false;
    Object.assign(s, changes);
    drive("set", changes);
    if (!begun) begin();
    else if (left) back();
  };

  const signedOut = () => {
    s.login = false;
    out = true;
    leave("signed out");
    // What stopped us has been done.
    if (state === "stopped") state = "away";
  };

  /** @param {() => import("./presence.js").Streams | undefined} find */
  const follow = (find) => {
    /** @type {unknown} */
    let bus;
    let outAt = -TRAILING_MS;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let doubt;
    const gone = safely(() => {
      outAt = performance.now();
      signedOut();
    });
    // The session is over, or one request of a log was refused: then the agent is refreshed all the same.
    const failed = safely(() => {
      clearTimeout(doubt);
      doubt = setTimeout(gone, DOUBT_MS);
    });
    const look = safely(() => {
      const streams = /** @type {import("./presence.js").Streams} */ (find());
      // There is none before initCCP, and another one after terminate().
      const now = streams?.core?.getEventBus?.();
      if (!now || now === bus) return;
      bus = now;
      now.subscribe(streams.EventType.TERMINATED, gone);
      now.subscribe(streams.EventType.AUTH_FAIL, failed);
      streams.agent((agent) => {
        const here = safely(() => {
          clearTimeout(doubt);
          if (out && performance.now() - outAt < TRAILING_MS) return;
          if (!begun || out) signedIn(agent.getAgentARN?.() || agent.getConfiguration().agentARN);
        });
        here();
        // The agent is announced once; after a new sign-in in the same page there are only refreshes.
        agent.onRefresh?.(here);
      });
    });
    look();
    watching = setInterval(look, STREAMS_EVERY_MS);
  };

  /** @param {EventTarget} target @param {string} type @param {(event: any) => void} then */
  const on = (target, type, then) => target.addEventListener(type, safely(then), { signal: listening.signal });

  const run = safely(() => {
    // Firefox stops what runs when a tab is closed, anywhere in it; the next listener runs.
    for (let times = 0; times < 2; times++) on(window, "pagehide", () => leave("pagehide"));
    on(window, "pageshow", (event) => {
      if (event.persisted && begun && left) back();
    });
    on(document, "visibilitychange", () => {
      s.visibility = visibility();
      drive("set", { visibility: s.visibility });
      if (s.visibility === "visible" || !driven) drive("kick");
    });
    const kick = () => drive("kick");
    on(window, "online", kick);
    on(document, "resume", kick);
    const { agent, streams } = options;
    if (streams) follow(typeof streams === "function" ? streams : () => streams);
    else if (agent) {
      s.who = named(agent);
      begin();
    } else throw new Error("Say who it is: `agent` or `streams`.");
  });

  // A page that is only prepared has nobody in front of it.
  if (/** @type {any} */ (document).prerendering) on(document, "prerenderingchange", run);
  else run();

  return {
    get sessionId() {
      return s.sessionId;
    },
    stop: safely((reason = "stop") => {
      if (ended) return;
      leave(reason);
      ended = true;
      state = "ended";
      status();
      worker?.terminate();
      clearInterval(watching);
      listening.abort();
    }),
  };
});

/** @type {typeof import("./presence.js").presence} */
export const presence = (options) => make(options) ?? { sessionId: "", stop() {} };

/** Starts by itself for `<script type="module" src="…/presence.js" data-agent="…">`, or `data-streams`. */
const auto = safely(() => {
  for (const tag of document.scripts) {
    const { agent, streams, url, token, worker, transport, banner } = /** @type {any} */ (tag.dataset);
    if (tag.src !== import.meta.url || (agent ?? streams) === undefined) continue;
    const show = (/** @type {"banner" | "warn"} */ how, /** @type {any} */ what) =>
      banner !== undefined && import("./banner.js").then((made) => made[how](what)).catch(() => {});
    presence({
      url,
      agent,
      streams: streams !== undefined && (() => /** @type {any} */ (window).connect),
      getToken: () => token,
      worker: /** @type {any} */ (worker !== "false"),
      transport,
      // The first comes while it can still be loaded.
      onStatus: ({ atRisk }) => show("warn", atRisk),
      onNotice: (notice) => show("banner", notice),
    });
  }
});
if (typeof document !== "undefined") auto();
