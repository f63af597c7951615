/** As much of an element as the banner touches. */
export class Element extends EventTarget {
  style = {};
  attributes = {};
  children = [];
  isConnected = false;
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  append(...children) {
    for (const child of children) Object.assign(child, { parent: this, isConnected: true });
    this.children.push(...children);
  }
  replaceChildren(...children) {
    this.children = [];
    this.append(...children);
  }
  remove() {
    if (this.parent) this.parent.children = this.parent.children.filter((each) => each !== this);
  }
  attachShadow() {
    return (this.shadow = new Element());
  }
  get firstChild() {
    return this.children[0] ?? null;
  }
  /** What is said below it. */
  get said() {
    const below = [...this.children, ...(this.shadow?.children ?? [])].flatMap((child) => child.said);
    return this.textContent ? [this.textContent, ...below] : below;
  }
}

export const createElement = (tag) => Object.assign(new Element(), { tag });
