/**
 * An optional banner for notices: tells the agent what the watchdog did, and is closed with a button. Text only, styled
 * without a style sheet, so that no Content-Security-Policy stands in its way.
 */

/** @type {typeof import("./banner.js").text} */
export const text = ({ status, set_at, why, restored }) => {
  const at = new Date(set_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `You were set to ${status} at ${at}. ${why}${restored ? ` Your status is ${restored} again.` : ""}`;
};

/** @type {HTMLElement | undefined} */
let region;

/** @type {typeof import("./banner.js").banner} */
export const banner = (notice, { label = text, close = "Close", parent = document.body } = {}) => {
  if (!region?.isConnected) {
    // A live region is read out only if it was there before its text.
    region = document.createElement("div");
    region.setAttribute("role", "status");
    Object.assign(region.style, { position: "fixed", inset: "auto 1rem 1rem", zIndex: "2147483647" });
    parent.append(region);
  }
  const box = document.createElement("div");
  Object.assign(box.style, {
    display: "flex",
    gap: "1rem",
    alignItems: "center",
    justifyContent: "space-between",
    padding: "0.75rem 1rem",
    borderRadius: "0.375rem",
    border: "1px solid #8a6100",
    background: "#fff4d6",
    color: "#1f1a0d",
    font: "1rem/1.4 system-ui, sans-serif",
  });
  const said = document.createElement("span");
  said.textContent = label(notice);
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = close;
  button.addEventListener("click", () => box.remove());
  box.append(said, button);
  const host = region;
  setTimeout(() => host.replaceChildren(box), 100);
  return () => box.remove();
};
