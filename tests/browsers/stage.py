"""A daemon, a stand-in of Connect and the site of the pages, and what the tests ask of them.

The times are short, so that each story is; what is promised is the same sum of settings as with the defaults.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.browsers.processes import now, wait
from tests.browsers.site import Site
from tests.scenarios.harness import INSTANCE, TOKEN, Connect, Daemon, Present, sandbox, settings, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browsers.chromium import Chromium, Tab

INTERVAL_S, TTL_S, THROTTLED_S, TETHER_S, TIMER_S = 1.0, 4.0, 8.0, 2.0, 2.0

TIMES = {
    "WATCHDOG_HEARTBEAT_INTERVAL": str(INTERVAL_S),
    "WATCHDOG_SESSION_TTL": str(TTL_S),
    "WATCHDOG_THROTTLED_SESSION_TTL": str(THROTTLED_S),
    "WATCHDOG_TETHER_TTL": str(TETHER_S),
    "WATCHDOG_SESSION_END_TIMER": str(TIMER_S),
    "WATCHDOG_RESUME_GRACE": "30",
}

LATE_S = 1.0
"""What is promised besides the settings."""

MARGIN_S = 3.0
"""For a machine that has other things to do, too."""

LEFT_S = {"bye": 0.0, "torn": TETHER_S, "silence": TTL_S}
"""What is left of a session at most, by how it ends."""


@dataclass
class Stage:
    """One daemon and what is around it.

    Attributes:
        connect: The stand-in of Connect.
        daemon: Started, unless a test stops it.
        site: Where the pages are.
        note: Writes down what was measured: the event, what arrived, and the seconds to Offline if any.
    """

    connect: Connect
    daemon: Daemon
    site: Site
    note: Callable[[str, str, float | None], None] = print

    def agent(self) -> str:
        """An agent of whom nobody has heard yet."""
        return self.connect.users.pop()

    def page(self, user: str, path: str = "/module", **options: str) -> str:
        """The address of a page of the agent's."""
        return self.site.url(path, url=self.daemon.url, agent=f"{INSTANCE}/{user}", **options)

    def open(self, browser: Chromium, user: str, path: str = "/module", **options: str) -> Tab:
        """Opens a page, and waits until it beats as it is going to."""
        tab = browser.open(self.page(user, path, **options))
        self.settled(tab, user, path, **options)
        return tab

    def settled(self, tab: Tab, user: str, path: str = "/module", **options: str) -> None:
        driver = "main" if options.get("workers") == "none" else "worker"
        if path == "/module":
            wanted = ["live", driver, "post" if options.get("transport") == "post" else "ws"]
            until(lambda: status(tab) == wanted, f"{wanted}: {told(tab)}")
        until(lambda: driver in self.drivers(user), f"a session kept by the {driver}")

    def sessions(self, user: str) -> list[dict[str, Any]]:
        """Those that have a lease."""
        (found,) = self.daemon.ask(f"/v1/agents?q={user}")["agents"] or [{"sessions": []}]
        return [each for each in found["sessions"] if each["expires_in_s"] > 0]

    def drivers(self, user: str) -> list[str]:
        return [each["driver"] for each in self.sessions(user)]

    def live(self, user: str, sessions: int) -> None:
        until(lambda: len(self.sessions(user)) == sessions, f"{sessions} sessions")

    def set_offline(self, event: str, user: str, begun: float, *how: str, after_s: float = 0.0) -> None:
        """Waits until the agent is set, once, for the last session's end, and within what is promised.

        Args:
            event: What happened, for the table.
            user: Whose page it was.
            begun: When it happened.
            how: How the last session may end, as in the evidence: `bye`, `torn` or `silence`.
            after_s: What the session lasts longer, because of the event.
        """
        limit_s = after_s + max(LEFT_S[each] for each in how) + TIMER_S + LATE_S + MARGIN_S
        until(lambda: self.connect.writes(user), f"{event}: {user} is set", limit_s + 10)
        (write,) = self.connect.writes(user)
        took_s = write.at - begun
        action = until(lambda: self._action(user), "it is recorded")
        ended = action["evidence"]["sessions"][0]["ended"]
        self.note(event, ended, took_s)
        assert self.connect.status(user) == "Offline"
        assert ended in how
        # A lease began with the last heartbeat, up to an interval and its jitter before the event.
        least_s = TIMER_S + {"bye": 0.0, "torn": TETHER_S, "silence": TTL_S - 1.1 * INTERVAL_S - 0.5}[ended]
        assert least_s <= took_s <= limit_s

    def _action(self, user: str) -> dict[str, Any] | None:
        actions = self.daemon.ask(f"/v1/actions?agent={INSTANCE}/{user}")["actions"]
        return next((each for each in actions if each["outcome"] == "confirmed"), None)

    def nothing_happened(
        self, event: str, user: str, arrived: str, *, sessions: int = 1, for_s: float = TIMER_S + 2
    ) -> None:
        """Sees that the agent was not called for and lives on, longer than the timer of one that said bye."""
        wait(for_s)
        assert self.connect.model.calls(operation="PutUserStatus", user_id=user) == ()
        assert self.daemon.state(user) == "live"
        assert len(self.sessions(user)) == sessions
        self.note(event, arrived, None)

    def heard(self, user: str, since: float) -> float:
        """Waits for a heartbeat after that time, and returns when it came."""

        def last() -> float:
            found = self.daemon.ask(f"/v1/agents/{INSTANCE}/{user}")["last_seen"]
            return datetime.fromisoformat(found).timestamp() if found else 0.0

        until(lambda: last() > since, "a heartbeat")
        return last()

    def beats(self, for_s: float, *users: str) -> list[int]:
        """How many heartbeats of each arrive within that time."""
        seen: dict[str, set[str]] = {user: set() for user in users}
        end = now() + for_s
        while now() < end:
            for user in users:
                seen[user].add(self.daemon.ask(f"/v1/agents/{INSTANCE}/{user}")["last_seen"])
            wait(0.1)
        return [len(each) - 1 for each in seen.values()]


def told(tab: Tab) -> dict[str, Any]:
    """What the client told its page."""
    found: dict[str, Any] = json.loads(tab.run("return JSON.stringify(window.told ?? {})"))
    return found


def status(tab: Tab) -> list[str]:
    statuses = told(tab).get("statuses") or [{}]
    return [statuses[-1].get(name, "") for name in ("state", "driver", "transport")]


@contextlib.contextmanager
def staged(folder: Path, agents: int = 40, **changes: str) -> Iterator[Stage]:
    """A stage whose daemon is up, and hears one agent all the time: where all fall silent, the brake holds."""
    with sandbox(agents) as connect, Site(TOKEN) as site:
        origins = {"WATCHDOG_ALLOWED_ORIGINS": site.origin}
        daemon = Daemon(folder, settings(connect.server.url, **{**TIMES, **origins, **changes}))
        stage = Stage(connect, daemon, site)
        try:
            daemon.start().ready()
            until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
            with Present(daemon, [stage.agent()]):
                yield stage
        finally:
            daemon.close()
