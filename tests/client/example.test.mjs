/** The example page's stand-in for Streams, with the client on it: what happens is what happens with Amazon's. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, test } from "node:test";
import { createElement, Element } from "./element.mjs";
import { page, restore } from "./page.mjs";
import { settle } from "./world.mjs";

afterEach(restore);

const SCRIPT = readFileSync(new URL("../../watchdog/web/example/streams.js", import.meta.url), "utf8");

const person = (name, more) => ({
  user_id: name,
  arn: `arn:aws:connect:us-east-1:1:instance/i/agent/${name}`,
  name,
  profile: "Service",
  yours: true,
  status: "Available",
  next_status: null,
  ...more,
});

/** A page with the stand-in on it, before initCCP; `cookies` are of the browser, `floor` is what Connect answers. */
const example = async (cookies = new Map()) => {
  const floor = { statuses: ["Available", "Away", "Offline"], agents: [person("a"), person("b", { yours: false })] };
  const chosen = [];
  const p = await page({
    prepare({ window, document }) {
      document.createElement = createElement;
      const client = window.fetch;
      globalThis.fetch = window.fetch = async (url, init) => {
        if (String(url).endsWith("/v1/heartbeat")) return client(url, init);
        if (!floor.agents) throw new TypeError("Failed to fetch");
        if (init) {
          chosen.push([url, init.body]);
          Object.assign(floor.agents[0], JSON.parse(init.body));
        }
        return { ok: true, json: async () => structuredClone(floor) };
      };
      const localStorage = {
        getItem: (name) => cookies.get(name) ?? null,
        setItem: (name, value) => cookies.set(name, value),
        removeItem: (name) => cookies.delete(name),
      };
      Object.defineProperty(globalThis, "localStorage", { value: localStorage, configurable: true });
      globalThis.addEventListener = (type, then) => window.addEventListener(type, then);
      new Function(SCRIPT)();
    },
  });
  const { connect } = p.window;
  const container = new Element();
  const states = [];
  p.presence({ url: "https://w.example", streams: connect, onStatus: ({ state }) => states.push(state) });
  return {
    ...p,
    look: p.look,
    connect,
    container,
    cookies,
    floor,
    chosen,
    states,
    async init() {
      connect.core.initCCP(container, {});
      await p.pass(1000);
    },
    async signIn(name) {
      const [form] = container.children;
      form.children[0].children.at(-1).value = name;
      form.dispatchEvent(new Event("submit"));
      await p.pass(100);
    },
    signOut: () => {
      connect.core.getEventBus().trigger(connect.EventType.TERMINATE);
      return settle();
    },
  };
};

test("before initCCP there is no bus; then the agent signs in, and out, and in again", async () => {
  const p = await example();
  assert.equal(p.connect.core.getEventBus(), null);
  await p.pass(2000);
  await p.init();
  assert.deepEqual([p.look(), p.container.hidden], [[], false]);
  await p.signIn("a");
  assert.deepEqual([p.look(), p.container.hidden], [["hello 0"], true]);
  await p.signOut();
  assert.deepEqual([p.look(), p.states.at(-1)], [["bye 0"], "away"]);
  await p.pass(30000);
  assert.deepEqual([p.look(), p.container.hidden], [[], false]);
  await p.signIn("a");
  await p.pass(1000);
  assert.deepEqual(p.look(), ["hello 1"]);
});

test("all tabs of a browser are signed in and out together", async () => {
  const cookies = new Map();
  const p = await example(cookies);
  await p.init();
  cookies.set("stand-in.agent", "b");
  await p.fire(p.window, "storage");
  await p.pass(100);
  const [hello] = p.sent;
  assert.match(hello.agent, /agent\/b$/);
  p.look();
  cookies.clear();
  await p.fire(p.window, "storage");
  assert.deepEqual(p.look(), ["bye 0"]);
});

test("another agent in the same tab has another session", async () => {
  const p = await example();
  await p.init();
  await p.signIn("a");
  const [{ session_id }] = p.sent;
  await p.signOut();
  await p.pass(5000);
  p.sent.length = 0;
  await p.signIn("b");
  await p.pass(1000);
  assert.match(p.sent[0].agent, /agent\/b$/);
  assert.notEqual(p.sent[0].session_id, session_id);
});

test("a demo that is gone signs nobody out", async () => {
  const p = await example();
  await p.init();
  await p.signIn("a");
  p.look();
  const { agents } = p.floor;
  p.floor.agents = undefined;
  await p.pass(5000);
  p.floor.agents = agents;
  await p.pass(2000);
  assert.deepEqual([p.look(), p.states.at(-1)], [[], "live"]);
});

test("a status is chosen in Connect, and a change there is told", async () => {
  const p = await example();
  await p.init();
  let agent;
  const changes = [];
  p.connect.agent((given) => (agent = given));
  await p.signIn("a");
  agent.onStateChange(({ oldState, newState }) => changes.push([oldState, newState]));
  const away = agent.getAgentStates().find(({ name }) => name === "Away");
  await new Promise((success, failure) => agent.setState(away, { success, failure }));
  assert.deepEqual(p.chosen, [["agents/a/status", '{"status":"Away"}']]);
  assert.deepEqual(agent.getState().type, "not_routable");
  p.floor.agents[0].status = "Offline";
  await p.pass(1000);
  assert.deepEqual(changes, [
    ["Available", "Away"],
    ["Away", "Offline"],
  ]);
});
