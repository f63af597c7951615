// What the page knows of the daemon: filled by the stream, read by the views. An hour of samples, and no more.

export const MOST_SAMPLES = 720;
export const MOST_ACTIONS = 50;
const EVERY_MS = 5000;

/** Milliseconds since 1970, as the browser's clock was when the page was loaded: who sets the clock changes nothing. */
export const now = () => performance.timeOrigin + performance.now();

export class Model {
  constructor() {
    this.reset();
  }

  reset() {
    this.boot = null;
    this.version = "";
    this.counts = null;
    this.calls = null;
    this.brake = null;
    this.problems = [];
    /** The last answer of v1/status; null before the first one. */
    this.status = null;
    this.recent = [];
    /** Rows of `fields`. */
    this.samples = [];
    this.fields = [];
    this.sampledAt = 0;
    this.behind = 0; // seconds by which the reader's clock differs from the daemon's
    this.rate = null;
    this.beats = [];
    this.called = [];
    this.generation = 0; // up by one when the history must be read anew
  }

  /** @returns {boolean} Whether anything is different. */
  event(type, data, at = now()) {
    if (type === "hello") {
      if (this.boot !== null && this.boot !== data.boot) this.generation++;
      this.boot = data.boot;
      this.version = data.version;
      this.behind = data.at - at / 1000;
      this.fields = data.series.fields;
      this.samples = data.series.samples;
      this.sampledAt = at;
      this.beats = [];
      this.called = [];
    } else if (type === "counts") {
      this.counts = data;
    } else if (type === "calls" || type === "brake" || type === "problems") {
      this[type] = data;
    } else if (type === "action") {
      this.recent = [data, ...this.recent.filter((each) => each.id !== data.id)].slice(0, MOST_ACTIONS);
    } else if (type === "lost" || type === "reset") {
      this.generation++;
    } else {
      return false;
    }
    return true;
  }

  /** The daemon's time, in seconds since 1970, whatever the browser's clock says. */
  time() {
    return now() / 1000 + this.behind;
  }

  /** To be called each second while the stream is up. */
  tick(ms = now()) {
    if (this.counts === null) return;
    const at = ms / 1000 + this.behind;
    this.beats = [...this.beats, [at, this.counts.heartbeats]].filter(([then]) => at - then <= 12);
    this.called = [...this.called, [at, this.calls]].filter(([then]) => at - then <= 12);
    const [first, beats] = this.beats[0];
    const passed = at - first;
    this.rate = passed >= 2 && this.counts.heartbeats >= beats ? (this.counts.heartbeats - beats) / passed : null;
    if (ms - this.sampledAt < EVERY_MS) return;
    this.sampledAt = ms;
    const row = this.fields.map((name) => (name === "at" ? at : name === "heartbeats" ? this.counts.heartbeats : this.counts.agents[name]));
    this.samples = [...this.samples, row].slice(-MOST_SAMPLES);
  }

  /** Calls of Connect by operation: a second, over the last ten, and in all. */
  used() {
    const used = new Map();
    const [first, before] = this.called[0] ?? [0, null];
    const passed = this.called.length ? this.called.at(-1)[0] - first : 0;
    for (const [operation, result, count] of this.calls ?? []) {
      const each = used.get(operation) ?? { rate: 0, all: 0, throttled: 0, failed: 0, lately: 0 };
      each.all += count;
      if (result === "throttled") each.throttled += count;
      else if (result !== "ok") each.failed += count;
      each.lately += count - (before?.find(([one, other]) => one === operation && other === result)?.[2] ?? (before ? 0 : count));
      each.rate = passed >= 2 ? Math.round((each.lately / passed) * 10) / 10 : 0;
      used.set(operation, each);
    }
    return used;
  }

  column(name) {
    const at = this.fields.indexOf(name);
    return this.samples.map((row) => row[at] ?? null);
  }

  /** Heartbeats a second between samples; null where the daemon has begun anew. */
  rates() {
    const at = this.column("at");
    const beats = this.column("heartbeats");
    return beats.map((count, row) => {
      const passed = row ? at[row] - at[row - 1] : 0;
      if (passed <= 0 || count < beats[row - 1] || passed > 60) return null;
      return Math.round(((count - beats[row - 1]) / passed) * 10) / 10;
    });
  }
}
