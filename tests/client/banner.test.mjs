import assert from "node:assert/strict";
import { test } from "node:test";
import { banner, text } from "../../watchdog/web/client/banner.js";

const NOTICE = { status: "Offline", set_at: "2026-01-31T12:00:00.000Z", why: "All closed.", restored: null };

class Element extends EventTarget {
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
    this.parent.children = this.parent.children.filter((each) => each !== this);
  }
}

test("a notice says what was set, when, why, and what is again", () => {
  assert.match(text(NOTICE), /^You were set to Offline at .*\d\d.*\. All closed\.$/);
  assert.match(text({ ...NOTICE, restored: "Available" }), / Your status is Available again\.$/);
});

test("the banner is read out, is text, can be closed with a button, and there is one", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const body = new Element();
  globalThis.document = { body, createElement: (tag) => Object.assign(new Element(), { tag }) };
  banner(NOTICE, { label: () => "<b>text</b>", close: "Schließen" });
  const [region] = body.children;
  assert.equal(region.attributes.role, "status");
  // A live region is there before what it says.
  assert.deepEqual(region.children, []);
  t.mock.timers.tick(100);
  const [said, button] = region.children[0].children;
  assert.equal(said.textContent, "<b>text</b>");
  assert.deepEqual([button.tag, button.type, button.textContent], ["button", "button", "Schließen"]);
  const close = banner({ ...NOTICE, restored: "Available" });
  t.mock.timers.tick(100);
  assert.equal(body.children.length, 1);
  assert.equal(region.children.length, 1);
  region.children[0].children[1].dispatchEvent(new Event("click"));
  assert.deepEqual(region.children, []);
  close();
});
