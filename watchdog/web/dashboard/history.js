// The history, with filters, and as CSV.

import { el, fill, say } from "./elements.js";
import { decision } from "./decision.js";
import { OUTCOMES, number } from "./words.js";

const PAGE = 50;
const MOST = 1000; // on one page of the browser; more is what the filters and the CSV are for

const SINCE = { "": "all that is kept", 900: "last 15 minutes", 3600: "last hour", 86400: "last day", 604800: "last week" };

export function history(page) {
  const { api, model, params } = page;
  const known = (name, options) => (Object.hasOwn(options, params.get(name)) ? params.get(name) : "");
  const asked = { outcome: known("outcome", OUTCOMES), agent: params.get("agent") ?? "", since: known("since", SINCE) };
  const pick = (id, given, options) =>
    el("select", { id, onchange: changed }, Object.entries(options).map(([value, text]) => el("option", { value, selected: value === given }, text)));
  const outcome = pick("outcome", asked.outcome, { "": "every outcome", ...OUTCOMES });
  const since = pick("since", asked.since, SINCE);
  const who = el("input", { id: "agent", type: "search", value: asked.agent, placeholder: "ARN, or instance/user", autocomplete: "off", spellcheck: "false", maxlength: 500, onchange: changed });
  const list = el("ol.decisions");
  const empty = el("p.empty", { hidden: true });
  const loading = el("p.loading", {}, "Reading the history…");
  const fault = el("p.fault", { role: "alert", hidden: true });
  const older = el("button", { type: "button", hidden: true, onclick: () => load(cursor) }, "Older");
  const fresh = el("button.primary", { type: "button", hidden: true, onclick: () => load("") });
  const exporting = el("p.under", { role: "status" });
  const csv = el("button", { type: "button", onclick: save }, "Export as CSV");
  let cursor = null;
  let running = null;

  const main = el(
    "div",
    {},
    el("div.head", {}, el("h1", {}, "History"), el("div.buttons", {}, exporting, csv)),
    el(
      "form.filters",
      {
        role: "search",
        onsubmit: (event) => {
          event.preventDefault();
          changed();
        },
      },
      el("div.field", {}, el("label", { for: "outcome" }, "Outcome"), outcome),
      el("div.field", {}, el("label", { for: "since" }, "Since"), since),
      el("div.field.wide", {}, el("label", { for: "agent" }, "Agent"), who),
    ),
    fault,
    fresh,
    loading,
    empty,
    list,
    older,
  );

  function changed() {
    Object.assign(asked, { outcome: outcome.value, since: since.value, agent: who.value.trim() });
    const given = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
    page.replace(`#/history${given.size ? `?${given}` : ""}`);
    load("");
  }

  const filters = () => ({
    outcome: asked.outcome,
    agent: asked.agent,
    since: asked.since ? Math.max(0, Math.floor(model.time() - Number(asked.since))) : "",
  });

  async function load(after) {
    running?.abort();
    const mine = (running = new AbortController());
    try {
      const found = await api.actions({ ...filters(), cursor: after, limit: PAGE }, { signal: AbortSignal.any([mine.signal, page.signal]) });
      const items = found.actions.map((each) => decision(each, { agent: true }));
      if (after) list.append(...items);
      else fill(list, items);
      cursor = found.cursor;
      older.hidden = cursor === null || list.children.length >= MOST;
      loading.hidden = fault.hidden = true;
      empty.hidden = list.children.length > 0;
      say(empty, asked.outcome || asked.agent || asked.since ? "Nothing of that kind was decided." : "Nothing was decided yet.");
      if (!after) {
        newest = model.recent[0]?.id ?? null;
        fresh.hidden = true;
      }
    } catch (error) {
      if (mine.signal.aborted || page.signal.aborted) return;
      loading.hidden = true;
      if (error.status === 400) {
        fault.hidden = false;
        say(fault, error.message);
        fill(list);
      } else {
        page.failed(error);
      }
    }
  }

  async function save() {
    csv.disabled = true;
    say(exporting, "Reading…");
    try {
      const blob = await (await api.csv(filters())).blob();
      const url = URL.createObjectURL(blob);
      el("a", { href: url, download: "watchdog-history.csv" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      say(exporting, `Saved, ${number(Math.ceil(blob.size / 1024))} kB.`);
    } catch (error) {
      say(exporting, error.message ?? "It could not be read.");
    }
    csv.disabled = false;
  }

  let newest = model.recent[0]?.id ?? null;
  let { generation } = model;
  load("");

  return {
    main,
    title: "History",
    update() {
      const at = model.recent.findIndex((each) => each.id === newest);
      const more = at < 0 ? model.recent.length : at;
      const unknown = generation !== model.generation;
      if ((newest !== (model.recent[0]?.id ?? null) || unknown) && !asked.agent && (more || unknown)) {
        generation = model.generation;
        fresh.hidden = false;
        say(fresh, unknown ? "There is more: show it" : `${more}${more >= 50 ? " or more" : ""} new: show ${more === 1 ? "it" : "them"}`);
      }
    },
    end() {
      running?.abort();
    },
  };
}
