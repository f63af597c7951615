"""The Python client, both ways, against a daemon and the stand-in of Connect as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.scenarios.harness import ADMIN, INSTANCE, ROOT, TOKEN, until
from tests.scenarios.stories import Stage, story
from watchdog.client import AsyncPresenceClient, Notice, PresenceClient, State, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

TTL_S, TETHER_S, TIMER_S = 12.0, 3.0, 1.0

TIMES = {"WATCHDOG_SESSION_TTL": str(TTL_S), "WATCHDOG_THROTTLED_SESSION_TTL": "12", "WATCHDOG_TETHER_TTL": "3"}


@contextlib.contextmanager
def asynchronous(*args: Any, **options: Any) -> Iterator[AsyncPresenceClient]:
    """An asynchronous client, in a loop and a thread of its own."""
    client = AsyncPresenceClient(*args, **options)
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with client:
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        yield client
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@contextlib.contextmanager
def clients(stage: Stage, port: int | None = None, **options: Any) -> Iterator[list[Any]]:
    """One client for each of the first four agents: both kinds, with and without a WebSocket."""
    url = f"http://127.0.0.1:{port or stage.daemon.port}"
    with contextlib.ExitStack() as stack:
        found = []
        for user, (kind, transport) in zip(
            stage.users,
            [(PresenceClient, "auto"), (PresenceClient, "post"), (asynchronous, "auto"), (asynchronous, "post")],
            strict=False,
        ):
            agent = f"{INSTANCE}/{user}"
            found.append(stack.enter_context(kind(url, agent, **{"token": TOKEN, "transport": transport, **options})))
        yield found


def carried(found: list[Any]) -> list[str]:
    return [each.status.transport for each in found if each.status.state is State.LIVE]


def log_out(stage: Stage, user: str) -> None:
    answer = stage.daemon.client.post(
        f"{stage.daemon.url}/v1/agents/{INSTANCE}/{user}/logout",
        json={},
        headers={"Authorization": f"Bearer {ADMIN}"},
        timeout=60,
    )
    assert answer.status_code == 204, answer.text


BY_BOTH = ["ws", "post", "ws", "post"]


@story(agents=5, seconds=20)
def test_who_closes_is_offline_after_the_timer_and_who_does_not_is_not(stage: Stage) -> None:
    stage.start(**TIMES)
    *leaving, staying = stage.users
    agent = stage.connect.instance.users[staying].arn
    with PresenceClient(stage.daemon.url, agent, token=TOKEN, login=True, visibility="visible"):
        with clients(stage) as found:
            until(lambda: carried(found) == BY_BOTH, "they beat, by WebSocket where they may")
            stage.all_live(5)
            stage.nap(3)
            begun = time.monotonic()
        assert time.monotonic() - begun < 3, "a bye that is answered takes no time"
        for user in leaving:
            stage.set_offline(user)
        assert TIMER_S <= time.monotonic() - begun < TTL_S, "by the bye"
        evidence = [action["evidence"]["sessions"][0]["ended"] for action in stage.daemon.actions()]
        assert evidence == ["bye"] * len(evidence)
        stage.nobody_was_touched([staying])
        assert stage.daemon.state(staying) == "live"


WRAPPER = """
import sys, time
from watchdog.client import PresenceClient
url, agent, token, transport = sys.argv[1:]
with PresenceClient(url, agent, token=token, transport=transport) as presence:
    assert presence.wait_until_live(30)
    while transport == "auto" and presence.status.transport != "ws":
        time.sleep(0.01)
    print("live", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def wrapper(stage: Stage, user: str, transport: str) -> Iterator[subprocess.Popen[str]]:
    """A desktop wrapper as a process."""
    args = [sys.executable, "-c", WRAPPER, stage.daemon.url, f"{INSTANCE}/{user}", TOKEN, transport]
    with subprocess.Popen(
        args,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "live\n"
            yield process
        finally:
            process.kill()


@story(agents=4, seconds=30)
def test_a_wrapper_that_is_killed_is_offline_after_the_tether_or_the_lease_and_the_timer(stage: Stage) -> None:
    stage.start(**TIMES)
    tied, posting, leaving, staying = stage.users
    with (
        # If nobody were heard any more, that would be held.
        PresenceClient(stage.daemon.url, f"{INSTANCE}/{staying}", token=TOKEN),
        wrapper(stage, tied, "auto") as first,
        wrapper(stage, posting, "post") as second,
        wrapper(stage, leaving, "auto") as third,
    ):
        stage.all_live(4)
        begun = time.monotonic()
        for process in (first, second):
            process.send_signal(signal.SIGKILL)
        assert third.stdin is not None
        third.stdin.close()
        assert third.wait(10) == 0
        stage.set_offline(leaving)
        stage.set_offline(tied)
        assert TETHER_S + TIMER_S <= time.monotonic() - begun < TTL_S - 1
        stage.set_offline(posting)
        assert time.monotonic() - begun >= TTL_S + TIMER_S - 1.1, "its last beat was up to an interval before"


@story(agents=4, seconds=30)
def test_a_daemon_that_is_killed_and_one_that_is_stopped_are_found_again(stage: Stage) -> None:
    stage.start(**TIMES)
    with clients(stage) as found:
        until(lambda: carried(found) == BY_BOTH, "they beat")
        stage.daemon.kill()
        until(lambda: {each.status.state for each in found} == {State.RETRYING}, "they notice")
        stage.start(**TIMES)
        until(lambda: len(carried(found)) == 4, "they are back", 30)
        assert stage.daemon.stop() == 0
        until(lambda: State.LIVE not in {each.status.state for each in found}, "they notice")
        stage.start(**TIMES)
        until(lambda: carried(found) == BY_BOTH, "they are back, also by WebSocket", 40)
        until(lambda: stage.status()["sessions"] == 4, "with the sessions that they had")
        stage.nothing_was_called()


@story(agents=4, seconds=30)
def test_a_proxy_that_cuts_the_sockets_is_followed_by_posts_at_once(stage: Stage) -> None:
    stage.start(**{**TIMES, "WATCHDOG_HEARTBEAT_INTERVAL": "4"})
    with stage.front() as front, clients(stage, front.port) as found:
        until(lambda: carried(found) == BY_BOTH, "they beat")
        front.cut()
        cut = time.monotonic()
        until(lambda: carried(found) == ["post"] * 4, "by POST")
        assert time.monotonic() - cut < TETHER_S
        until(lambda: carried(found) == BY_BOTH, "by WebSocket again", 40)
        stage.nothing_was_called()


@story(agents=4, seconds=30)
def test_a_token_that_is_taken_back_is_renewed_and_nobody_is_set(stage: Stage) -> None:
    secrets = {"WATCHDOG_TICKET_SECRETS": "a" * 40}
    stage.start(**TIMES, **secrets)
    tokens = [TOKEN]
    asked: list[str] = []

    def token() -> str:
        asked.append(tokens[-1])
        return tokens[-1]

    with clients(stage, token=token) as found:
        until(lambda: carried(found) == BY_BOTH, "they beat")
        assert asked == [TOKEN] * 4
        assert stage.daemon.stop() == 0
        # Neither what they have nor what it gave them is worth anything.
        new = {"WATCHDOG_HEARTBEAT_TOKENS": "another-token-of-the-tests", "WATCHDOG_TICKET_SECRETS": "b" * 40}
        tokens.append(new["WATCHDOG_HEARTBEAT_TOKENS"])
        stage.start(**TIMES, **new)
        until(lambda: carried(found) == BY_BOTH, "they are back", 40)
        assert asked[4:] == [tokens[-1]] * 4
        stage.nothing_was_called()


@story(agents=4, seconds=40)
def test_who_is_logged_out_stops_until_resumed_and_hears_what_was_done(stage: Stage) -> None:
    stage.start(**TIMES)
    notices: list[Notice] = []
    with clients(stage, on_notice=notices.append) as found:
        until(lambda: carried(found) == BY_BOTH, "they beat")
        for user in stage.users:
            log_out(stage, user)
        until(lambda: {each.status for each in found} == {Status(State.STOPPED)}, "they are told to stop")
        for each in (found[0], found[1]):
            each.resume()
        until(lambda: carried(found[:2]) == ["ws", "post"], "two are there again")
        assert {each.status.state for each in found[2:]} == {State.STOPPED}
        states = [stage.daemon.state(user) for user in stage.users]
        assert states[:2] == ["live", "live"]
        assert "live" not in states[2:]
    assert {stage.connect.status(user) for user in stage.users} == {"Offline"}


LOOP = re.search(
    r"This is all of it:\n\n```python\n(.*?)^```",
    (ROOT / "docs" / "python-client.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


class Over(Exception):
    """Ends the loop."""


@story(agents=4, seconds=30)
def test_the_loop_for_gateways_beats_for_whoever_is_there_and_nobody_else(stage: Stage) -> None:
    stage.start(**TIMES)
    leaving, logged_out, *staying = stage.users
    here = {f"{INSTANCE}/{user}" for user in stage.users}
    over = threading.Event()
    said: list[str] = []

    def asked() -> set[str]:
        if over.is_set():
            raise Over
        return set(here)

    def run() -> None:
        assert LOOP is not None
        names: dict[str, Any] = {"print": said.append}
        exec(LOOP[1], names)
        with contextlib.suppress(Over):
            names["beat"](stage.daemon.url, TOKEN, asked, every_s=1.0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        stage.all_live(4)
        here.remove(f"{INSTANCE}/{leaving}")
        begun = time.monotonic()
        log_out(stage, logged_out)
        until(lambda: any(logged_out in each for each in said), "the gateway is told")
        stage.daemon.kill()
        until(lambda: any(each.startswith("not heard") for each in said), "it notices")
        stage.start(**TIMES)
        stage.set_offline(leaving)
        assert time.monotonic() - begun >= TTL_S + TIMER_S - 0.5
        stage.nobody_was_touched(staying)
        stage.all_live(2)
    finally:
        over.set()
        thread.join()
