// The page: who may look, where one is, whether the daemon is there. What is shown is in the views.

import { agent } from "./agent.js";
import { agents } from "./agents.js";
import { Api, readToken } from "./api.js";
import { brake } from "./brake.js";
import { el, fill, say } from "./elements.js";
import { history as past } from "./history.js";
import { Model } from "./model.js";
import { overview } from "./overview.js";
import { settings } from "./settings.js";
import { follow } from "./stream.js";
import { time } from "./words.js";

const VIEWS = { "": overview, agents, agent, history: past, brake, settings };
const PLACES = [["", "Overview"], ["agents", "Agents"], ["history", "History"], ["brake", "Brake"], ["settings", "Settings"]];
const HIDDEN_MS = 60_000; // a page that nobody sees gives its stream back after this
const THEMES = ["auto", "light", "dark"];
const ID = /^[A-Za-z0-9-]{1,100}$/; // as heartbeats may have them; `..` in an address would lead elsewhere

const main = document.getElementById("main");
const bar = document.getElementById("bar");
const notices = document.getElementById("notices");
const model = new Model();
const api = new Api(() => on && signedOut("The token is not taken any more. Sign in again."));

let stream = null;
let view = null;
let leave = new AbortController();
let on = false;
let heard = ""; // id of the last event before the stream was given back
const link = { up: false, since: null, retryAt: null };

// Notices above the page: dry run, not reachable, faults of single questions.

const dry = el("p.notice.is-dry", { hidden: true }, el("strong", {}, "Dry run."), " Everything is decided and recorded; nothing is written to Amazon Connect.");
const lostText = el("span");
// It counts down: nobody wants to hear each second of it.
const lostWait = el("span", { "aria-hidden": "true" });
const lost = el("p.notice.is-bad", { hidden: true }, el("strong", {}, "The daemon cannot be reached. "), lostText, " ", lostWait, " ", el("button", { type: "button", onclick: () => stream?.now() }, "Try now"));
const faultText = el("span");
const fault = el("p.notice.is-warn", { hidden: true }, faultText, " ", el("button", { type: "button", onclick: () => (fault.hidden = true) }, "Close"));
notices.append(dry, lost, fault);

function failed(error) {
  if (error.name === "AbortError" || error.status === 401) return;
  if (error.status === 0 && !link.up) return;
  fault.hidden = false;
  say(faultText, error.message);
}

/** A problem of the daemon's, with its advice. */
const problem = (each) =>
  el(
    "div.problem",
    {},
    el("p", {}, el("span.mark.is-bad", {}, el("span.shape", { "aria-hidden": "true" }), el("strong", {}, each.code.replaceAll("_", " "))), el("small", {}, ` since ${time(each.since)}`)),
    el("p", {}, each.detail),
    el("p", {}, el("small", {}, "In the documentation: ", el("code", {}, `docs/troubleshooting.md, ${each.code}`))),
  );

// The bar.

const pill = el("span.pill", { role: "status" }, "connecting");
const links = PLACES.map(([place, text]) => el("a", { href: `#/${place}` }, text));
const theme = el("button.quiet", { type: "button", onclick: nextTheme });
const out = el("button.quiet", { type: "button", onclick: () => signedOut("") }, "Sign out");
bar.append(
  el("a.brand", { href: "#/", "aria-label": "Presence Watchdog" }, el("img", { src: "dashboard/icon.svg", alt: "", width: 22, height: 22 }), el("span", {}, "Presence Watchdog")),
  el("nav", { "aria-label": "Pages" }, links),
  el("div.right", {}, pill, theme, out),
);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

function nextTheme() {
  const at = THEMES.indexOf(localStorage.getItem("watchdog.theme") ?? "auto");
  localStorage.setItem("watchdog.theme", THEMES[(at + 1) % THEMES.length]);
  useTheme();
}

function useTheme() {
  const chosen = localStorage.getItem("watchdog.theme") ?? "auto";
  document.documentElement.dataset.theme = chosen;
  say(theme, `Theme: ${chosen}`);
  view?.theme?.();
}

// Another tab has chosen.
addEventListener("storage", useTheme);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.theme?.());

// Where one is.

