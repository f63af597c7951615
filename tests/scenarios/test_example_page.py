"""What `watchdog demo --keep` does when the story is over: the example page, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from rich.console import Console

from tests.scenarios.harness import new_session
from watchdog.sandbox.demo import keeping
from watchdog.sandbox.demo.agents import Office
from watchdog.sandbox.demo.processes import DemoError, Processes
from watchdog.sandbox.demo.roles import AWAY, BACK_OFFICE, SERVICE, TIMING
from watchdog.sandbox.demo.stage import Stage
from watchdog.sandbox.demo.watching import Watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.scenario

LIMIT_S = 30.0


@contextlib.asynccontextmanager
async def kept(processes: Processes) -> AsyncIterator[tuple[asyncio.Task[None], io.StringIO]]:
    """Both processes without a story, and what comes after it."""
    await processes.start_sandbox()
    async with httpx.AsyncClient(trust_env=False) as client:
        body = {
            "agents": 0,
            "instance_id": processes.instance_id,
            "statuses": [AWAY],
            "routing_profiles": [SERVICE, BACK_OFFICE],
        }
        (await client.post(f"{processes.sandbox_url}/sandbox/instances", json=body)).raise_for_status()
        await processes.start_daemon()
        addresses = {"daemon_url": processes.daemon_url, "sandbox_url": processes.sandbox_url}
        tokens = {"token": processes.heartbeat_token, "admin_token": processes.admin_token}
        stage, said = Stage(TIMING), io.StringIO()
        office = Office(client, instance_id=processes.instance_id, tell=stage.tell, **addresses, **tokens)
        watcher = Watcher(client, **addresses, admin_token=processes.admin_token)
        console = Console(file=said, width=200, no_color=True, highlight=False)
        task = asyncio.create_task(keeping.stay(stage, processes, watcher, office, console))
        try:
            yield task, said
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def told(find: Callable[[], object], task: asyncio.Task[None]) -> None:
    """Waits until it is so; the task must go on meanwhile."""
    end = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(find):
        assert not task.done(), task
        assert time.monotonic() < end
        await asyncio.wait({task}, timeout=0.05)


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end


def visit(origin: str) -> None:
    """Does what a browser does with the page, as far as it concerns the servers."""
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(f"{origin}/").text
        line = re.search(r'src="(.+)/client/presence\.js" data-streams data-token="(.+?)"', page)
        assert line is not None
        daemon, token = line.groups()
        assert "export const presence" in browser.get(f"{daemon}/client/presence.js").text
        # The daemon itself has no such page.
        for path in ("/module.html", "/example/", "/client/index.html", "/floor.json"):
            assert browser.get(daemon + path).status_code == 404

        def mine() -> dict[str, object]:
            (first, *_) = browser.get(f"{origin}/floor.json").json()["agents"]
            return dict(first)

        def says(kind: str, **more: object) -> httpx.Response:
            body = {"agent": mine()["arn"], "session_id": session, "type": kind, **more}
            headers = {"origin": origin, "content-type": "text/plain;charset=UTF-8"}
            return browser.post(f"{daemon}/v1/heartbeat", content=json.dumps(body), headers=headers)

        def is_(**fields: object) -> Callable[[], bool]:
            return lambda: fields.items() <= mine().items()

        session = new_session()
        assert (mine()["yours"], mine()["status"]) == (True, "Available")
        hello = says("hello", token=token)
        assert (hello.status_code, hello.headers["access-control-allow-origin"]) == (200, origin)
        eventually(is_(state="live", sessions=1))
        assert says("bye", ticket=hello.json()["ticket"]).status_code == 204
        eventually(is_(state="grace", sessions=0))
        eventually(is_(status="Offline"))
        chosen = browser.post(f"{origin}/agents/{mine()['user_id']}/status", json={"status": "Away"})
        assert chosen.status_code == 204
        eventually(is_(status="Away"))


def test_the_page_has_its_client_from_the_daemon_shows_its_agent_and_ends_with_the_demo():
    async def play() -> None:
        with Processes(TIMING) as processes:
            async with kept(processes) as (task, said):
                await told(lambda: "watch the table: http" in said.getvalue(), task)
                found = re.search(r"watch the table: (http://127.0.0.1:\d+)/", said.getvalue())
                assert found is not None
                await asyncio.to_thread(visit, found[1])
                assert "chooses Away in the example page" in said.getvalue()
                # A browser that keeps its connection, and one in the middle of a request, hold nothing up.
                address = ("127.0.0.1", urlsplit(found[1]).port)
                with socket.create_connection(address) as idle, socket.create_connection(address) as slow:
                    idle.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    assert await asyncio.to_thread(idle.recv, 12) == b"HTTP/1.1 200"
                    user_id = re.findall(r"agent/([0-9a-f-]+)", said.getvalue())[0].encode()
                    slow.sendall(b"POST /agents/%b/status HTTP/1.1\r\nHost: 127.0.0.1\r\n" % user_id)
                    slow.sendall(b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n")
                    began = time.monotonic()
                    task.cancel()
                    await asyncio.wait({task}, timeout=LIMIT_S)
                    assert task.cancelled()
                    assert time.monotonic() - began < 5
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address)

    asyncio.run(play())


def test_a_port_that_is_taken_ends_the_demo_with_a_word():
    async def play() -> None:
        with Processes(TIMING) as processes, socket.create_server(("127.0.0.1", processes.page_port)):
            async with kept(processes) as (task, _):
                await asyncio.wait({task}, timeout=LIMIT_S)
                with pytest.raises(DemoError, match=f"port {processes.page_port}"):
                    task.result()

    asyncio.run(play())
