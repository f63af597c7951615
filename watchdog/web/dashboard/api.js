// What is asked of the daemon, and the token that it is asked with.
//
// The token is kept in the tab's sessionStorage: it survives a reload, ends with the tab, goes to no other tab and is
// never sent by the browser itself, as a cookie would be.

import { now } from "./model.js";

const KEY = "watchdog.token";

/** A refusal, or no answer at all (status 0). */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

/**
 * What somebody has put into the field as a token, without what comes along when it is copied.
 *
 * @returns {string | null} null if no token can be so: a header takes visible ASCII. Source: RFC 6750, section 2.1.
 */
export function readToken(text) {
  const token = text.trim().replace(/^bearer\s+/i, "");
  return /^[\x21-\x7e]*$/.test(token) ? token : null;
}

export class Api {
  /** @param {() => void} refused Called when the token is not taken any more. */
  constructor(refused) {
    this.refused = refused;
    this.token = sessionStorage.getItem(KEY);
    this.behind = 0; // seconds by which the reader's clock differs from the daemon's, to a second
  }

  signIn(token) {
    this.token = token || null;
  }

  /** Only a token that was taken is kept. */
  keep() {
    if (this.token) sessionStorage.setItem(KEY, this.token);
  }

  signOut() {
    this.token = null;
    sessionStorage.removeItem(KEY);
  }

  headers(more = {}) {
    return this.token ? { authorization: `Bearer ${this.token}`, ...more } : more;
  }

  /** An answer that is not an error. */
  async fetch(path, { signal, method = "GET", body, headers = {}, limit_ms = 20_000 } = {}) {
    const limit = limit_ms ? AbortSignal.timeout(limit_ms) : null;
    const signals = [signal, limit].filter(Boolean);
    let answer;
    try {
      answer = await fetch(path, {
        method,
        signal: signals.length ? AbortSignal.any(signals) : undefined,
        headers: this.headers(body === undefined ? headers : { "content-type": "application/json", ...headers }),
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, "No answer", limit?.aborted ? "The daemon has not answered in time." : "The daemon cannot be reached.");
    }
    const date = Date.parse(answer.headers.get("date") ?? "");
    if (!Number.isNaN(date)) this.behind = (date - now()) / 1000;
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    if (answer.status === 401) this.refused();
    throw new Problem(answer.status, told.title ?? answer.statusText, told.detail ?? `The answer was ${answer.status}.`);
  }

  async json(path, options) {
    return (await this.fetch(path, options)).json();
  }

  status = (options) => this.json("v1/status", options);
  settings = (options) => this.json("v1/settings", options);
  agents = (asked, options) => this.json(`v1/agents?${query(asked)}`, options);
  agent = (instance, user, options) => this.json(path(instance, user), options);
  actions = (asked, options) => this.json(`v1/actions?${query(asked)}`, options);
  csv = (asked) => this.fetch(`v1/actions.csv?${query(asked)}`, { limit_ms: 0 });
  logOut = (instance, user, body) => this.fetch(`${path(instance, user)}/logout`, { method: "POST", body, limit_ms: 45_000 });
  cancel = (instance, user, body) => this.json(`${path(instance, user)}/cancel`, { method: "POST", body });
  brake = (body) => this.json("v1/brake", { method: "PUT", body });
}

const path = (instance, user) => `v1/agents/${encodeURIComponent(instance)}/${encodeURIComponent(user)}`;

function query(asked) {
  const given = Object.entries(asked).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
}
