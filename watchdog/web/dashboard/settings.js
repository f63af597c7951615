// The settings in force. Secrets come masked: the daemon does not give them out.

import { el, fill, say } from "./elements.js";

export function settings(page) {
  const search = el("input", { id: "find", type: "search", autocomplete: "off", spellcheck: "false", oninput: show });
  const only = el("input", { id: "given", type: "checkbox", onchange: show });
  // Roles are given, since on a phone a row is a block, and would be no row for a screen reader then.
  const body = el("tbody", { role: "rowgroup" });
  const count = el("p.under", { role: "status" }, "Reading…");
  const main = el(
    "div",
    {},
    el("div.head", {}, el("h1", {}, "Settings in force"), count),
    el(
      "form.filters",
      { role: "search", onsubmit: (event) => event.preventDefault() },
      el("div.field.wide", {}, el("label", { for: "find" }, "Find"), search),
      el("div.field.check", {}, only, el("label", { for: "given" }, "Only what was set")),
    ),
    el(
      "div.scroll",
      { tabindex: "0", role: "region", "aria-label": "Table of settings" },
      el(
        "table.settings",
        { role: "table" },
        el("caption.unseen", {}, "Settings"),
        el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ["Variable", "Value", "From", "Meaning"].map((name) => el("th", { scope: "col", role: "columnheader" }, name)))),
        body,
      ),
    ),
  );
  let all = [];

  load();
  function load() {
    page.api.settings({ signal: page.signal }).then((found) => {
      all = found.settings;
      show();
    }, (error) => {
      say(count, "They could not be read.");
      page.failed(error);
    });
  }

  function show() {
    const wanted = search.value.trim().toLowerCase();
    const found = all.filter((each) => `${each.variable} ${each.meaning}`.toLowerCase().includes(wanted) && (!only.checked || each.source !== "default"));
    fill(
      body,
      found.map((each) =>
        el(
          "tr",
          each.source === "default" ? { role: "row" } : { role: "row", class: "is-set" },
          el("th.id", { scope: "row", role: "rowheader" }, each.variable),
          el("td.value", { role: "cell" }, each.value ?? "–"),
          el("td.source", { role: "cell" }, each.source),
          el("td.meaning", { role: "cell" }, each.meaning),
        ),
      ),
    );
    if (all.length) say(count, `${found.length} of ${all.length}`);
  }

  // A daemon that is back may have others.
  return { main, title: "Settings", again: load, update() {}, end() {} };
}
