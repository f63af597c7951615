/**
 * An optional banner: warns the agent while the watchdog cannot hear the page, and tells what it did. Text only, in a
 * shadow of its own and styled without a style sheet: neither the page's styles nor its Content-Security-Policy get in the
 * way, and nothing on the page moves.
 */

/** A live region is read out only if it was there before its text. */
const READ_AFTER_MS = 100;

const AT_RISK =
  "The watchdog cannot hear this page. Check your network connection: if this goes on, your status may be set to Offline.";

/** @type {typeof import("./banner.js").text} */
export const text = ({ status, set_at, why, restored }) => {
  const at = new Date(set_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `You were set to ${status} at ${at}. ${why}${restored ? ` Your status is ${restored} again.` : ""}`;
};

/** @type {HTMLElement | undefined} */
let host;
/** @type {Record<string, HTMLElement>} */
const regions = {};
/** @type {(() => void) | undefined} */
let unwarn;

/** @param {HTMLElement} parent */
const prepare = (parent) => {
  if (host?.isConnected) return;
  host = document.createElement("div");
  Object.assign(host.style, { all: "initial", position: "fixed", inset: "auto 1rem 1rem", zIndex: "2147483647" });
  // What is not covered by a box can be clicked.
  host.style.pointerEvents = "none";
  const root = host.attachShadow({ mode: "open" });
  for (const role of ["alert", "status"]) {
    regions[role] = document.createElement("div");
    regions[role].setAttribute("role", role);
    root.append(regions[role]);
  }
  parent.append(host);
};

/** @param {string} role @param {string} text @param {string} close @param {string} border @param {string} background */
const show = (role, text, close, border, background) => {
  const box = document.createElement("div");
  Object.assign(box.style, {
    display: "flex",
    gap: "0.5rem 1rem",
    alignItems: "center",
    justifyContent: "space-between",
    boxSizing: "border-box",
    maxWidth: "48rem",
    margin: "0.5rem auto 0",
    padding: "0.75rem 1rem",
    border: `1px solid ${border}`,
    borderLeftWidth: "0.375rem",
    borderRadius: "0.375rem",
    boxShadow: "0 0.125rem 0.75rem #0006",
    background,
    color: "#1f1a0d",
    font: "1rem/1.4 system-ui, sans-serif",
    overflowWrap: "anywhere",
    pointerEvents: "auto",
  });
  const said = document.createElement("span");
  said.textContent = text;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = close;
  Object.assign(button.style, {
    flex: "none",
    minHeight: "2.75rem",
    padding: "0 1rem",
    border: `1px solid ${border}`,
    borderRadius: "0.375rem",
    background: "#fff",
    color: "#1f1a0d",
    font: "inherit",
    cursor: "pointer",
  });
  box.append(said, button);
  const region = regions[role];
  const timer = setTimeout(() => region.replaceChildren(box), READ_AFTER_MS);
  const remove = () => {
    clearTimeout(timer);
    box.remove();
  };
  button.addEventListener("click", remove);
  return remove;
};

/** @type {typeof import("./banner.js").banner} */
export const banner = (notice, { label = text, close = "Close", parent = document.body } = {}) => {
  prepare(parent);
  return show("status", label(notice), close, "#8a6100", "#fff4d6");
};

/** @type {typeof import("./banner.js").warn} */
export const warn = (atRisk, { label = AT_RISK, close = "Close", parent = document.body } = {}) => {
  prepare(parent);
  // One that was closed does not come again while nothing has changed.
  if (atRisk) return void (unwarn ??= show("alert", label, close, "#a4262c", "#fde7e9"));
  unwarn?.();
  unwarn = undefined;
};
