// One agent: how it stands, its sessions, what was decided about it and why, and what can be ordered.

import { Countdowns, el, fill, mark, say } from "./elements.js";
import { decision } from "./decision.js";
import { ask } from "./dialog.js";
import { OUTCOMES, STATES, left, time } from "./words.js";

const PAGE = 20;
const AGAIN_MS = 3000;

export function agent(page) {
  const { api, model, parts } = page;
  const [instance, user] = parts;
  const name = `${instance}/${user}`;
  const countdowns = new Countdowns();
  const state = el("p.standing", {}, "Reading…");
  const facts = el("dl.facts");
  const sessions = el("tbody");
  const noSessions = el("p.empty", { hidden: true }, "It has no session.");
  const past = el("ol.decisions");
  const none = el("p.empty", { hidden: true }, "Nothing was decided about this agent in the time that is kept.");
  const older = el("button", { type: "button", hidden: true, onclick: () => history(cursor) }, "Older");
  const logout = el("button.grave", { type: "button", onclick: orderLogout }, "Log out…");
  const cancel = el("button", { type: "button", onclick: orderCancel }, "Leave alone…");
  const unknown = el("p.empty", { hidden: true }, "This agent has not been heard of. Its history, if there is one, is below.");
  const table = el(
    "table",
    {},
    el("caption.unseen", {}, "Sessions"),
    el("thead", {}, el("tr", {}, ["Session", "Lease", "Page", "Time kept by"].map((each) => el("th", { scope: "col" }, each)))),
    sessions,
  );
  const main = el(
    "div",
    {},
    el("p.crumb", {}, el("a", { href: "#/agents" }, "Agents"), " / ", instance),
    el("div.head", {}, el("h1.id", {}, user), el("div.buttons", {}, cancel, logout)),
    unknown,
    el("section.card", { "aria-labelledby": "now-title" }, el("h2", { id: "now-title" }, "Now"), state, facts),
    el("section.card", { "aria-labelledby": "sessions-title" }, el("h2", { id: "sessions-title" }, "Sessions"), el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Table of sessions" }, table), noSessions),
    el("section.card", { "aria-labelledby": "past-title" }, el("h2", { id: "past-title" }, "What was decided, and why"), none, past, older),
  );

  const due = el("dd");
  const seen = el("dd");
  const outcome = el("dd");
  const profile = el("dd");
  fill(facts, el("dt", {}, "Due in"), due, el("dt", {}, "Last heartbeat"), seen, el("dt", {}, "Last outcome"), outcome, el("dt", {}, "Routing profile"), profile, el("dt", {}, "Instance"), el("dd.id", {}, instance));

  let shown = "";
  async function now() {
    try {
      const found = await api.agent(instance, user, { signal: page.signal });
      unknown.hidden = true;
      if (shown !== found.state) {
        shown = found.state;
        fill(state, mark(found.state, STATES[found.state]?.word ?? found.state), el("span", {}, STATES[found.state]?.tells ?? ""));
      }
      countdowns.set(due, found.due_in_s, left);
      say(seen, found.last_seen ? time(found.last_seen) : "–");
      say(outcome, found.last_outcome ? (OUTCOMES[found.last_outcome] ?? found.last_outcome) : "–");
      say(profile, found.profile ?? "–");
      fill(
        sessions,
        found.sessions.map((each) => {
          const lease = el("td.number");
          countdowns.set(lease, each.expires_in_s, left);
          return el("tr", {}, el("th.id", { scope: "row" }, each.session_id), lease, el("td", {}, each.visibility), el("td", {}, each.driver === "worker" ? "a worker" : "the page's main thread"));
        }),
      );
      table.hidden = found.sessions.length === 0;
      noSessions.hidden = found.sessions.length > 0;
    } catch (error) {
      if (error.status === 404) {
        unknown.hidden = false;
        table.hidden = true;
        noSessions.hidden = false;
        fill(state);
      } else {
        page.failed(error);
      }
    }
  }

  let cursor = null;
  const kept = new Set();
  async function history(after) {
    older.disabled = true;
    try {
      const found = await api.actions({ agent: name, cursor: after, limit: PAGE }, { signal: page.signal });
      if (!after) {
        // Those that are open stay as they are.
        const fresh = found.actions.filter((each) => !kept.has(each.id));
        past.prepend(...fresh.map((each) => decision(each)));
        if (cursor === null && kept.size === 0) cursor = found.cursor;
      } else {
        past.append(...found.actions.filter((each) => !kept.has(each.id)).map((each) => decision(each)));
        cursor = found.cursor;
      }
      for (const each of found.actions) kept.add(each.id);
      older.hidden = cursor === null;
      none.hidden = kept.size > 0;
    } catch (error) {
      page.failed(error);
    }
    older.disabled = false;
  }

  async function orderLogout() {
    await ask({
      title: "Log this agent out?",
      tells: ["Its status is set, its sessions in Connect are ended, and its pages are told to stop. It takes up to 30 s.", `Agent ${user}`],
      act: "Log out",
      grave: true,
      fields: [
        { name: "reason_code", label: "Reason code (optional)", hint: "One of WATCHDOG_REASON_CODES; else the status of type OFFLINE.", maxlength: 200 },
        { name: "queue", label: "Queue (optional)", hint: "Id or ARN; only if the agent has this one queue alone." },
      ],
      run: async (values) => {
        const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value));
        await api.logOut(instance, user, given);
        return "Done: the agent is logged out.";
      },
    });
    all();
  }

  async function orderCancel() {
    await ask({
      title: "Leave this agent alone?",
      tells: ["Its timer, a hold, and what was still to follow are over. Nothing is done until it is heard again and falls silent anew. If it is a ghost, it stays as Connect has it now.", `Agent ${user}`],
      act: "Leave alone",
      fields: [{ name: "reason", label: "Reason (for the history)" }],
      run: async (values) => {
        const found = await api.cancel(instance, user, values.reason ? { reason: values.reason } : {});
        return `Done: the agent is ${STATES[found.state]?.word ?? found.state}.`;
      },
    });
    all();
  }

  function all() {
    now();
    history("");
  }

  all();
  const again = setInterval(() => {
    if (page.up() && !document.hidden) now();
  }, AGAIN_MS);
  let newest = null;
  let { generation } = model;

  return {
    main,
    title: user,
    again: all,
    update() {
      countdowns.frozen = !page.up();
      const last = model.recent.find((each) => each.agent === name)?.id ?? null;
      if ((last !== null && last !== newest) || generation !== model.generation) {
        newest = last;
        generation = model.generation;
        all();
      }
    },
    end() {
      clearInterval(again);
      clearInterval(countdowns.timer);
    },
  };
}
