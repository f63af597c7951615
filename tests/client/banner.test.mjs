import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { createElement, Element } from "./element.mjs";

const BANNER = new URL("../../watchdog/web/client/banner.js", import.meta.url);
const NOTICE = { status: "Offline", set_at: "2026-01-31T12:00:00.000Z", why: "All closed.", restored: null };
let copies = 0;
let body;
let made;

beforeEach(async () => {
  body = new Element();
  globalThis.document = { body, createElement };
  made = await import(`${BANNER.href}?copy=${copies++}`);
});

const regions = () => Object.fromEntries(body.children[0].shadow.children.map((each) => [each.attributes.role, each]));

test("a notice says what was set, when, why, and what is again", () => {
  assert.match(made.text(NOTICE), /^You were set to Offline at .*\d\d.*\. All closed\.$/);
  assert.match(made.text({ ...NOTICE, restored: "Available" }), / Your status is Available again\.$/);
});

test("a notice is read out, is text, can be closed with a button, and there is one", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  made.banner(NOTICE, { label: () => "<b>text</b>", close: "Schließen" });
  const { status } = regions();
  // A live region is there before what it says.
  assert.deepEqual(status.children, []);
  t.mock.timers.tick(100);
  const [said, button] = status.children[0].children;
  assert.equal(said.textContent, "<b>text</b>");
  assert.deepEqual([button.tag, button.type, button.textContent], ["button", "button", "Schließen"]);
  const close = made.banner({ ...NOTICE, restored: "Available" });
  t.mock.timers.tick(100);
  assert.equal(body.children.length, 1);
  assert.equal(status.children.length, 1);
  status.children[0].children[1].dispatchEvent(new Event("click"));
  assert.deepEqual(status.children, []);
  close();
});

test("the warning is an alert, comes once, and goes when the page is heard", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  made.warn(false);
  const { alert } = regions();
  assert.deepEqual(body.said, []);
  made.warn(true);
  t.mock.timers.tick(100);
  assert.match(alert.said[0], /cannot hear this page.*may be set to Offline\.$/);
  const [box] = alert.children;
  made.warn(true);
  t.mock.timers.tick(100);
  assert.deepEqual(alert.children, [box]);
  // Who has closed it is not told again, until it is another time.
  box.children[1].dispatchEvent(new Event("click"));
  made.warn(true, { label: "Keine Verbindung" });
  t.mock.timers.tick(100);
  assert.deepEqual(alert.children, []);
  made.warn(false);
  made.warn(true, { label: "Keine Verbindung", close: "Schließen" });
  t.mock.timers.tick(100);
  assert.deepEqual(alert.said, ["Keine Verbindung", "Schließen"]);
  made.warn(false);
  assert.deepEqual(alert.children, []);
});

test("a warning that is over before it was shown is not shown", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  made.warn(true);
  made.warn(false);
  t.mock.timers.tick(100);
  assert.deepEqual(body.said, []);
});

test("a notice and the warning stand beside each other, and let clicks through around them", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  made.warn(true);
  made.banner(NOTICE);
  t.mock.timers.tick(100);
  const { alert, status } = regions();
  assert.deepEqual([alert.children.length, status.children.length], [1, 1]);
  made.warn(false);
  assert.deepEqual([alert.children.length, status.children.length], [0, 1]);
  const [host] = body.children;
  assert.deepEqual([host.style.pointerEvents, status.children[0].style.pointerEvents], ["none", "auto"]);
});

test("a page that throws the banner away gets another one", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  made.banner(NOTICE);
  const [old] = body.children;
  old.remove();
  old.isConnected = false;
  made.banner(NOTICE);
  t.mock.timers.tick(100);
  assert.equal(body.children.length, 1);
  assert.equal(body.said.length, 2);
});
