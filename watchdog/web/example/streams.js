/**
 * A stand-in for amazon-connect-streams, as much of it as the page and the watchdog's client use. The names, and when
 * things happen, are Amazon's; agents and statuses are the demo's. Nothing here belongs into a page of your own.
 */
window.connect = (() => {
  /** In place of Connect's cookie: whoever is signed in is so in all tabs of the browser. */
  const COOKIE = "stand-in.agent";
  const EVERY_MS = 1000;
  const EventType = {
    TERMINATE: "terminate",
    TERMINATED: "terminated",
    AUTH_FAIL: "auth_fail",
    INIT: "agent::init",
    REFRESH: "agent::refresh",
    STATE_CHANGE: "agent::state_change",
  };
  const TYPES = { Available: "routable", Offline: "offline" };

  const newBus = () => {
    const handlers = {};
    return {
      subscribe(event, then) {
        const all = (handlers[event] ??= new Set());
        all.add(then);
        return { unsubscribe: () => all.delete(then) };
      },
      trigger(event, data) {
        for (const then of [...(handlers[event] ?? [])])
          try {
            then(data);
          } catch (error) {
            console.error(error);
          }
      },
    };
  };

  let bus = null;
  let container;
  /** Who is signed in, as Connect has them; of the last one when nobody is. */
  let user;
  let signedIn = false;
  let announced = false;
  let statuses = [];

  const state = (name) => name && { name, type: TYPES[name] ?? "not_routable", agentStateARN: `${user.arn}/${name}` };

  const agent = {
    getAgentARN: () => user.arn,
    getName: () => user.name,
    getState: () => state(user.status),
    getNextState: () => state(user.next_status),
    getAgentStates: () => statuses.map(state),
    getConfiguration: () => ({
      agentARN: user.arn,
      username: user.name,
      name: user.name,
      routingProfile: { name: user.profile },
      agentStates: statuses.map(state),
    }),
    async setState({ name }, { success, failure } = {}) {
      try {
        const answer = await fetch(`agents/${user.user_id}/status`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ status: name }),
        });
        if (!answer.ok) throw new Error(await answer.text());
        await look();
        success?.();
      } catch (error) {
        failure?.(error.message);
      }
    },
    onRefresh: (then) => bus.subscribe(EventType.REFRESH, then),
    onStateChange: (then) => bus.subscribe(EventType.STATE_CHANGE, then),
  };

  /** @param {{agents: any[]}} floor */
  const signInForm = (floor) => {
    const form = document.createElement("form");
    const label = document.createElement("label");
    const choice = document.createElement("select");
    for (const [title, yours] of [
      ["Yours to play", true],
      ["Played by the demo", false],
    ]) {
      const group = Object.assign(document.createElement("optgroup"), { label: title });
      for (const each of floor.agents.filter((one) => one.yours === yours))
        group.append(Object.assign(document.createElement("option"), { value: each.user_id, textContent: each.name }));
      choice.append(group);
    }
    label.append("Agent ", choice);
    form.append(label, Object.assign(document.createElement("button"), { textContent: "Sign in" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      localStorage.setItem(COOKIE, choice.value);
      look();
    });
    return form;
  };

  const left = () => {
    if (!signedIn) return;
    signedIn = false;
    bus.trigger(EventType.TERMINATED);
  };

  /** Asks Connect who is signed in, and how they are. */
  const look = async () => {
    const cookie = localStorage.getItem(COOKIE);
    if (!cookie) left();
    let floor;
    try {
      floor = await (await fetch("floor.json")).json();
    } catch {
      return; // The table tells.
    }
    if (cookie !== localStorage.getItem(COOKIE)) return;
    ({ statuses } = floor);
    const found = floor.agents.find((each) => each.user_id === cookie);
    container.hidden = !!found;
    if (!found) {
      left();
      if (!container.firstChild) container.append(signInForm(floor));
      return;
    }
    const before = signedIn && user;
    user = found;
    signedIn = true;
    if (!announced) {
      announced = true;
      bus.trigger(EventType.INIT, agent);
    } else bus.trigger(EventType.REFRESH, agent);
    if (before && before.status !== user.status)
      bus.trigger(EventType.STATE_CHANGE, { agent, oldState: before.status, newState: user.status });
  };

  return {
    EventType,
    agent(then) {
      bus.subscribe(EventType.INIT, then);
      if (announced) then(agent);
    },
    core: {
      getEventBus: () => bus,
      initCCP(element) {
        if (bus) return;
        bus = newBus();
        container = element;
        bus.subscribe(EventType.TERMINATE, () => {
          localStorage.removeItem(COOKIE);
          look();
        });
        addEventListener("storage", look);
        setInterval(look, EVERY_MS);
        look();
      },
    },
  };
})();
