"""Browsers and pages that die without a word."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.browsers.processes import PageGoneError, now

if TYPE_CHECKING:
    from tests.browsers.chromium import Chromium
    from tests.browsers.stage import Stage

pytestmark = [pytest.mark.scenario, pytest.mark.serial, pytest.mark.browser]


def test_a_browser_that_is_killed_is_missed_at_the_end_of_its_socket(stage: Stage, own_chromium: Chromium) -> None:
    user = stage.agent()
    stage.open(own_chromium, user)
    begun = now()
    own_chromium.signal(signal.SIGKILL)
    stage.set_offline("browser killed (SIGKILL)", user, begun, "torn")


@pytest.mark.long
def test_a_browser_that_is_killed_without_a_socket_is_missed_in_silence(stage: Stage, own_chromium: Chromium) -> None:
    user = stage.agent()
    stage.open(own_chromium, user, transport="post")
    begun = now()
    own_chromium.signal(signal.SIGKILL)
    stage.set_offline('browser killed (SIGKILL), `transport: "post"`', user, begun, "silence")


@pytest.mark.long
def test_a_browser_that_is_ended_says_bye_or_is_missed_at_the_end_of_its_socket(
    stage: Stage, own_chromium: Chromium
) -> None:
    user = stage.agent()
    stage.open(own_chromium, user)
    begun = now()
    own_chromium.signal(signal.SIGTERM)
    stage.set_offline("browser ended (SIGTERM)", user, begun, "bye", "torn")


@pytest.mark.long
def test_a_page_that_crashes_is_missed_at_the_end_of_its_socket(stage: Stage, own_chromium: Chromium) -> None:
    user = stage.agent()
    tab = stage.open(own_chromium, user)
    begun = now()
    with pytest.raises(PageGoneError):
        tab.devtools("Page.crash")
    stage.set_offline("renderer crashed", user, begun, "torn")
