"""People at work: they arrive, open pages, reload, hide, sleep, lose their Wi-Fi, take contacts, and leave in some way.

What a person does in Amazon Connect's own page (a status, a contact) is done to the stand-in.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from watchdog.core.model import AgentId
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import ContactState
from watchdog.simulation.account import AgentAccount
from watchdog.simulation.journal import Journal
from watchdog.simulation.loop import spawn
from watchdog.simulation.network import Network, Path, Route
from watchdog.simulation.page import Leases, Page

LATE_S = 4.5
"""Most that a request takes longer on a bad way; less than `invariants.CARRIED_S`."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What a person is like.

    Attributes:
        main_driver: The pages beat from their main thread.
        replayed: A broken proxy repeats the last request.
        late: Some requests take seconds, so that a later one comes first.
        between_s: Mean seconds between two deeds.
        waits: Whoever was set Offline opens a page and lets the watchdog give the status.
    """

    main_driver: bool
    replayed: bool
    late: bool
    between_s: float
    waits: bool = False


class Place(Protocol):
    """What a person needs of the world."""

    model: ConnectModel
    network: Network
    leases: Leases
    journal: Journal
    until: float


class Person:
    """One agent.

    Attributes:
        agent: Who.
        account: What the outside knows.
        path: The person's own way into the network.
        pages: What is open, with what beats for it.
        gone_at: When the last page ended; None while one is open.
    """

    def __init__(self, agent: AgentId, site: Path, habits: Habits, place: Place, rng: random.Random) -> None:
        self.agent = agent
        self.account = AgentAccount()
        self.path = Path()
        self.pages: dict[Page, asyncio.Task[None]] = {}
        self.gone_at: float | None = 0.0
        self._site = site
        self._habits = habits
        self._place = place
        self._rng = rng
        self._contact: str | None = None

    async def live(self) -> None:
        """Shifts until the world's end; whoever is there then stays."""
        spawn(self._mind())
        await asyncio.sleep(self._rng.random() * 30.0)
        while self._time() < self._place.until:
            self.arrive()
            ends = self._time() + self._rng.uniform(30.0, 600.0)
            if self._rng.random() < 0.3:
                ends = self._place.until + 1.0
            while self._time() < ends:
                await asyncio.sleep(self._rng.expovariate(1 / self._habits.between_s))
                if self._time() >= self._place.until:
                    return
                await self._deed()
            await self._leave()
            await asyncio.sleep(self._rng.uniform(1.0, 400.0))

    @property
    def present(self) -> bool:
        """A page is open."""
        return bool(self.pages)

    # Pages.

    def open(self) -> Page:
        """Opens a page."""
        page = Page(
            self.agent,
            str(UUID(int=self._rng.getrandbits(128), version=4)),
            network=self._place.network,
            route=self._route,
            leases=self._place.leases,
            rng=self._rng,
            main_driver=self._habits.main_driver,
        )
        self.log(f"opens {page.session_id[:8]}")
        self.gone_at = None
        self.pages[page] = spawn(page.run())
        return page

    def end(self, page: Page, *, bye: bool) -> None:
        """A page ends, with a bye or by silence."""
        task = self.pages.pop(page, None)
        if task is None:
            return
        task.cancel()
        session = self.account.session(page.session_id)
        session.ended_at = self._time()
        if bye and self._habits.late:
            # A beat that was on its way comes after the bye.
            late_s = self._rng.uniform(0.5, LATE_S)
            self._place.network.post(Route((self._site, self.path), late_s), page.message("beat"))
        said = bye and page.awake.is_set() and page.bye()
        if said:
            session.bye_at = self._time()
        self.log(f"{'says bye' if said else 'is gone silently'} {page.session_id[:8]}")
        if self._habits.replayed:
            spawn(self._replay(page))
        if not self.pages:
            self.gone_at = self._time()

    def crash(self, *, bye: bool = False) -> bool:
        """All pages end at once. Returns whether any was open."""
        pages = list(self.pages)
        for page in pages:
            self.end(page, bye=bye)
        return bool(pages)

    def come_back(self) -> None:
        """Opens a page, unless there is one."""
        if not self.pages:
            self.open()

    def _route(self, page: Page) -> Route:
        # Whether a longer TTL was granted, only the answer tells.
        ttl_s = min(page.ttl_s, self._place.leases.ttl_s)

        page.sent += 1
        number = page.sent

        def passed() -> None:
            # One that was under way when its page said bye proves nothing, nor one that a later one has overtaken.
            if page in self.pages and number > page.passed:
                page.passed = number
                self.account.attempt(page.session_id, self._time(), ttl_s)

        late_s = self._rng.uniform(0.5, LATE_S) if self._habits.late and self._rng.random() < 0.3 else 0.0
        return Route((self._site, self.path), late_s, passed)

    async def _replay(self, page: Page) -> None:
        for _ in range(10):
            await asyncio.sleep(self._rng.uniform(0.5, 25.0))
            page.replay(Route(()))

    # Deeds.

    def arrive(self) -> None:
        """Comes to work: a status, and a page."""
        self.log("arrives")
        if not self._habits.waits or self.account.total_changes == 0:
            self._set("Available")
        self.open()

    async def _deed(self) -> None:
        if not self.pages:
            return
        page = self._rng.choice(list(self.pages))
        deed = self._rng.choices(
            (
                "reload",
                "cached",
                "second",
                "close one",
                "hide",
                "look",
                "wifi",
                "one-way",
                "sleep",
                "lunch",
                "contact",
                "click",
            ),
            (4, 2, 3, 2, 4, 4, 2, 1, 2, 2, 3, 2),
        )[0]
        match deed:
            case "reload":
                self.end(page, bye=self._rng.random() < 0.9)
                await asyncio.sleep(self._rng.uniform(0.2, 3.0))
                self.open()
            case "cached" if page.awake.is_set():
                await self._go_back(page)
            case "second" if len(self.pages) < 3:
                self.open()
            case "close one" if len(self.pages) > 1:
                self.end(page, bye=self._rng.random() < 0.8)
            case "hide" | "look":
                page.look(hidden=deed == "hide")
            case "wifi":
                await self._outage("down", self._long())
            case "one-way":
                await self._outage("one_way", self._long())
            case "sleep":
                await self._sleep(self._long())
            case "lunch" | "click" | "contact":
                await self._deed_in_connect(deed)

    async def _deed_in_connect(self, deed: str) -> None:
        match deed:
            case "lunch":
                self._set(self._rng.choice(("Lunch", "Available")))
            case "click":
                await self._click_unheard()
            case "contact":
                spawn(self._take_contact(self._rng.uniform(10.0, 300.0)))

    def _long(self) -> float:
        return self._rng.choice((3.0, 12.0, 25.0, 45.0, 90.0, 200.0)) * self._rng.uniform(0.7, 1.3)

    async def _go_back(self, page: Page) -> None:
        """Into the back-forward cache with a bye, and back as the next incarnation."""
        self.end(page, bye=True)
        await asyncio.sleep(self._rng.uniform(0.5, 30.0))
        page.cached()
        self.log(f"comes back to {page.session_id[:8]}")
        session = self.account.session(page.session_id)
        session.ended_at = session.bye_at = None
        # What was covered before the bye is over with it.
        session.let_through = []
        self.gone_at = None
        self.pages[page] = spawn(page.run())

    async def _click_unheard(self) -> None:
        """The way to the daemon is cut, that to Connect is not: a last click, and the browser is gone."""
        self.log("is not heard any more")
        self.path.down += 1
        for session in self.account.sessions.values():
            if not session.taken:
                # Opened while no process was there, and cut off for good: nobody can know of it.
                session.ended_at = self._time()
        await asyncio.sleep(self._rng.uniform(5.0, 40.0))
        self._set(self._rng.choice(("Lunch", "Available")))
        self.account.clicked_at = self._time()
        await asyncio.sleep(self._rng.uniform(0.0, 10.0))
        self.crash()
        self.path.down -= 1

    async def _outage(self, kind: str, seconds: float) -> None:
        self.log(f"{kind} for {seconds:.0f} s")
        setattr(self.path, kind, getattr(self.path, kind) + 1)
        await asyncio.sleep(seconds)
        setattr(self.path, kind, getattr(self.path, kind) - 1)
        self.log(f"{kind} is over")

    async def _sleep(self, seconds: float) -> None:
        self.log(f"sleeps for {seconds:.0f} s")
        self.path.down += 1
        for page in self.pages:
            page.asleep(asleep=True)
        await asyncio.sleep(seconds)
        self.path.down -= 1
        self.log("wakes")
        for page in self.pages:
            page.asleep(asleep=False)

    async def _take_contact(self, seconds: float) -> None:
        if self._contact is not None or not self.pages or self.shown() == "Offline":
            # Whoever is Offline gets none, and can call nobody.
            return
        contact = self._place.model.add_contact(*self.agent, ContactState.CONNECTED)
        self._contact = contact.id
        self.account.contact_at = self._time()
        self.log("takes a contact")
        await asyncio.sleep(seconds)
        if self._rng.random() < 0.5:
            self._place.model.set_contact_state(*self.agent, contact.id, ContactState.ENDED)
            await asyncio.sleep(self._rng.uniform(1.0, 30.0))
        if any(each.id == contact.id for each in self._place.model.user(*self.agent).contacts):
            self._place.model.end_contact(*self.agent, contact.id)
            # A status that was chosen for now looks like a deed.
            self.account.clicked_at = self._time()
        self._contact = None

    async def _leave(self) -> None:
        how = self._rng.choices(("bye", "crash", "power", "offline"), (5, 3, 2, 1))[0]
        self.log(f"leaves: {how}")
        if how == "offline":
            self._set("Offline")
        if how == "power":
            self.path.down += 1
            spawn(self._power_back())
        for page in list(self.pages):
            self.end(page, bye=how in ("bye", "offline"))

    async def _power_back(self) -> None:
        await asyncio.sleep(1.0)
        self.path.down -= 1

    # In Amazon Connect.

    async def _mind(self) -> None:
        """Sets the status again, a while after the person was set Offline by mistake or before the return."""
        while True:
            await asyncio.sleep(self._rng.uniform(5.0, 40.0))
            cut_off = self.path.down or self._site.down or self._place.network.all.down
            if not cut_off and any(page.awake.is_set() for page in self.pages) and self.shown() == "Offline":
                self._set("Available")

    def shown(self) -> str:
        """The status in Connect, or the next one if there is one."""
        return self._place.model.next_status_name(*self.agent) or self._place.model.status_name(*self.agent)

    def _set(self, status: str) -> None:
        if status != "Offline":
            # The agent is there, heard or not: what was written, whatever became of it, is overruled, and what follows
            # is another disappearance.
            self.account.overruled = self.account.overruled or self.account.written_to
            self.account.changes = 0
            # Where a heartbeat that came after it is lost, this is the last sign of life.
            self.account.clicked_at = self.account.chosen_at = self._time()
        self._place.model.agent_sets_status(*self.agent, status)
        hidden = not self._place.model.behaviour.lists_offline or self._place.model.next_status_name(*self.agent)
        if status == "Offline" and hidden:
            # Connect shows nobody who is Offline, and of a next status not since when: nobody can tell who chose it.
            self.account.chosen_at = float("-inf")
        self.log(f"chooses {status}")

    def log(self, what: str) -> None:
        """Writes a line about this person."""
        self._place.journal.add(what, self.agent.user_id)

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()
