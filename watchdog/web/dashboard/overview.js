// The first page: how it stands at a glance.

import { chart } from "./chart.js";
import { decision } from "./decision.js";
import { el, fill, mark, say } from "./elements.js";
import { STATES, count, duration, number, sentence } from "./words.js";
import { holdCard } from "./brake.js";

const STANDING = {
  restart: "the daemon was not running",
  pause: "the process or machine stood still",
  store: "the store cannot be written",
  canary: "the daemon cannot be reached from outside",
  replica: "another daemon is not heard of",
  connections: "there are too many connections",
  grace: "agents are given time to come back",
};

export function overview(page) {
  const { model, api } = page;
  const headline = el("h1.sentence", {}, "…");
  const under = el("p.under");
  const problems = el("section.problems", { "aria-label": "Problems" });
  const tiles = {};
  const tile = (key, label, link, tells) => {
    tiles[key] = el("b", {}, "–");
    const inside = [el("span.label", {}, label), tiles[key]];
    return link ? el("a.tile", { href: link, title: tells }, inside) : el("div.tile", { title: tells }, inside);
  };
  const row = el(
    "section.tiles",
    { "aria-label": "Numbers" },
    Object.entries(STATES).map(([state, { word, tells }]) => tile(state, mark(state, word), `#/agents?state=${state}`, tells)),
    tile("sessions", "sessions", null, "Sessions that have a lease."),
    tile("rate", "beats / s", null, "Heartbeats a second, over the last ten seconds."),
  );
  const agents = chart(
    "Agents",
    [
      { name: "present", colour: "--live" },
      { name: "grace", colour: "--grace", dash: [8, 4] },
      { name: "held", colour: "--held", width: 3, dash: [2, 3] },
      { name: "set", colour: "--away", dash: [12, 3, 2, 3] },
    ],
    (value) => number(value),
  );
  const beats = chart("Heartbeats a second", [{ name: "heartbeats", colour: "--accent" }], (value) => number(value));
  const gauges = el("section.card", { "aria-labelledby": "work-title" });
  const brake = el("section.card", { "aria-labelledby": "brake-title" });
  const recent = el("ol.decisions");
  const none = el("p.empty", {}, "Reading the history…");
  // That of an earlier visit, until there is a newer one.
  let { status } = model;
  let drawn = 0;

  const main = el(
    "div.overview",
    {},
    el("div.head", {}, headline, under),
    problems,
    row,
    el("div.charts", {}, agents.figure, beats.figure),
    el("div.pair", {}, gauges, brake),
    el("section.card", { "aria-labelledby": "recent-title" }, el("div.title", {}, el("h2", { id: "recent-title" }, "Latest decisions"), el("a", { href: "#/history" }, "History")), none, recent),
  );

  let first = null;
  load();
  function load() {
    api.status({ signal: page.signal }).then((found) => {
      status = model.status = found;
      update();
    }, (error) => {
      if (status === null) say(failures, "The calls of Connect could not be read.");
      page.failed(error);
    });
    api.actions({ limit: 10 }, { signal: page.signal }).then(
      (found) => {
        first = found.actions;
        list();
      },
      (error) => {
        if (first === null) say(none, "The history could not be read.");
        page.failed(error);
      },
    );
  }

  function list() {
    // What has come by itself is shown before the answer, and without one.
    if (first === null && model.recent.length === 0) return;
    const seen = new Set();
    const all = [...model.recent, ...(first ?? [])].filter((each) => !seen.has(each.id) && seen.add(each.id));
    all.sort((one, other) => (one.at < other.at ? 1 : -1));
    const shown = all.slice(0, 10);
    none.hidden = shown.length > 0;
    say(none, "Nothing was decided yet. As soon as an agent's last session is gone, it stands here.");
    if ([...recent.children].map((each) => each.dataset.id).join() === shown.map((each) => each.id).join()) return;
    fill(recent, shown.map((each) => decision(each, { agent: true })));
  }

  function draw() {
    agents.update([model.column("at"), model.column("live"), sum("grace", "due"), model.column("held"), model.column("away")]);
    beats.update([model.column("at"), model.rates()]);
  }

  const sum = (one, other) => model.column(one).map((value, at) => value + model.column(other)[at]);

  function update() {
    const { counts } = model;
    if (counts === null) return;
    say(headline, sentence(counts.agents));
    const clock = counts.standing ? `The clock stands: ${STANDING[counts.standing] ?? counts.standing}${counts.grace_left_s ? `, ${duration(counts.grace_left_s)} left` : ""}.` : "The clock runs.";
    const up = status ? ` Up for ${duration(model.time() - status.started_at)}.` : "";
    say(under, `${clock} ${counts.sockets ? `${count(counts.sockets, "socket")}. ` : ""}Version ${model.version}.${up}`);
    under.classList.toggle("is-warn", Boolean(counts.standing));
    for (const state of Object.keys(STATES)) say(tiles[state], number(counts.agents[state]));
    say(tiles.sessions, number(counts.sessions));
    say(tiles.rate, model.rate === null ? "–" : number(Math.round(model.rate * 10) / 10));
    tiles.held.closest(".tile").classList.toggle("is-warn", counts.agents.held > 0);
    work();
    hold();
    trouble();
    list();
    if (model.samples.length && drawn !== model.sampledAt) {
      drawn = model.sampledAt;
      draw();
    }
  }

  let told = "";
  function trouble() {
    const found = JSON.stringify(model.problems);
    if (found === told) return;
    told = found;
    fill(problems, model.problems.map(page.problem));
  }

  const backlog = el("meter", { min: 0, max: 10, value: 0, "aria-labelledby": "backlog-label" });
  const backlogText = el("b");
  const quota = el("div.gauges");
  const failures = el("p.under");
  fill(
    gauges,
    el("h2", { id: "work-title" }, "Quota and backlog"),
    el("div.gauge", {}, el("span", { id: "backlog-label" }, "Backlog: agents who are due"), backlogText, backlog),
    quota,
    failures,
  );

  let calls = "";
  function work() {
    const most = Math.max(10, model.counts.agents.live + model.counts.backlog);
    backlog.max = most;
    backlog.value = model.counts.backlog;
    say(backlogText, number(model.counts.backlog));
    const used = model.used();
    const found = JSON.stringify([[...used], status?.quota]);
    if (model.calls === null || status === null || found === calls) return;
    calls = found;
    fill(
      quota,
      [...used].map(([operation, { rate, all, throttled, failed }]) => {
        const own = status.quota.operations[operation] ?? status.quota.rate * status.quota.share;
        const label = `gauge-${operation}`;
        const told = [`${number(all)} in all`, throttled ? `${number(throttled)} throttled` : null, failed ? `${number(failed)} failed` : null];
        return el(
          "div.gauge",
          {},
          el("span", { id: label }, operation, " ", el("small", {}, told.filter(Boolean).join(", "))),
          el("b", {}, `${rate} of ${Math.round(own * 10) / 10} / s`),
          el("meter", { min: 0, max: own, value: Math.min(own, rate), "aria-labelledby": label }),
        );
      }),
    );
    say(failures, used.size ? "" : "Connect was not called yet.");
  }

  let holds = "";
  function hold() {
    const found = JSON.stringify(model.brake);
    if (model.brake === null || found === holds) return;
    holds = found;
    fill(
      brake,
      el("div.title", {}, el("h2", { id: "brake-title" }, "Brake"), el("a", { href: "#/brake" }, "Hold or release")),
      model.brake.holds.length ? model.brake.holds.map(holdCard) : el("p.empty", {}, "Clear: nobody is held. When many agents fall silent at once, they are held here instead of being set."),
    );
  }

  let { generation } = model;
  return {
    main,
    title: "Overview",
    again: load,
    update() {
      if (generation !== model.generation) {
        generation = model.generation;
        load();
      }
      update();
    },
    theme() {
      agents.redraw();
      beats.redraw();
    },
    end() {
      agents.end();
      beats.end();
    },
  };
}
