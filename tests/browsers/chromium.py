"""Chromium, driven by Selenium, as an agent has it: what chromedriver switches off to make tests quick stays on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.browsers.processes import PageGoneError, command, end, of_session
from tests.scenarios.harness import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.remote.webdriver import WebDriver

UNTHROTTLED = [
    "disable-background-timer-throttling",
    "disable-backgrounding-occluded-windows",
    "disable-renderer-backgrounding",
]
"""Switches of chromedriver with which hidden pages run as if they were visible."""

ARGUMENTS = ["--headless=new", "--no-sandbox", "--window-size=800,600"]
"""Without a screen, and as root, where Chromium has no sandbox."""


class Chromium:
    """A browser with a profile of its own, and a first tab that stays empty, so that there always is one."""

    def __init__(self, profile: Path, *arguments: str) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = command("chromium")
        for each in (*ARGUMENTS, f"--user-data-dir={profile}", *arguments):
            options.add_argument(each)
        options.add_experimental_option("excludeSwitches", UNTHROTTLED)
        # A session of its own tells its processes from all others, also when it is dead.
        self._service = Service(command("chromedriver"), popen_kw={"start_new_session": True})
        try:
            self.driver = webdriver.Chrome(options=options, service=self._service)
            self.leader: int = self._service.process.pid
            self.debugger: str = self.driver.capabilities["goog:chromeOptions"]["debuggerAddress"]
            self.home: str = self.driver.current_window_handle
            ((self.pid, line),) = [
                (pid, line)
                for pid, parent, line in of_session(self.leader)
                if parent == self.leader and "--type=" not in line
            ]
            assert not [each for each in UNTHROTTLED if each in line]
        except BaseException:
            if self._service.process is not None:
                end(self._service.process.pid)
            raise

    @property
    def version(self) -> str:
        return f"Chromium {self.driver.capabilities['browserVersion']}"

    def close(self) -> None:
        end(self.leader)
        with contextlib.suppress(WebDriverException, OSError):
            self._service.stop()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the browser itself."""
        os.kill(self.pid, number)

    def open(self, url: str) -> Tab:
        """Opens the page in a new tab in front; those before it are hidden."""
        self.driver.switch_to.window(self.home)
        self.driver.switch_to.new_window("tab")
        tab = Tab(self, self.driver.current_window_handle)
        self.driver.get(url)
        return tab

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[Tab]]:
        """Fills the list with the tab or window that opens meanwhile."""
        before = set(self.driver.window_handles)
        found: list[Tab] = []
        yield found
        new = until(lambda: set(self.driver.window_handles) - before, "another window")
        found += [Tab(self, handle) for handle in new]

    def renderers(self) -> list[int]:
        return [pid for pid, _, line in of_session(self.leader) if "--type=renderer" in line]


@dataclass
class Tab:
    """A tab or a window of a browser."""

    browser: Chromium
    handle: str

    def front(self) -> WebDriver:
        """The driver with the tab in front, whose commands are the tab's."""
        self.browser.driver.switch_to.window(self.handle)
        return self.browser.driver

    def devtools(self, method: str, **parameters: Any) -> Any:
        """Sends a command past the driver, which would bring the tab to the front.

        Raises:
            PageGoneError: The page went before it answered.
        """
        address = f"ws://{self.browser.debugger}/devtools/page/{self.handle}"
        with connect(address, proxy=None, max_size=None) as socket:
            socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
            while True:
                try:
                    answer = json.loads(socket.recv(30))
                except ConnectionClosed as error:
                    raise PageGoneError(method) from error
                if answer.get("method") in ("Inspector.targetCrashed", "Inspector.detached"):
                    raise PageGoneError(method)
                if answer.get("id") == 1:
                    assert "error" not in answer, answer
                    return answer["result"]

    def run(self, script: str) -> Any:
        """What the body of a function returns in the page, as JSON has it; waits for a promise."""
        answer = self.devtools(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def go(self, url: str) -> None:
        self.front().get(url)

    def reload(self) -> None:
        self.front().refresh()

    def back(self) -> None:
        self.front().back()

    def close(self) -> None:
        self.front().close()

    def renderer(self) -> int:
        """The process that runs the page: the one that works while the page does."""
        before = {pid: _worked(pid) for pid in self.browser.renderers()}
        self.run("const end = performance.now() + 500; while (performance.now() < end);")
        return max(before, key=lambda pid: _worked(pid) - before[pid])


def _worked(pid: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
