"""The simulated agents: people with browser tabs, who send heartbeats as the browser client does.

A hello and beats carry the token or the session's ticket, a bye is plain text with the ticket inside. A heartbeat that
fails is tried again; what the daemon answers to it is all that a tab knows of the daemon.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from watchdog.sandbox.demo.roles import AVAILABLE, Act, Mark, Role, Step
from watchdog.sandbox.demo.verdict import Moment

RETRY_S = 0.5
"""After a heartbeat that failed."""

LOG_OUT_LIMIT_S = 45.0
"""For an answer to an order to log an agent out. Source: docs/http.md, at most 40 s."""

ARRIVAL_S = 0.1
"""Between the arrivals of two agents, so that a newcomer sees them come."""

Tell = Callable[[str, str], None]
"""Takes an agent's name and what happened."""


class Unexpected(Exception):
    """The daemon refused a heartbeat that was right; the text is its answer."""


@dataclass(slots=True)
class Office:
    """What all agents share: the way to the daemon and to Connect, and the count of heartbeats.

    Attributes:
        client: Sends everything.
        daemon_url: Where heartbeats go.
        sandbox_url: Where an agent's own choice of a status goes, and contacts.
        instance_id: The agents' in Connect.
        token: For heartbeats.
        admin_token: For orders.
        tell: Told of everything that an agent does.
        heartbeats: Answered so far, byes included.
        failed_at: When one was sent and not answered, epoch seconds.
    """

    client: httpx.AsyncClient
    daemon_url: str
    sandbox_url: str
    instance_id: str
    token: str
    admin_token: str
    tell: Tell
    heartbeats: int = 0
    failed_at: list[float] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Tab:
    """A page load: a session of its own."""

    session_id: str = field(default_factory=lambda: str(uuid4()))
    seq: int = 0
    ticket: str | None = None
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    beats: asyncio.Task[None] | None = None