function go() {
  if (!on) return;
  const [, place, asked = ""] = location.hash.match(/^#?\/?([^?]*)\??(.*)$/s);
  const [name, ...parts] = place.split("/").map(readable);
  const known = name === "agent" ? parts.length === 2 && parts.every((each) => ID.test(each)) : parts.length === 0;
  const make = known && Object.hasOwn(VIEWS, name) ? VIEWS[name] : null;
  leave.abort();
  view?.end();
  leave = new AbortController();
  fault.hidden = true;
  for (const [at, each] of links.entries()) {
    const here = PLACES[at][0] === (name === "agent" ? "agents" : name);
    if (here) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  view = (make ?? nowhere)({
    api,
    model,
    parts,
    params: new URLSearchParams(asked),
    signal: leave.signal,
    failed,
    problem,
    up: () => link.up,
    replace: (hash) => history.replaceState(null, "", hash),
  });
  document.title = `${view.title} – Presence Watchdog`;
  fill(main, view.main);
  view.update();
  scrollTo(0, 0);
  if (moved) main.focus({ preventScroll: true });
  moved = true;
}
let moved = false;

function readable(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const nowhere = () => ({
  main: el("div", {}, el("div.head", {}, el("h1", {}, "There is no such page")), el("p", {}, el("a", { href: "#/" }, "Overview"))),
  title: "Nowhere",
  update() {},
  end() {},
});

addEventListener("hashchange", go);

// Whether the daemon is there.

function listen() {
  stream?.stop();
  stream = follow({
    after: heard,
    open: (headers, signal) => api.fetch("v1/events", { headers: { accept: "text/event-stream", ...headers }, signal, limit_ms: 0 }),
    event(type, data) {
      if (type === "hello" && !link.up) linked(true, null);
      if (model.event(type, data)) soon();
    },
    link: linked,
  });
}

function linked(up, retryAt) {
  const news = up !== link.up;
  link.retryAt = retryAt;
  if (news) link.since = model.time();
  link.up = up;
  main.classList.toggle("is-stale", !up);
  pill.className = up ? "pill is-up" : "pill is-down";
  say(pill, up ? "live" : "not reachable");
  lost.hidden = up;
  if (news && up && view && model.boot !== null) {
    fault.hidden = true;
    view.again?.();
  }
  soon();
}

let waiting = false;
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!on) return;
    dry.hidden = !model.counts?.dry_run;
    view?.update();
  });
}

setInterval(() => {
  if (!on) return;
  if (link.up) {
    model.tick();
    soon();
  } else if (link.retryAt !== null && link.since !== null) {
    const wait = Math.max(0, Math.ceil((link.retryAt - performance.now()) / 1000));
    say(lostText, `What you see is as of ${time(link.since)}.`);
    say(lostWait, `Next attempt ${wait ? `in ${wait} s` : "now"}.`);
  }
}, 1000);

let unseen = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(unseen);
  if (!on) return;
  if (document.hidden) {
    unseen = setTimeout(rest, HIDDEN_MS);
  } else {
    if (stream === null) listen();
    // Timers of a hidden page go seldom: what it shows may be old.
    view?.again?.();
  }
});

function rest() {
  heard = stream?.lastId ?? heard;
  stream?.stop();
  stream = null;
}

// A page that is left, and may be kept for the way back, must not keep its connection: there are six for all tabs.
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => {
  if (event.persisted && on && stream === null) listen();
});

// Who may look.

function signedOut(why) {
  on = false;
  api.signOut();
  stream?.stop();
  stream = null;
  heard = "";
  leave.abort();
  view?.end();
  view = null;
  model.reset();
  bar.hidden = true;
  dry.hidden = lost.hidden = fault.hidden = true;
  main.classList.remove("is-stale");
  document.title = "Sign in – Presence Watchdog";
  fill(main, signIn(why));
  document.getElementById("token")?.focus();
}

function signIn(why) {
  const token = el("input", { id: "token", type: "password", autocomplete: "off", required: true, "aria-describedby": "token-hint", maxlength: 10_000 });
  const told = el("p.result.is-bad", { role: "alert", hidden: !why }, why);
  const button = el("button.primary", { type: "submit" }, "Sign in");
  return el(
    "form.signin.card",
    {
      async onsubmit(event) {
        event.preventDefault();
        const given = readToken(token.value);
        if (given === null) {
          told.hidden = false;
          say(told, "A token has no spaces and no letters but those of ASCII: something else was copied along, or instead.");
          token.focus();
          return;
        }
        button.disabled = true;
        say(button, "Asking…");
        api.signIn(given);
        try {
          await enter({ anew: true });
        } catch (error) {
          api.signOut();
          told.hidden = false;
          say(told, error.status === 401 ? "This is not an admin token of the daemon." : error.message);
          button.disabled = false;
          say(button, "Sign in");
          if (error.status === 401) token.value = "";
          token.focus();
        }
      },
    },
    el("img", { src: "dashboard/icon.svg", alt: "", width: 40, height: 40 }),
    el("h1", {}, "Presence Watchdog"),
    el("div.field", {}, el("label", { for: "token" }, "Admin token"), token),
    el("small", { id: "token-hint" }, "One of WATCHDOG_ADMIN_TOKENS, or a JWT with the scope watchdog:admin. It is kept in this tab until the tab is closed or you sign out, and is sent to this daemon only."),
    told,
    button,
  );
}

async function enter({ anew = false } = {}) {
  await api.status();
  if (anew) api.keep();
  if (model.boot === null) model.behind = api.behind;
  on = true;
  bar.hidden = false;
  useTheme();
  out.hidden = api.token === null;
  listen();
  go();
}

async function begin() {
  useTheme();
  try {
    await enter();
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      signedOut(error.status === 403 ? error.message : "");
      return;
    }
    fill(
      main,
      el(
        "div.signin.card",
        {},
        el("h1", {}, error.status ? "The daemon is not ready" : "The daemon cannot be reached"),
        el("p", {}, error.message),
        el("p.under", {}, "It is tried again by itself."),
      ),
    );
    setTimeout(begin, 5000);
  }
}

begin();
