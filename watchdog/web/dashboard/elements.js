// Elements, made by name. Whatever comes from outside becomes text, never HTML: no other way is offered.

/**
 * @param {string} tag `div`, or with classes `div.tile.wide`.
 * @param {Record<string, unknown>} [attributes] `on…` are listeners; true sets an empty attribute; false and null none.
 * @param {...(Node | string | number | null | undefined | false)} children
 */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  put(made, children);
  return made;
}

/** Appends children; texts as texts. */
export function put(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return parent;
}

/** Replaces all children. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return put(parent, children);
}

/** Sets a text, and touches the page only if it is another one. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A state or outcome: a shape, and the word. */
export function mark(kind, text) {
  return el(`span.mark.is-${kind}`, {}, el("span.shape", { "aria-hidden": "true" }), el("span", {}, text));
}

/** Texts that count down between two answers of the daemon. */
export class Countdowns {
  constructor() {
    this.cells = new Map();
    this.frozen = false;
    this.timer = setInterval(() => this.tick(), 1000);
  }

  /** @param {HTMLElement} element @param {number | null} seconds @param {(left: number) => string} words */
  set(element, seconds, words) {
    if (seconds === null) {
      this.cells.delete(element);
      say(element, "–");
      return;
    }
    this.cells.set(element, { until: performance.now() + seconds * 1000, words });
    say(element, words(seconds));
  }

  tick() {
    if (this.frozen) return;
    for (const [element, { until, words }] of this.cells) {
      if (!element.isConnected) this.cells.delete(element);
      else say(element, words((until - performance.now()) / 1000));
    }
  }

  clear() {
    this.cells.clear();
  }
}
