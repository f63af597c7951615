/** How a page uses the ES module: it shows the client's status in a strip of its own, and the banner. */
import { banner, warn } from "https://watchdog.example.com/client/banner.js";
import { presence } from "https://watchdog.example.com/client/presence.js";

const WORDS = {
  driver: { worker: "a worker", main: "the page itself" },
  transport: { ws: "WebSocket", post: "POST" },
  atRisk: { true: "about to run out", false: "safe" },
};

presence({
  streams: connect,
  // In production a token comes from your own server, behind its own sign-in.
  getToken: () => "HEARTBEAT-TOKEN",
  onStatus(status) {
    for (const cell of document.querySelectorAll("#strip [data-of]")) {
      const value = status[cell.dataset.of];
      cell.textContent = WORDS[cell.dataset.of]?.[value] ?? value;
    }
    document.querySelector("#strip").dataset.state = status.atRisk ? "risk" : status.state;
    warn(status.atRisk);
  },
  onNotice: (notice) => banner(notice),
});
