// One decision: what became of whom, why, and on what evidence, in words and as JSON.

import { el, mark } from "./elements.js";
import { OUTCOMES, count, evidenceOf, intentOf, kindOf, time } from "./words.js";

/** The page of an agent that an action names as instance/user. */
export function agentLink(name) {
  const cut = name.indexOf("/");
  const [instance, user] = [name.slice(0, cut), name.slice(cut + 1)];
  return el("a.agent", { href: `#/agent/${encodeURIComponent(instance)}/${encodeURIComponent(user)}`, title: name }, user);
}

export function decision(action, { agent = false } = {}) {
  const said = evidenceOf(action);
  return el(
    "li.decision",
    { "data-id": action.id },
    el(
      "div.what",
      {},
      el("time", { datetime: action.at, title: action.at }, time(action.at)),
      mark(kindOf(action.outcome), OUTCOMES[action.outcome] ?? action.outcome),
      el("span.intent", {}, `${intentOf(action.intent)}${action.target ? ` → ${action.target}` : ""}`),
      agent ? agentLink(action.agent) : null,
    ),
    el("p.why", {}, action.reason),
    el(
      "details",
      {},
      el("summary", {}, "Evidence"),
      said.length ? el("ul.said", {}, said.map((text) => el("li", {}, text))) : null,
      el("p.under", {}, `${count(action.calls, "call")} of Connect, ${action.latency_s} s from the claim to the outcome.`),
      el("pre", { tabindex: "0", "aria-label": "The action as JSON" }, JSON.stringify(action, null, 2)),
    ),
  );
}
