// The brake: who is held and why, what happens next, and an operator's orders.

import { el, fill, mark } from "./elements.js";
import { ask } from "./dialog.js";
import { count, duration, time } from "./words.js";

const WORDS = {
  listening: "listening",
  holding: "holding",
  alarm: "alarm",
  ordered: "held by an operator",
  overruled: "released by an operator",
};

const FOR = { 300: "5 minutes", 900: "15 minutes", 3600: "1 hour", 14400: "4 hours", 43200: "12 hours", 86400: "a day" };

const groupName = (group) => (group === "all" ? "all agents" : `instance ${group}`);

export function holdCard(hold) {
  return el(
    "div.hold",
    {},
    el("p.standing", {}, mark(hold.state === "alarm" ? "bad" : "held", WORDS[hold.state] ?? hold.state), el("span", {}, groupName(hold.group))),
    el(
      "dl.facts",
      {},
      el("dt", {}, "Why"),
      el("dd", {}, hold.why || "No reason was given."),
      el("dt", {}, "Who"),
      el("dd", {}, el("a", { href: `#/agents?state=held${hold.group === "all" ? "" : `&q=${encodeURIComponent(hold.group)}`}` }, count(hold.agents, "agent"))),
      el("dt", {}, "Since"),
      el("dd", {}, `${time(hold.since)}, for ${duration(hold.age_s)}`),
      hold.by ? [el("dt", {}, "By"), el("dd", {}, hold.by)] : null,
      hold.proof ? [el("dt", {}, "Proof"), el("dd", {}, hold.proof)] : null,
      el("dt", {}, "Next"),
      el("dd", {}, hold.next_step || "–"),
    ),
  );
}

export function brake(page) {
  const { api, model } = page;
  const now = el("div");
  const group = el("select", { id: "group" }, el("option", { value: "" }, "all agents"));
  const length = el("select", { id: "for" }, Object.entries(FOR).map(([seconds, text]) => el("option", { value: seconds, selected: seconds === "900" }, text)));
  const reason = el("input", { id: "reason", maxlength: 500, autocomplete: "off" });
  const main = el(
    "div",
    {},
    el("div.head", {}, el("h1", {}, "Brake"), el("p.under", {}, "When many agents fall silent at once, the fault is rather between them and the daemon: they are held.")),
    el("section.card", { "aria-labelledby": "now-title" }, el("h2", { id: "now-title" }, "Now"), now),
    el(
      "section.card",
      { "aria-labelledby": "order-title" },
      el("h2", { id: "order-title" }, "Order"),
      el("p.under", {}, "An order replaces the one that there is for the same agents, and ends by itself. Who said goodbye is never held."),
      el(
        "form.order",
        { onsubmit: (event) => event.preventDefault() },
        el("div.field", {}, el("label", { for: "group" }, "For"), group),
        el("div.field", {}, el("label", { for: "for" }, "How long"), length),
        el("div.field.wide", {}, el("label", { for: "reason" }, "Reason"), reason),
        el(
          "div.buttons",
          {},
          el("button", { type: "button", onclick: () => order("held", 0) }, "End the order…"),
          el("button", { type: "button", onclick: () => order("released") }, "Release…"),
          el("button.primary", { type: "button", onclick: () => order("hold") }, "Hold…"),
        ),
      ),
    ),
  );

  api.status({ signal: page.signal }).then((status) => {
    for (const { instance_id } of status.instances) group.append(el("option", { value: instance_id }, `instance ${instance_id}`));
  }, page.failed);

  async function order(state, seconds = Number(length.value)) {
    const whom = groupName(group.value || "all");
    const why = reason.value.trim();
    const texts = {
      hold: [`Hold ${whom} for ${FOR[seconds]}?`, "Whoever is silent, or falls silent, is not set. Ghosts stay as they are until it ends.", "Hold"],
      released: [`Release ${whom} for ${FOR[seconds]}?`, "Whoever is held is let go, and nothing trips the brake: agents who are silent are set when their timers end.", "Release"],
      held: [`End the order for ${whom}?`, "The brake decides by itself again.", "End it"],
    };
    const [title, tells, act] = texts[state];
    await ask({
      title,
      tells: [tells, why ? `Reason: ${why}` : "No reason is given."],
      act,
      grave: state === "released",
      run: async () => {
        const body = { state: state === "held" ? "hold" : state, for_s: seconds, reason: why };
        if (group.value) body.instance_id = group.value;
        const found = await api.brake(body);
        model.brake = found;
        show();
        return `Done: the brake is ${WORDS[found.state] ?? found.state}, ${count(found.held, "agent")} held.`;
      },
    });
  }

  let shown = "";
  function show() {
    const found = JSON.stringify(model.brake);
    if (model.brake === null || found === shown) return;
    shown = found;
    fill(now, model.brake.holds.length ? model.brake.holds.map(holdCard) : el("p.standing", {}, mark("live", "clear"), el("span", {}, "Nobody is held.")));
  }

  show();
  return { main, title: "Brake", update: show, end() {} };
}
