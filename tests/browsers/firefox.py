"""Firefox over WebDriver BiDi, which it speaks itself: there is no geckodriver in Debian."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.browsers.processes import PageGoneError, command, end
from tests.scenarios.harness import until

if TYPE_CHECKING:
    from pathlib import Path

PREFERENCES = {
    # Else BiDi sets what makes tests quick.
    "remote.prefs.recommended": False,
    "app.update.disabledForTesting": True,
    "app.normandy.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}
"""As an agent has it, but for what would ask servers of Mozilla."""

LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Firefox:
    """A browser with a profile of its own, and a first tab that stays empty."""

    def __init__(self, profile: Path) -> None:
        profile.mkdir()
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        path = profile / "firefox.log"
        arguments = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        with path.open("wb") as log:
            self._process = subprocess.Popen(
                [command("firefox-esr"), *arguments],
                env={**os.environ, "MOZ_CRASHREPORTER_DISABLE": "1"},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._open = contextlib.ExitStack()
        self._open.callback(self._process.wait)
        self._open.callback(end, self._process.pid)
        try:
            (address,) = until(lambda: LISTENING.findall(path.read_text(errors="replace")), "Firefox listens", 60)
            self._socket = self._open.enter_context(connect(f"{address}/session", proxy=None, max_size=None))
            self._number = 0
            self.version = "Firefox {browserVersion}".format(**self.ask("session.new", capabilities={})["capabilities"])
            self.home: str = self.ask("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._open.close()

    def kill(self) -> None:
        """Kills the browser itself, not its pages' processes."""
        os.kill(self._process.pid, signal.SIGKILL)

    def ask(self, method: str, **parameters: Any) -> Any:
        """Sends a command and waits for its answer."""
        self._number += 1
        try:
            self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
            while True:
                answer = json.loads(self._socket.recv(30))
                if answer.get("id") == self._number:
                    assert answer["type"] == "success", answer
                    return answer["result"]
        except ConnectionClosed as error:
            raise PageGoneError(method) from error

    def open(self, url: str) -> Tab:
        """Opens the page in a new tab in front."""
        tab = Tab(self, self.ask("browsingContext.create", type="tab")["context"])
        tab.go(url)
        return tab


@dataclass
class Tab:
    """A tab of a browser."""

    browser: Firefox
    context: str

    def run(self, script: str) -> Any:
        """What the body of a function returns in the page, as JSON has it; waits for a promise."""
        answer = self.browser.ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await (async () => {{ {script} }})()) ?? 'null')()",
            target={"context": self.context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"]["value"])

    def go(self, url: str) -> None:
        self.browser.ask("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def reload(self) -> None:
        self.browser.ask("browsingContext.reload", context=self.context, wait="complete")

    def back(self) -> None:
        self.browser.ask("browsingContext.traverseHistory", context=self.context, delta=-1)

    def close(self) -> None:
        self.browser.ask("browsingContext.close", context=self.context)