class Agent:
    """One person, playing a role.

    Attributes:
        role: What is to be done, and when.
        user_id: In Connect.
        arn: In Connect.
        now: What the person is doing, in words.
        moments: When no session was left, a page was opened, a call was over and so on, as the person knows it.
        stopped: Pages that were told to stop.
        refusals: What the daemon refused to do.
    """

    def __init__(self, role: Role, user_id: str, arn: str, office: Office) -> None:
        """Take a role; nothing is sent yet."""
        self.role = role
        self.user_id = user_id
        self.arn = arn
        self.now = "not here yet"
        self.moments: list[Moment] = []
        self.stopped = 0
        self.refusals: list[str] = []
        self._contact_id = ""
        self._office = office
        self._tabs: list[Tab] = []
        self._online = True
        self._last_beat_at = 0.0

    @property
    def tabs(self) -> int:
        """How many tabs are open."""
        return len(self._tabs)

    async def play(self, started_at: float) -> None:
        """Arrive, play all steps, and keep the tabs beating until cancelled.

        Args:
            started_at: When the story began, on the monotonic clock.

        Raises:
            Unexpected: A heartbeat was refused.
            httpx.HTTPError: Connect's stand-in cannot be reached.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                await _sleep_until(started_at + ARRIVAL_S * self.role.number)
                await self._do(Step(0, Act.OPEN_TAB, "arrives, and becomes Available", "works"), tasks)
                await self._choose_available()
                for step in self.role.steps:
                    await _sleep_until(started_at + step.at_s)
                    await self._do(step, tasks)
        finally:
            self._tabs.clear()

    async def _do(self, step: Step, tasks: asyncio.TaskGroup) -> None:
        self._office.tell(self.role.name, step.says)
        self.now = step.now
        match step.act:
            case Act.OPEN_TAB:
                tab = Tab()
                self._mark(Mark.PAGE)
                self._tabs.append(tab)
                tab.beats = tasks.create_task(self._beat(tab))
            case Act.CLOSE_TAB:
                await self._close(self._tabs.pop(0))
            case Act.CRASH:
                for tab in list(self._tabs):
                    await _silence(tab)
                self._tabs.clear()
                self._mark(Mark.SILENCE, self._last_beat_at)
            case Act.CUT:
                await self._cut()
                self._mark(Mark.SILENCE, self._last_beat_at)
            case Act.RECONNECT:
                self._online = True
            case Act.AVAILABLE:
                await self._choose_available()
            case Act.CALL:
                await self._contact(state="CONNECTED")
            case Act.CALL_FAILS:
                await self._contact(state="ERROR")
            case Act.CALL_ENDS:
                self._mark(Mark.CALL_END)
                await self._contact(contact_id=self._contact_id, end=True)
            case Act.LOG_OUT:
                self._mark(Mark.ORDER)
                await self._is_logged_out()

    def _mark(self, mark: Mark, at: float | None = None) -> None:
        self.moments.append(Moment(time.time() if at is None else at, mark))

    async def _close(self, tab: Tab) -> None:
        """Say bye for a tab, as `pagehide` does: once, and nobody waits for the answer."""
        await _silence(tab)
        sent_at = time.time()
        await self._post(tab, "bye")
        if not self._tabs:
            self._mark(Mark.BYE, sent_at)

    async def _cut(self) -> None:
        self._online = False
        for tab in self._tabs:
            async with tab.sending:
                pass  # what was on its way has arrived

    async def _beat(self, tab: Tab) -> None:
        kind = "hello"
        while True:
            wait_s = RETRY_S
            async with tab.sending:
                sent_at = time.time()
                answer = await self._post(tab, kind) if self._online else None
                if answer is not None:
                    self._last_beat_at = sent_at
                    tab.ticket = answer.get("ticket", tab.ticket)
                    if answer["state"] == "stop":
                        return self._stop(tab)
                    kind = "hello" if answer["state"] == "unknown" else "beat"
                    wait_s = answer["next_ms"] / 1000
            await asyncio.sleep(wait_s)

    def _stop(self, tab: Tab) -> None:
        """End a page that was told to stop."""
        self._tabs.remove(tab)
        self.stopped += 1
        self._office.tell(self.role.name, "is told to stop: the page sends nothing more")

    async def _post(self, tab: Tab, kind: str) -> dict[str, Any] | None:
        """Send a heartbeat. Gives the answer; None if there was none, or it was to try again later."""
        tab.seq += 1
        body: dict[str, Any] = {"agent": self.arn, "session_id": tab.session_id, "type": kind, "seq": tab.seq}
        headers = {}
        if kind == "hello":
            headers["Authorization"] = f"Bearer {self._office.token}"
        else:
            body["ticket"] = tab.ticket
        if kind != "bye":
            body |= {"visibility": "visible", "login": True}
        else:
            headers["Content-Type"] = "text/plain"
        url = f"{self._office.daemon_url}/v1/heartbeat"
        try:
            answer = await self._office.client.post(url, json=body, headers=headers)
        except httpx.TransportError:
            self._office.failed_at.append(time.time())
            return None
        if answer.is_server_error:
            self._office.failed_at.append(time.time())
            return None
        if answer.is_client_error:
            raise Unexpected(f"The watchdog refused a heartbeat ({answer.status_code}): {answer.text}")
        self._office.heartbeats += 1
        return dict(answer.json()) if answer.content else {}

    async def _choose_available(self) -> None:
        url = f"{self._office.sandbox_url}/sandbox/users/{self._office.instance_id}/{self.user_id}/status"
        answer = await self._office.client.post(url, json={"status": AVAILABLE})
        answer.raise_for_status()

    async def _contact(self, **change: object) -> None:
        """Add a contact, or change the one that there is."""
        body = {"instance_id": self._office.instance_id, "user_id": self.user_id, **change}
        answer = await self._office.client.post(f"{self._office.sandbox_url}/sandbox/contacts", json=body)
        self._contact_id = answer.raise_for_status().json()["contact_id"]

    async def _is_logged_out(self) -> None:
        """Have the agent logged out, as an operator does; what is refused is kept."""
        url = f"{self._office.daemon_url}/v1/agents/{self._office.instance_id}/{self.user_id}/logout"
        headers = {"Authorization": f"Bearer {self._office.admin_token}"}
        try:
            answer = await self._office.client.post(url, headers=headers, timeout=LOG_OUT_LIMIT_S)
        except httpx.TransportError as error:
            self.refusals.append(f"the logout was not answered: {error!r}")
            return
        if answer.status_code != httpx.codes.NO_CONTENT:
            self.refusals.append(f"the logout was answered {answer.status_code}: {answer.text}")


async def _silence(tab: Tab) -> None:
    """Stop a tab's heartbeats; one that is on its way arrives."""
    if tab.beats is None:
        return
    async with tab.sending:
        tab.beats.cancel()
    await asyncio.wait({tab.beats})


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.monotonic()))
