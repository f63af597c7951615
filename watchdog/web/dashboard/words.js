// What the dashboard says: states, times, and the evidence of a decision in words. Texts in, texts out; no page.

export const STATES = {
  live: { word: "present", tells: "A session is alive." },
  grace: { word: "grace", tells: "No session is left; the timer runs." },
  due: { word: "due", tells: "The timer is over: waits for quota, for AWS, or for the read-back." },
  held: { word: "held", tells: "The brake holds the agent, whatever the timer says." },
  away: { word: "set", tells: "The watchdog has set the agent's status." },
  gone: { word: "gone", tells: "Nothing is to be done." },
};

export const OUTCOMES = {
  confirmed: "set and confirmed",
  next_status: "set as next status",
  already: "was there already",
  returned: "returned",
  skipped_profile: "skipped: profile",
  skipped_state: "skipped: status",
  skipped_contact: "skipped: contact",
  witnessed: "active in Connect",
  unseen: "never heard",
  held: "held",
  released: "released",
  dry_run: "dry run",
  cancelled: "cancelled",
  no_such_user: "no such user",
  failed: "failed",
};

const KINDS = {
  confirmed: "done",
  next_status: "done",
  held: "held",
  unseen: "warn",
  released: "held",
  failed: "bad",
  no_such_user: "bad",
};

/** Which shape an outcome has. */
export const kindOf = (outcome) => KINDS[outcome] ?? "plain";

const INTENTS = {
  set_status: "set status",
  restore: "restore status",
  sign_out: "sign out",
  dismiss: "clear contacts",
  reconcile: "reconcile",
};

export const intentOf = (intent) => INTENTS[intent] ?? intent;

const NUMBERS = new Intl.NumberFormat("en");

export const number = (value) => NUMBERS.format(value);

/** "1 agent", "2 agents". */
export const count = (value, what) => `${number(value)} ${what}${value === 1 ? "" : "s"}`;

/** "412 present, 3 in grace, none held". */
export function sentence(agents) {
  const parts = [`${number(agents.live)} present`, `${number(agents.grace)} in grace`];
  if (agents.due) parts.push(`${number(agents.due)} due`);
  parts.push(agents.held ? `${number(agents.held)} held` : "none held");
  return parts.join(", ");
}

/** Seconds in the two largest units. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

/** What is left of a lease or a timer. */
export const left = (seconds) => (seconds > 0 ? duration(seconds) : "over");

/** Seconds with tenths where they matter. */
const exact = (seconds) => (Math.abs(seconds) < 60 ? `${Math.round(seconds * 10) / 10} s` : duration(seconds));

/** An instant of RFC 3339 or seconds since 1970, in the reader's zone. */
export function time(at, { seconds = true } = {}) {
  const date = typeof at === "number" ? new Date(at * 1000) : new Date(at);
  if (Number.isNaN(date.getTime())) return "–";
  const clock = new Intl.DateTimeFormat("en-GB", {
    hour: "2-digit",
    minute: "2-digit",
    ...(seconds ? { second: "2-digit" } : {}),
  }).format(date);
  if (date.toDateString() === new Date().toDateString()) return clock;
  return `${new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", year: "numeric" }).format(date)}, ${clock}`;
}

export const short = (id) => (id.length > 13 ? `${id.slice(0, 8)}…` : id);

const ENDS = {
  bye: "said goodbye",
  silence: "fell silent",
  torn: "lost its connection",
  stopped: "was stopped by a logout",
};

function session(each) {
  const how = ENDS[each.ended] ?? each.ended;
  const where = [each.hidden ? "hidden page" : null, each.main_driver ? "driven by the page's main thread" : null];
  const kind = where.filter(Boolean).join(", ");
  const last = each.last_beat_at ? `; last heartbeat ${time(each.last_beat_at)}` : "";
  const ago = each.ended_s_ago >= 0 ? `its lease ended ${exact(each.ended_s_ago)} before` : "its lease still ran";
  return `Session ${short(String(each.session_id))} ${how}: ${ago}${last}${kind ? ` (${kind})` : ""}.`;
}

