"""Pages under which the daemon goes away, comes back, or takes their token no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browsers.processes import now, wait
from tests.browsers.stage import staged, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browsers.chromium import Chromium
    from tests.browsers.stage import Stage

pytestmark = [pytest.mark.scenario, pytest.mark.serial, pytest.mark.browser]


@pytest.fixture
def own_stage(tmp_path: Path, note: Callable[[str, str, float | None], None]) -> Iterator[Stage]:
    """With a daemon that may be stopped."""
    with staged(tmp_path, agents=4) as stage:
        stage.note = note
        yield stage


def test_a_daemon_that_is_restarted_sets_nobody(own_stage: Stage, chromium: Chromium) -> None:
    stage, user = own_stage, own_stage.agent()
    tab = stage.open(chromium, user)
    before = tab.run("return here.sessionId")
    begun = now()
    assert stage.daemon.stop() == 0
    stage.daemon.start().ready()
    note = f"beats again {stage.heard(user, now()) - begun:.1f} s after the stop"
    assert tab.run("return here.sessionId") == before
    stage.nothing_happened("daemon restarted", user, note)
    tab.close()


@pytest.mark.long
@pytest.mark.parametrize("workers", ["any", "none"])
def test_a_daemon_that_is_gone_for_30_s_sets_nobody(own_stage: Stage, chromium: Chromium, workers: str) -> None:
    stage, user = own_stage, own_stage.agent()
    tab = stage.open(chromium, user, workers=workers)
    stage.daemon.kill()
    wait(30)
    begun = now()
    stage.daemon.start().ready()
    note = f"beats again {stage.heard(user, begun) - begun:.1f} s after the start"
    who = "worker" if workers == "any" else "page"
    # Its clock may stand for as long as it was away, and the page backs off for up to 15 s.
    stage.nothing_happened(f"daemon gone for 30 s; the {who} keeps the time", user, note, for_s=40)
    tab.close()


@pytest.mark.long
def test_a_token_that_is_taken_no_more_is_asked_for_again(own_stage: Stage, chromium: Chromium) -> None:
    stage, user = own_stage, own_stage.agent()
    tab = stage.open(chromium, user)
    assert told(tab)["tokens"] == 1
    stage.site.token = "another-token-of-the-tests"
    assert stage.daemon.stop() == 0
    changes = {"HEARTBEAT_TOKENS": stage.site.token, "TICKET_SECRETS": "another-secret-of-the-tests-0123456789"}
    stage.daemon.start(**{f"WATCHDOG_{name}": value for name, value in changes.items()}).ready()
    stage.heard(user, now())
    asked = told(tab)["tokens"] - 1
    stage.nothing_happened("token and tickets void", user, f"401, `getToken` called {asked} time(s), beats again")
    assert asked >= 1
    assert "unauthorized" in [each["state"] for each in told(tab)["statuses"]]
    tab.close()
