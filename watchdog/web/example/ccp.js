/** A custom CCP as there are many: it embeds Amazon's for the sign-in, and shows the agent's status. No watchdog here. */
{
  const ccp = document.querySelector("#ccp");
  const panel = document.querySelector("#agent");

  const element = (tag, more = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), more);
    made.append(...children);
    return made;
  };

  connect.core.initCCP(ccp, {
    ccpUrl: "https://my-instance.my.connect.aws/ccp-v2/",
    loginPopup: true,
    softphone: { allowFramedSoftphone: true },
  });

  connect.agent((agent) => {
    const name = element("strong");
    const profile = element("span", { className: "quiet" });
    const now = element("p", { className: "status" });
    // Said aloud when it changes, also when the watchdog has changed it.
    now.setAttribute("role", "status");
    const choice = element("select");
    const failed = element("p", { className: "wrong", hidden: true });
    failed.setAttribute("role", "alert");
    choice.addEventListener("change", () => {
      const state = agent.getAgentStates().find((each) => each.name === choice.value);
      agent.setState(state, {
        success: () => (failed.hidden = true),
        failure(why) {
          failed.hidden = false;
          failed.textContent = `The status was not set: ${why}`;
          show();
        },
      });
    });
    const out = element("button", { type: "button", textContent: "Sign out" });
    // A page of your own ends Connect's session before, by a GET of https://my-instance.my.connect.aws/logout.
    out.addEventListener("click", () => connect.core.getEventBus().trigger(connect.EventType.TERMINATE));
    panel.append(
      element("p", { className: "who" }, name, profile, out),
      now,
      element("label", {}, "Status ", choice),
      failed,
    );

    const show = () => {
      const { username, routingProfile, agentStates } = agent.getConfiguration();
      const { name: current, type } = agent.getState();
      const next = agent.getNextState()?.name;
      name.textContent = username;
      profile.textContent = routingProfile.name;
      const text = next ? `${current}, then ${next}` : current;
      if (now.textContent !== text) now.textContent = text;
      now.dataset.type = type;
      const names = agentStates.map((each) => each.name);
      if (names.join() !== [...choice.options].map((each) => each.value).join())
        choice.replaceChildren(...names.map((each) => element("option", { textContent: each })));
      if (document.activeElement !== choice) choice.value = current;
      panel.hidden = false;
    };
    agent.onRefresh(show);
    agent.onStateChange(() => (choice.value = agent.getState().name));
    show();
  });

  connect.core.getEventBus().subscribe(connect.EventType.TERMINATED, () => (panel.hidden = true));
}
