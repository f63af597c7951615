/** The table of all agents: what Connect shows, what the watchdog hears, and when it will act. */
const EVERY_MS = 500;

const STATES = {
  live: ["", "heard"],
  grace: ["nobody: timer runs", "timer"],
  due: ["nobody: being set", "due"],
  held: ["held by the brake", "timer"],
  away: ["nobody: status set", "away"],
  gone: ["left alone", "quiet"],
};

const section = document.querySelector("#floor");
const element = (tag, more = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), more);
  made.append(...children);
  return made;
};

const wrong = element("p", { className: "wrong", hidden: true });
wrong.setAttribute("role", "alert");
const body = element("tbody");
const heads = ["Agent", "In Connect", "The watchdog hears", "Acts in"];
const row = element("tr", {}, ...heads.map((title) => element("th", { scope: "col", textContent: title })));
section.append(
  element("h2", { id: "floor-title", textContent: "The floor" }),
  element("p", {
    className: "quiet",
    textContent:
      "Open this page in several tabs, sign in, close them, reload, sign out, and watch: with the last session of an " +
      "agent the timer runs, then the watchdog sets the status in Connect. “Acts in” counts from what was heard last.",
  }),
  wrong,
  element("div", { className: "scrolls", tabIndex: 0 }, element("table", {}, element("thead", {}, row), body)),
);
section.querySelector(".scrolls").setAttribute("role", "region");
section.querySelector(".scrolls").setAttribute("aria-labelledby", "floor-title");

const rows = new Map();

/** @param {any} agent @param {boolean} daemon It answers. */
const show = (agent, daemon) => {
  let cells = rows.get(agent.user_id);
  if (!cells) {
    cells = heads.map((_, at) => element(at ? "td" : "th", at ? {} : { scope: "row" }));
    rows.set(agent.user_id, cells);
    body.append(element("tr", { className: agent.yours ? "yours" : "" }, ...cells));
  }
  const [words, kind] = STATES[agent.state] ?? [daemon ? "never heard" : "–", "quiet"];
  const heard = words || `${agent.sessions} ${agent.sessions === 1 ? "session" : "sessions"}`;
  const acts = agent.due_in_s !== null && agent.state !== "due" ? `${Math.max(0, agent.due_in_s).toFixed(1)} s` : "–";
  const status = agent.next_status ? `${agent.status}, then ${agent.next_status}` : agent.status;
  const texts = [agent.name, status, heard, acts];
  texts.forEach((text, at) => {
    if (cells[at].textContent !== text) cells[at].textContent = text;
  });
  cells[1].dataset.status = agent.status;
  cells[2].dataset.kind = cells[3].dataset.kind = kind;
};

/** @param {string} text */
const complain = (text) => {
  wrong.hidden = !text;
  if (wrong.textContent !== text) wrong.textContent = text;
};

const look = async () => {
  try {
    const answer = await fetch("floor.json");
    if (!answer.ok) throw new Error(String(answer.status));
    const { agents, daemon } = await answer.json();
    for (const yours of [true, false]) for (const each of agents) if (each.yours === yours) show(each, daemon);
    complain(daemon ? "" : "The watchdog does not answer.");
    section.dataset.stale = "false";
  } catch {
    complain("The demo does not answer: it was stopped. Start watchdog demo --keep again, and open what it prints.");
    section.dataset.stale = "true";
  }
  setTimeout(look, EVERY_MS);
};
look();
