"""Browsers that are missing, and what is left of those that were there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.browsers.processes import command, end, of_session
from tests.scenarios.harness import until


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)], ids=["elsewhere", "ci"]
)
def test_a_missing_browser_skips_its_tests_and_fails_in_continuous_integration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="install Debian's chromium-driver"):
        command("chromedriver")


def test_whatever_a_browser_has_started_is_ended_also_when_the_browser_is_dead_and_nothing_else() -> None:
    with (
        subprocess.Popen(["sleep", "60"], start_new_session=True) as other,
        subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"], start_new_session=True) as browser,
    ):
        until(lambda: len(of_session(browser.pid)) == 3, "its processes run")
        browser.kill()
        browser.wait()
        assert len(of_session(browser.pid)) == 2
        end(browser.pid)
        assert of_session(browser.pid) == []
        assert [pid for pid, _, _ in of_session(other.pid)] == [other.pid]
        os.kill(other.pid, 0)
        other.kill()
