// The table of agents: searched and cut into pages by the daemon, so that it stays quick with tens of thousands.

import { Countdowns, el, fill, mark, say } from "./elements.js";
import { agentLink } from "./decision.js";
import { OUTCOMES, STATES, duration, left, number, time } from "./words.js";

const PAGE = 50;
const AGAIN_MS = 5000;
const TYPED_MS = 60; // after the last of several keys; the first one is asked for at once

export function agents(page) {
  const { model, api, params } = page;
  const asked = {
    state: Object.hasOwn(STATES, params.get("state")) ? params.get("state") : "",
    profile: params.get("profile") ?? "",
    q: params.get("q") ?? "",
  };
  const before = []; // cursors of the pages before this one
  let cursor = "";
  let next = null;
  let running = null;
  const rows = new Map();
  const countdowns = new Countdowns();

  const search = el("input", { id: "q", type: "search", value: asked.q, placeholder: "Part of an instance or user id", maxlength: 200, autocomplete: "off", spellcheck: "false", oninput: typed });
  const states = el(
    "select",
    { id: "state", onchange: () => ask({ state: states.value }) },
    el("option", { value: "" }, "every state"),
    Object.entries(STATES).map(([state, { word }]) => el("option", { value: state, selected: state === asked.state }, word)),
  );
  const profiles = el("select", { id: "profile", onchange: () => ask({ profile: profiles.value }) });
  offer([]);
  const count = el("p.under", { role: "status" });
  const body = el("tbody");
  const empty = el("p.empty", { hidden: true });
  const loading = el("p.loading", {}, "Reading the agents…");
  const back = el("button", { type: "button", onclick: () => turn(-1) }, "Previous");
  const on = el("button", { type: "button", onclick: () => turn(1) }, "Next");
  const table = el(
    "table.agents",
    {},
    el("caption.unseen", {}, "Agents"),
    el("thead", {}, el("tr", {}, ["User", "State", "Due in", "Sessions", "Last heartbeat", "Last outcome", "Routing profile", "Instance"].map((name) => el("th", { scope: "col" }, name)))),
    body,
  );
  const scroll = el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Table of agents", hidden: true }, table);
  const main = el(
    "div",
    {},
    el("div.head", {}, el("h1", {}, "Agents"), count),
    el(
      "form.filters",
      { role: "search", onsubmit: (event) => event.preventDefault() },
      el("div.field.wide", {}, el("label", { for: "q" }, "Search"), search),
      el("div.field", {}, el("label", { for: "state" }, "State"), states),
      el("div.field", {}, el("label", { for: "profile" }, "Routing profile"), profiles),
    ),
    loading,
    scroll,
    empty,
    el("nav.pages", { "aria-label": "Pages of agents" }, back, on),
  );

  api.status({ signal: page.signal }).then(({ instances }) => {
    table.classList.toggle("is-one", instances.length === 1);
    offer(instances.flatMap((each) => each.profiles));
  }, page.failed);

  function offer(names) {
    const all = [...new Set(asked.profile ? [...names, asked.profile] : names)].sort((one, other) => one.localeCompare(other));
    fill(profiles, el("option", { value: "" }, "every profile"), all.map((name) => el("option", { value: name, selected: name === asked.profile }, name)));
  }

  let typing = 0;
  let typedAt = -TYPED_MS;
  function typed(event) {
    clearTimeout(typing);
    const wait = event.timeStamp - typedAt < TYPED_MS ? TYPED_MS : 0;
    typedAt = event.timeStamp;
    typing = setTimeout(() => ask({ q: search.value.trim() }), wait);
  }

  function ask(change) {
    Object.assign(asked, change);
    cursor = "";
    before.length = 0;
    const given = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
    page.replace(`#/agents${given.size ? `?${given}` : ""}`);
    load();
  }

  function turn(way) {
    if (way > 0) {
      before.push(cursor);
      cursor = next;
    } else {
      cursor = before.pop() ?? "";
    }
    load();
  }

  async function load() {
    running?.abort();
    const mine = (running = new AbortController());
    const stop = AbortSignal.any([mine.signal, page.signal]);
    main.setAttribute("aria-busy", "true");
    try {
      const found = await api.agents({ ...asked, cursor, limit: PAGE }, { signal: stop });
      if (mine !== running) return;
      running = null;
      show(found);
      main.removeAttribute("aria-busy");
    } catch (error) {
      if (!stop.aborted) {
        running = null;
        main.removeAttribute("aria-busy");
        if (!loading.hidden) say(loading, "The agents could not be read. It is tried again by itself.");
        page.failed(error);
      }
    }
  }

  function show(found) {
    next = found.cursor;
    loading.hidden = true;
    back.disabled = before.length === 0 && cursor === "";
    on.disabled = next === null;
    const keys = found.agents.map((each) => `${each.instance_id}/${each.user_id}`);
    for (const key of rows.keys()) if (!keys.includes(key)) rows.delete(key);
    const wanted = found.agents.map((each, at) => {
      const cells = rows.get(keys[at]) ?? made(keys[at]);
      rows.set(keys[at], cells);
      told(cells, each);
      return cells.row;
    });
    if ([...body.children].some((row, at) => row !== wanted[at]) || body.children.length !== wanted.length) body.replaceChildren(...wanted);
    const begin = before.length * PAGE;
    const end = begin + found.agents.length;
    const all = next === null ? end : total();
    say(count, found.agents.length ? `${number(begin + 1)} to ${number(end)}${all === null ? "" : ` of ${number(Math.max(all, end))}`}` : "none");
    scroll.hidden = found.agents.length === 0;
    empty.hidden = found.agents.length > 0;
    const known = asked.profile ? " The routing profile is that which Connect has shown last: of some agents it is not known." : "";
    say(empty, asked.q || asked.state || asked.profile ? `No agent is like that. Search for less, or look at every state and profile.${known}` : "No agent was heard yet. As soon as a page sends its first heartbeat, its agent stands here.");
  }

  function made(key) {
    const cells = { state: el("td"), due: el("td.number"), sessions: el("td"), seen: el("td"), outcome: el("td"), profile: el("td.profile"), key: "" };
    const cut = key.indexOf("/");
    cells.row = el("tr", {}, el("th", { scope: "row" }, agentLink(key)), cells.state, cells.due, cells.sessions, cells.seen, cells.outcome, cells.profile, el("td.id", {}, key.slice(0, cut)));
    return cells;
  }

  /** How many there are in all; null when only the daemon could tell, by looking at each. */
  function total() {
    const agents = model.counts?.agents;
    if (!agents || asked.q || asked.profile) return null;
    return asked.state ? agents[asked.state] : Object.values(agents).reduce((sum, each) => sum + each, 0);
  }

  function told(cells, agent) {
    if (cells.key !== agent.state) {
      cells.key = agent.state;
      fill(cells.state, mark(agent.state, STATES[agent.state]?.word ?? agent.state));
    }
    countdowns.set(cells.due, agent.due_in_s, left);
    const alive = agent.sessions.filter((each) => each.expires_in_s >= 0);
    if (alive.length) {
      const longest = Math.max(...alive.map((each) => each.expires_in_s));
      const hidden = alive.every((each) => each.visibility === "hidden") ? ", hidden" : "";
      countdowns.set(cells.sessions, longest, (s) => `${alive.length}${hidden} · ${s > 0 ? `${duration(s)} left` : "over"}`);
    } else {
      countdowns.set(cells.sessions, null);
      say(cells.sessions, agent.sessions.length ? "none, lately ended" : "none");
    }
    say(cells.seen, agent.last_seen ? time(agent.last_seen) : "–");
    say(cells.outcome, agent.last_outcome ? (OUTCOMES[agent.last_outcome] ?? agent.last_outcome) : "–");
    say(cells.profile, agent.profile ?? "–");
    cells.profile.title = agent.profile ?? "";
  }

  load();
  const again = setInterval(() => {
    if (page.up() && running === null && !document.hidden) load();
  }, AGAIN_MS);

  return {
    main,
    title: "Agents",
    again: load,
    update() {
      countdowns.frozen = !page.up();
    },
    end() {
      clearInterval(again);
      clearTimeout(typing);
      clearInterval(countdowns.timer);
      running?.abort();
    },
  };
}
