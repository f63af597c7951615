"""A black hole with real processes: a proxy in front of everybody stops, and goes on a minute later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import Connect, Daemon, Present, free_port, sandbox, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.scenario, pytest.mark.serial]

HOLE_S = 60.0

PROXY = """
import asyncio, sys

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

async def serve(reader, writer):
    try:
        up, down = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, down), pump(up, writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=1000)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def connect() -> Iterator[Connect]:
    with sandbox(agents=40) as connect:
        yield connect


@contextmanager
def proxy(daemon: Daemon) -> Iterator[tuple[Daemon, int]]:
    port = free_port()
    child = subprocess.Popen([sys.executable, "-c", PROXY, str(port), str(daemon.port)])
    front = Daemon(daemon.folder, daemon.env, port)
    try:
        until(lambda: front.get("/livez") == 200, "the proxy answers")
        yield front, child.pid
    finally:
        child.kill()
        child.wait()
        front.client.close()


def test_a_black_hole_of_a_minute_in_front_of_forty_agents_calls_nobody(connect: Connect, daemon: Daemon) -> None:
    longer = {"WATCHDOG_SESSION_TTL": "4", "WATCHDOG_THROTTLED_SESSION_TTL": "8"}
    daemon.start(WATCHDOG_BRAKE_MIN_AGENTS="5", **longer).ready()
    users = connect.users
    until(lambda: daemon.ask("/v1/status")["instances"][0]["target"], "the statuses are listed")
    with proxy(daemon) as (front, pid), ExitStack() as floor:
        # An agent who is not live waits for a flush with each beat: a few to a thread, or the last would be too late.
        present = [floor.enter_context(Present(front, users[begin : begin + 5])) for begin in range(0, 40, 5)]
        until(lambda: daemon.ask("/v1/status")["agents"]["live"] == 40, "all are live")
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: daemon.ask("/v1/status")["brake"]["held"] == 40, "all are held")
            until(lambda: daemon.ask("/v1/status")["brake"]["holds"][0]["age_s"] > HOLE_S, "a minute is over", 90)
            assert daemon.ask("/v1/status")["brake"]["holds"][0]["reason"] == "mass_silence"
        finally:
            os.kill(pid, signal.SIGCONT)
        assert connect.writes() == []
        answered = sum(each.answered for each in present)
        until(lambda: sum(each.answered for each in present) > answered + 80, "the agents beat again", 60)
        until(lambda: daemon.ask("/v1/status")["brake"]["state"] == "clear", "the hold is over", 60)
        until(lambda: daemon.ask("/v1/status")["agents"]["live"] == 40, "all are live again", 60)
    assert not connect.model.calls(operation="PutUserStatus")
    assert {connect.status(user) for user in users} == {"Available"}
    assert {action["outcome"] for action in daemon.actions()} == {"held"}
    assert len(daemon.events("brake.tripped")) == 1
