/**
 * The dedicated worker: keeps the time, since browsers throttle the timers of hidden pages and not those of workers, and
 * sends. It pings its page each second; for as long as the page does not answer, it hangs: `lag_ms`.
 */
import { createCore, wire } from "./core.js";

const PING_EVERY_MS = 1000;

/** @type {import("./core.js").Core | undefined} */
let core;
let askedAt = 0;
/** @type {((token: string | undefined) => void)[]} */
let tokens = [];

/** @type {import("./core.js").FromPage} */
const methods = {
  begin(s, url, ws, wait_ms) {
    s.driver = "worker";
    /** @type {import("./core.js").Io} */
    const io = {
      ...wire(globalThis, url, ws),
      lag: () => (askedAt ? Math.round(performance.now() - askedAt) : 0),
      token: () =>
        new Promise((resolve) => {
          tokens.push(resolve);
          postMessage(["token"]);
        }),
      tell: (event) => postMessage(["tell", event]),
    };
    const mine = (core = createCore(io, s));
    setInterval(() => {
      mine.tick();
      if (askedAt) return;
      askedAt = performance.now();
      postMessage(["ping"]);
    }, PING_EVERY_MS);
    mine.start(wait_ms);
  },
  pong() {
    // An answer that is under way is to find for how long the page hung.
    core?.tick();
    askedAt = 0;
  },
  token(token) {
    for (const resolve of tokens.splice(0)) resolve(token);
  },
  enter: (incarnation) => core?.enter(incarnation),
  leave: () => core?.leave(),
  set: (changes) => core?.set(changes),
  kick: () => core?.kick(),
};

onmessage = ({ data: [name, ...args] }) => methods[name](...args);
postMessage(["ready"]);
