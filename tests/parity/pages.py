"""Pages with the browser client that the daemon serves, on real sockets: `tests/client/open.mjs` opens them in node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Literal, Self

import pytest

from tests.parity.floor import ARN, Agent, Floor, wait_for
from tests.scenarios.harness import ROOT, TOKEN

if TYPE_CHECKING:
    from types import TracebackType

OPEN = ROOT / "tests" / "client" / "open.mjs"

CLOSE_LIMIT_S = 20.0


class ClientPage:
    """One page, signed in as an agent by a stand-in of Streams; closing it says bye, as far as the client does."""

    def __init__(self, floor: Floor, agent: Agent, way: Literal["tag", "module"]) -> None:
        """Opens the page.

        Args:
            floor: Whose daemon is meant.
            agent: Who signs in.
            way: A script tag with a banner, or the module, which shows a banner itself.
        """
        node = shutil.which("node")
        if node is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("node is missing")
        self._shown: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [node, OPEN, floor.daemon.url, way, ARN + agent.id, TOKEN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._process.poll() is None:
            self.closes()
        _, wrong = self._process.communicate(timeout=CLOSE_LIMIT_S)
        if error is not None:
            error.add_note(wrong)

    @property
    def status(self) -> dict[str, Any] | None:
        """What the client told last; only a module is told."""
        return self._shown.get("status")

    @property
    def said(self) -> list[str]:
        """What the banner says now."""
        found: list[str] = self._shown.get("said", [])
        return found

    def says(self, *parts: str) -> None:
        """Waits until the banner says this and nothing else."""

        def same() -> bool:
            return len(self.said) == len(parts) and all(map(str.__contains__, self.said, parts))

        try:
            wait_for(same, f"the banner says {parts}")
        except AssertionError as error:
            error.add_note(f"{self.said}, {self.status}, {self._process.poll()}")
            raise

    def goes(self, line: Literal["offline", "online", "close"]) -> None:
        """Takes the network from the page, or gives it back; or closes the page."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def closes(self) -> None:
        """Closes the page and waits until it has gone."""
        self.goes("close")
        self._process.wait(CLOSE_LIMIT_S)
        self._reading.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._shown = json.loads(line)
