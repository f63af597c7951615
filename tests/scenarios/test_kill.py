"""kill -9 again and again while agents come, stay and leave: nothing lost, nothing done twice, nobody touched."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx

from tests.scenarios.harness import INSTANCE, PATIENT, TOKEN, Daemon, Present, new_session, until
from tests.scenarios.stories import Stage, story
from watchdog.sandbox.records import Fault, FaultKind

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 50
LEAVERS = 60
STAYERS = 12


class Leavers:
    """Agents who come one after the other, beat a few times, and leave: some with a bye, the others in silence."""

    def __init__(self, daemon: Daemon, users: list[str], chance: random.Random) -> None:
        self._daemon = daemon
        self._users = users
        self._chance = chance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.left: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def join(self, limit_s: float) -> None:
        self._thread.join(limit_s)
        self._stop.set()
        assert not self._thread.is_alive(), "the leavers did not get through"

    def _run(self) -> None:
        with httpx.Client(timeout=2.0, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            for user in self._users:
                self._visit(client, user)

    def _visit(self, client: httpx.Client, user: str) -> None:
        body = {"instance_id": INSTANCE, "user_id": user, "session_id": new_session()}
        ticket = ""
        while not ticket and not self._stop.wait(0.05):
            ticket = self._post(client, {**body, "type": "hello"}).get("ticket", "")
        for _ in range(self._chance.randrange(4)):
            self._stop.wait(self._chance.uniform(0.05, 0.4))
            self._post(client, body)
        if self._chance.random() < 0.5:
            self._post(client, {**body, "type": "bye", "ticket": ticket})
        self.left.append(user)
        self._stop.wait(self._chance.uniform(0.2, 1.5))

    def _post(self, client: httpx.Client, body: dict[str, str]) -> dict[str, str]:
        try:
            answer = client.post(f"{self._daemon.url}/v1/heartbeat", json=body)
        except httpx.TransportError:
            return {}
        found: dict[str, str] = answer.json() if answer.status_code == 200 else {}
        return found


@story(agents=LEAVERS + STAYERS, seconds=150)
def test_fifty_kills_lose_nothing_do_nothing_twice_and_touch_nobody_who_stays(stage: Stage) -> None:
    seed = time.time_ns() % 1_000_000
    try:
        _fifty_kills(stage, random.Random(seed))
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


def _fifty_kills(stage: Stage, chance: random.Random) -> None:
    connect, daemon = stage.connect, stage.daemon
    # The timer and the grace stay short, so that agents are due between two kills.
    daemon.env |= PATIENT
    # Slow answers, so that many kills fall between the intent and its outcome.
    connect.model.add_fault(Fault(FaultKind.DELAY, operation="PutUserStatus", times=None, delay_s=0.15))
    stayers, leavers = stage.users[:STAYERS], Leavers(daemon, stage.users[STAYERS:], chance)
    daemon.start().ready()
    with Present(daemon, stayers, interval_s=0.3) as present:
        leavers.start()
        for _ in range(KILLS):
            stage.nap(chance.uniform(0.0, 3.2))
            daemon.kill()
            daemon.start()
            if chance.random() < 0.8:
                daemon.ready()
        daemon.ready()
        leavers.join(120)
        for user in leavers.left:
            until(lambda user=user: connect.status(user) == "Offline", f"{user} is set", 60)
        until(lambda: settled(daemon, stage.folder), "every intent has an outcome", 60)
        assert present.answered > 5 * KILLS, "too few beats came through to prove anything"
        states = Counter(daemon.state(user) for user in stayers)
        touched = [user for user in stayers if connect.writes(user) or connect.status(user) != "Available"]
    assert touched == [], "an agent who kept beating was set"
    assert states == {"live": STAYERS}
    effects = Counter(call.user_id for call in connect.writes())
    assert effects == dict.fromkeys(leavers.left, 1), "not exactly one effective change each"
    told = {action["agent"].partition("/")[2] for action in daemon.actions() if action["intent"] == "set_status"}
    assert told == set(leavers.left), "a change without its action in the history"
    assert daemon.stop() == 0


def settled(daemon: Daemon, folder: Path) -> bool:
    """Whether nothing is due any more and no intent is left on the disk."""
    if daemon.ask("/v1/status")["backlog"]:
        return False
    disk = sqlite3.connect(f"file:{folder}/watchdog.db?mode=ro", uri=True)
    try:
        return disk.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    finally:
        disk.close()
