"""The script tag alone, under the Content-Security-Policy of docs/client.md; all other pages here import the module."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.browsers.processes import now

if TYPE_CHECKING:
    from tests.browsers.chromium import Chromium
    from tests.browsers.stage import Stage

pytestmark = [pytest.mark.scenario, pytest.mark.serial, pytest.mark.browser]


@pytest.mark.parametrize("transport", ["auto", "post"])
def test_the_tag_alone_says_hello_beats_and_says_bye(stage: Stage, chromium: Chromium, transport: str) -> None:
    user = stage.agent()
    tab = stage.open(chromium, user, "/tag", transport=transport)
    assert stage.beats(4, user)[0] >= 3
    begun = now()
    tab.close()
    stage.set_offline(f"script tag, {transport}: tab closed", user, begun, "bye")


@pytest.mark.long
def test_the_tag_alone_has_a_socket(stage: Stage, own_chromium: Chromium) -> None:
    user = stage.agent()
    stage.open(own_chromium, user, "/tag")
    begun = now()
    own_chromium.signal(signal.SIGKILL)
    stage.set_offline("script tag: browser killed", user, begun, "torn")