function sighting(each) {
  if (each.failed) return `could not be read (${each.failed})`;
  if (each.shown === false) return each.complete === false ? "not shown, in an incomplete answer" : "not shown";
  const next = each.next_status ? `, next ${each.next_status}` : "";
  const contacts = Array.isArray(each.contacts) && each.contacts.length ? `, ${count(each.contacts.length, "contact")}` : "";
  return `${each.status ?? "a status"}${each.since ? ` since ${time(each.since)}` : ""}${next}${contacts}`;
}

const RESULTS = { accepted: "was accepted", unanswered: "was not answered", aborted: "was not sent" };

/** The evidence of an action, a sentence each. What has no words is in the JSON beside it. */
export function evidenceOf(action) {
  const found = action.evidence ?? {};
  const said = [];
  const list = (name) => (Array.isArray(found[name]) ? found[name] : []);
  if (found.by) said.push(`Ordered by ${found.by}.`);
  if (action.outcome === "cancelled") {
    said.push(`The agent was in ${STATES[found.state]?.word ?? found.state}${found.why ? `. Reason: ${found.why}` : ""}.`);
  }
  if (found.reason_code) said.push(`Reason code: ${found.reason_code}.`);
  if (found.queue) said.push(`Queue: ${found.queue}.`);
  for (const each of list("sessions")) said.push(session(each));
  const more = (found.sessions_in_all ?? 0) - list("sessions").length;
  if (more > 0) said.push(`${count(more, "more session")} had ended before.`);
  if (typeof found.timer_s === "number" && !found.by) {
    const late = typeof found.lag_s === "number" ? `; acted upon ${exact(found.lag_s)} after its end` : "";
    said.push(`The timer of ${exact(found.timer_s)} ran out${late}.`);
  }
  if (found.rule) said.push(`Rule: ${found.rule}.`);
  if (found.profile) said.push(`Routing profile: ${found.profile}.`);
  if (found.before) said.push(`Connect showed before: ${sighting(found.before)}.`);
  if (found.activity) {
    const kind = found.activity.kind === "contact" ? "A contact was taken" : "A status began";
    said.push(`${kind} at ${time(found.activity.at)}, which counts as a heartbeat at that time.`);
  }
  if (found.contact) said.push(`A contact (${found.contact.state}) at ${time(found.contact.at)}.`);
  for (const each of list("writes")) {
    const status = each.status ?? each.name ?? action.target;
    said.push(`The write of ${status} ${RESULTS[each.result] ?? `ended with ${each.result}`}${each.at ? ` at ${time(each.at)}` : ""}.`);
  }
  for (const each of list("read_backs")) {
    const after = typeof each.after_s === "number" ? `${exact(each.after_s)} later` : "Later";
    said.push(`${after}, Connect showed: ${sighting(each)}.`);
  }
  for (const each of list("dismissed")) said.push(`Contact ${short(String(each.contact ?? each.contact_id ?? ""))} cleared: ${each.result}.`);
  if (found.brake) {
    const why = found.brake.why ?? found.brake.reason;
    const held = typeof found.brake.held_s === "number" ? ` Held for ${exact(found.brake.held_s)}.` : "";
    said.push(`Brake of ${found.brake.group ?? "all"}: ${why}.${held}`.replace("..", "."));
  }
  if (found.left_intent) said.push("An earlier attempt left without an outcome; its write may have taken effect.");
  if (typeof found.unseen_s === "number") said.push(`Not heard for ${exact(found.unseen_s)}, and able to get contacts.`);
  if (typeof found.gap_ms === "number") said.push(`The page's own timer stood for ${exact(found.gap_ms / 1000)} at most.`);
  return said;
}
