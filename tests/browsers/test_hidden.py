"""Pages that nobody looks at: throttled, without a worker, frozen, stopped, hung."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.browsers.chromium import Chromium
from tests.browsers.processes import now, wait
from tests.browsers.stage import INTERVAL_S, staged, status, told
from tests.scenarios.harness import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browsers.chromium import Tab
    from tests.browsers.stage import Stage

pytestmark = [pytest.mark.scenario, pytest.mark.serial, pytest.mark.browser]

SOON = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10"
"""The harshest throttling of timers, one wake-up a minute, begins 10 s after a page is hidden, and not 5 min."""


def hidden(tab: Tab) -> bool:
    return bool(tab.run("return document.visibilityState") == "hidden")


def hide(tab: Tab, stage: Stage) -> None:
    """Puts another tab before it."""
    tab.browser.open(stage.site.url("/other"))
    until(lambda: hidden(tab), "it is hidden")


@pytest.fixture
def throttling(tmp_path: Path) -> Iterator[Chromium]:
    browser = Chromium(tmp_path / "profile", SOON)
    yield browser
    browser.close()


@pytest.mark.long
def test_without_a_worker_the_page_goes_on_when_it_is_hidden(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user, workers="none")
    hide(tab, stage)
    until(lambda: [each["visibility"] for each in stage.sessions(user)] == ["hidden"], "the daemon knows")
    assert stage.drivers(user) == ["main"]
    (beats,) = stage.beats(8 * INTERVAL_S, user)
    assert beats >= 2
    stage.nothing_happened("worker forbidden by CSP, tab hidden", user, f"{beats / 8:.1f} beats an interval", for_s=0)
    begun = now()
    tab.close()
    stage.set_offline("worker forbidden by CSP, tab closed", user, begun, "bye")


@pytest.mark.long
def test_under_the_harshest_throttling_beats_go_on(stage: Stage, throttling: Chromium) -> None:
    kinds = [(workers, transport) for workers in ("any", "none") for transport in ("auto", "post")]
    users = [stage.agent() for _ in kinds]
    tabs = [
        stage.open(throttling, user, workers=workers, transport=transport)
        for user, (workers, transport) in zip(users, kinds, strict=True)
    ]
    for tab in tabs:
        tab.run("window.ticks = []; setInterval(() => ticks.push(performance.now()), 1000)")
    hide(tabs[-1], stage)
    # It takes a page that is busy up to a minute to come under it.
    wait(75)
    beats = stage.beats(60 * INTERVAL_S, *users)
    for tab, user, (workers, transport), count in zip(tabs, users, kinds, beats, strict=True):
        assert hidden(tab)
        ticks = tab.run("return ticks.filter((at) => at > performance.now() - 60000).length")
        assert ticks <= 3, "the timers of the page are throttled"
        who = "worker" if workers == "any" else "page"
        note = f"{count / 60:.2f} beats an interval"
        event = f"hidden, throttled to a wake-up a minute; the {who} keeps the time, {transport}"
        stage.nothing_happened(event, user, note, for_s=0)
        assert count >= (54 if workers == "any" else 20)


def is_back(tab: Tab, stage: Stage, user: str) -> None:
    """The page beats again, and its agent, who was set meanwhile, is told once and not set again by us."""
    (notice,) = until(lambda: told(tab)["notices"], "it is told")
    assert (notice["status"], notice["restored"]) == ("Offline", None)
    until(lambda: status(tab)[:1] == ["live"], "it is live")
    until(lambda: stage.daemon.state(user) == "live", "it is live here, too")
    wait(1)
    assert len(stage.connect.writes(user)) == 1


@pytest.mark.long
def test_a_frozen_page_is_missed_in_silence_and_told_when_it_thaws(stage: Stage, chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user)
    hide(tab, stage)
    begun = now()
    tab.devtools("Page.setWebLifecycleState", state="frozen")
    stage.set_offline("page frozen", user, begun, "silence", "torn")
    tab.devtools("Page.setWebLifecycleState", state="active")
    is_back(tab, stage, user)
    tab.close()


@pytest.mark.long
def test_a_renderer_that_is_stopped_is_missed_in_silence_and_told_when_it_goes_on(
    stage: Stage, own_chromium: Chromium
) -> None:
    user = stage.agent()
    tab = stage.open(own_chromium, user)
    pid = tab.renderer()
    begun = now()
    os.kill(pid, signal.SIGSTOP)
    try:
        stage.set_offline("renderer stopped (SIGSTOP)", user, begun, "silence")
    finally:
        os.kill(pid, signal.SIGCONT)
    is_back(tab, stage, user)


@pytest.mark.long
def test_a_page_whose_main_thread_hangs_is_missed_after_the_lag_that_is_allowed(
    tmp_path: Path, own_chromium: Chromium, note: Callable[..., None]
) -> None:
    lag_s = 3
    with staged(tmp_path, agents=2, WATCHDOG_MAX_PAGE_LAG=str(lag_s)) as stage:
        stage.note = note
        user = stage.agent()
        tab = stage.open(own_chromium, user)
        begun = now()
        tab.run("setTimeout(() => { const end = performance.now() + 20000; while (performance.now() < end); }, 0)")
        stage.set_offline(f"main thread hung (MAX_PAGE_LAG {lag_s})", user, begun, "silence", after_s=lag_s + 1)
        is_back(tab, stage, user)
