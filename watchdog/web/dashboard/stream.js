// GET v1/events, read with fetch: an EventSource cannot send a token. Source: the HTML standard, "Server-sent events".

/** Text in pieces to events. */
export class Parser {
  constructor() {
    this.rest = "";
    this.lastId = "";
    this.clear();
  }

  clear() {
    this.type = "";
    this.data = [];
  }

  /** @returns {{type: string, data: string}[]} */
  feed(text) {
    const found = [];
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.data.length) found.push({ type: this.type || "message", data: this.data.join("\n") });
        this.clear();
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "event") this.type = value;
      else if (name === "data") this.data.push(value);
      else if (name === "id" && !value.includes("\0")) this.lastId = value;
    }
    return found;
  }
}

export const SILENT_MS = 25_000; // the daemon says something every 10 s
export const MOST_WAIT_MS = 30_000;

/** Milliseconds until the next attempt: doubling, and drawn so that not all come at once. */
export function backOff(failures, random = Math.random()) {
  const most = Math.min(MOST_WAIT_MS, 1000 * 2 ** Math.min(failures, 10));
  return Math.round(most / 2 + (random * most) / 2);
}

/**
 * Reads events until `stop()`, and comes back after each end.
 *
 * @param {object} options
 * @param {(headers: Record<string, string>, signal: AbortSignal) => Promise<Response>} options.open
 * @param {(type: string, data: any) => void} options.event
 * @param {string} [options.after] Id of the last event of an earlier stream, whose place this one takes.
 * @param {(up: boolean, retryAt: number | null, error: Error | null) => void} options.link
 */
export function follow({ open, event, link, after = "" }) {
  let stopped = false;
  let failures = 0;
  let lastId = after;
  let abort = new AbortController();
  let wake = () => {};

  async function once() {
    abort = new AbortController();
    let heard = setTimeout(() => abort.abort(), SILENT_MS);
    const answer = await open(lastId ? { "last-event-id": lastId } : {}, abort.signal).finally(() => clearTimeout(heard));
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    const parser = new Parser();
    parser.lastId = lastId;
    try {
      for (;;) {
        heard = setTimeout(() => abort.abort(), SILENT_MS);
        const { done, value } = await reader.read().finally(() => clearTimeout(heard));
        if (done || stopped) return;
        for (const each of parser.feed(decoder.decode(value, { stream: true }))) {
          if (failures || each.type === "hello") link(true, null, null);
          failures = 0;
          event(each.type, JSON.parse(each.data));
        }
        lastId = parser.lastId;
      }
    } finally {
      abort.abort();
    }
  }

  async function run() {
    while (!stopped) {
      let failed = null;
      try {
        await once();
      } catch (error) {
        failed = error;
      }
      if (stopped) return;
      const wait = backOff(failures++);
      link(false, performance.now() + wait, failed);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, wait);
      });
    }
  }

  run();
  return {
    stop() {
      stopped = true;
      abort.abort();
      wake();
    },
    now: () => wake(),
    get lastId() {
      return lastId;
    },
  };
}
