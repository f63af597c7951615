"""What a client says and when: hellos, beats, copies, retries, the socket. Events come in, commands go out.

No I/O, no clock, no tasks and no chance: the drivers carry out the commands, and bring their results and the time. The
same machine as that of the browser's client, `web/client/core.js`; docs/http.md tells the rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from watchdog.client.model import Notice, State, Status, Visibility, read_notice
from watchdog.client.rules import (
    BACKOFF_S,
    HELLO_EVERY_S,
    HELLOS,
    LEAST_BACKOFF_S,
    QUICK_FOR_S,
    QUICK_S,
    TIMEOUT_S,
)

KICK_EVERY_S = 1.0
"""Events of one cause come together: one kick."""

TICK_S = 1.0
"""So often the driver looks at the clocks, which shows for how long it did not run."""

SLEPT_S = 5.0
"""A look that is this late was asleep."""

NEXT_S = 10.0
"""Where a reply does not say when to come again."""

LONGEST_NEXT_S = 3600.0
"""More is not believed: a lease is never so long."""

MOST_PATIENCE = 32
"""Sockets that fail are opened again after 9 minutes at most."""

LAST_SEQ = 2**53 - 1
"""A bye's: it is the last of its incarnation, whatever is still on its way."""


class Moment(NamedTuple):
    """A time.

    Attributes:
        s: Of a clock that nobody sets.
        wall_s: Of day, which also runs while the machine sleeps.
    """

    s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a message.

    Attributes:
        status: Of HTTP.
        data: The JSON; empty if it is none.
        retry_s: From Retry-After; 0 where there is none.
    """

    status: int
    data: Mapping[str, Any] = field(default_factory=dict)
    retry_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Post:
    """Send this by POST, and report with `answered`."""

    number: int
    body: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody waits for that POST any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a WebSocket, and report with `opened`, `received` and `closed`."""

    socket: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this over the socket."""

    socket: int
    body: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the socket."""

    socket: int


@dataclass(frozen=True, slots=True)
class AskToken:
    """Ask for a token, and report with `given`."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the user."""

    what: Status | Notice


Command = Post | GiveUp | Dial | Send | HangUp | AskToken | Tell


@dataclass(slots=True)
class _Copy:
    """A message that was sent and not answered yet.

    Attributes:
        seq: Its number.
        run: That of its attempt.
        until_s: When it is given up.
        socket: What carries it; None for a POST.
        token: What it was sent with; None with a ticket.
    """

    seq: int
    run: int
    until_s: float
    socket: int | None
    token: str | None


class Presence:
    """One session of an agent. Each event leaves its commands in `take()`; `wake_at_s` tells when to call `tick`.

    Attributes:
        status: The last one told.
        incarnation: The session's own number, from 0.
        socket: The number of the socket that is open or being opened; None without one.
        connected: It is open, and carries the messages.
    """

    def __init__(
        self,
        who: Mapping[str, str],
        session_id: str,
        *,
        chance: Callable[[], float],
        token: str | None = None,
        asks: bool = False,
        sockets: bool = True,
        visibility: Visibility | None = None,
        login: bool | None = None,
    ) -> None:
        """Takes the session; says nothing yet.

        Args:
            who: The fields that name the agent.
            session_id: A UUID.
            chance: Draws from 0 to 1.
            token: A heartbeat token, if it is known.
            asks: There is somebody to ask for one.
            sockets: A WebSocket is opened when one is offered.
            visibility: Sent as it is.
            login: The same.
        """
        self.status = Status(State.CONNECTING)
        self.incarnation = 0
        self.socket: int | None = None
        self.connected = False
        self._who = dict(who)
        self._session_id = session_id
        self._chance = chance
        self._token = token
        self._asks = asks
        self._sockets = sockets
        self._extra: dict[str, Any] = {"visibility": visibility, "login": login}
        self._commands: list[Command] = []
        self._active = False
        self._seq = 0
        self._ticket: str | None = None
        # The daemon has the session: beats, not hellos.
        self._open = False
        # The next attempt is that of a client that has just come: hello again and again.
        self._fresh = False
        # The socket's first message is a hello, also of a session that lives.
        self._greet = False
        self._kind: Literal["hello", "beat"] = "hello"
        # Of the attempt under way; answers to an earlier one do not count.
        self._run = 0
        self._copies: dict[int, _Copy] = {}
        self._copies_left = 0
        self._next_copy_s = math.inf
        self._due_s = math.inf
        self._not_before_s = -math.inf
        self._sent_s = -math.inf
        self._failing_since_s: float | None = None
        self._asking = False
        self._ran: Moment | None = None
        self._gap_s = 0.0
        # The longest gap since the attempt began: what stays when it is answered.
        self._later_gap_s = 0.0
        self._number = 0
        self._dialled = 0
        self._connect_after_s = -math.inf
        # Doubles with each socket that brings no answer: a proxy may allow none at all.
        self._patience = 1
        self._noticed: set[tuple[str, str | None]] = set()

    # What the driver asks.

    def take(self) -> list[Command]:
        """The commands since the last call, in order."""
        commands, self._commands = self._commands, []
        return commands

    @property
    def wake_at_s(self) -> float:
        """When `tick` is due: infinity if nothing is waited for."""
        looks = self._ran.s + TICK_S if self._active and self._ran else math.inf
        return min(looks, self._next_copy_s, self._due_s, *(each.until_s for each in self._copies.values()), math.inf)

    # Events.

    def start(self, at: Moment) -> None:
        """The session begins: hello, or first a token if there is somebody to ask."""
        self._ran = at
        self._active = True
        if self._asks:
            self._ask()
        else:
            self._greet_anew(at)

    def resume(self, at: Moment) -> None:
        """A person is there again after a stop: hello in the next incarnation. Nothing otherwise."""
        if self.status.state is not State.STOPPED:
            return
        self._ran = at
        self._gap_s = 0.0
        self._active = True
        self._next_incarnation()
        self._failing_since_s = None
        self._not_before_s = -math.inf
        self._tell(State.CONNECTING)
        self._greet_anew(at)

    def tick(self, at: Moment) -> None:
        """Time has passed."""
        slept = self._runs(at) > SLEPT_S
        for number, copy in list(self._copies.items()):
            if copy.until_s <= at.s and number in self._copies:
                if copy.socket is None:
                    self._commands.append(GiveUp(number))
                    self._settle(number, None, at)
                else:
                    self._drop(at)
        if self._next_copy_s <= at.s:
            self._copy(at)
        if self._due_s <= at.s:
            self._begin(at)
        if slept:
            self.kick(at)

    def answered(self, number: int, answer: Answer | None, at: Moment) -> None:
        """A POST was answered; None: it failed."""
        self._runs(at)
        if number in self._copies:
            self._settle(number, answer, at)

    def given(self, token: str | None, at: Moment) -> None:
        """The token that was asked for; None: there is none to be had now."""
        self._runs(at)
        self._asking = False
        new = token is not None and token != self._token
        if token is not None:
            self._token = token
        if not self._active:
            return
        if self._run == 0:
            self._greet_anew(at)
        elif new and not self._under_way and self.status.state is State.UNAUTHORIZED:
            self._begin(at)

    def opened(self, socket: int, at: Moment) -> None:
        """The socket is open."""
        self._runs(at)
        if socket == self.socket and self._active:
            self.connected = self._greet = True
            self._begin(at)

    def received(self, socket: int, text: str, at: Moment) -> None:
        """The socket has brought this."""
        self._runs(at)
        if socket != self.socket:
            return
        data = read_json(text)
        if not isinstance(data.get("state"), str):
            # A refusal is told in full to a POST.
            self._drop(at)
            return
        self._patience = 1
        number = next((number for number, copy in self._copies.items() if copy.socket == socket), None)
        if number is not None:
            self._settle(number, Answer(200, data), at)

    def closed(self, socket: int, at: Moment) -> None:
        """The socket has closed, or could not be opened."""
        self._runs(at)
        if socket == self.socket:
            self._drop(at)

    def kick(self, at: Moment) -> None:
        """Beats at once, if nothing is under way: the network is back, or a person is."""
        waits = self._active and self._run > 0 and not self._under_way
        if waits and at.s >= self._not_before_s and at.s - self._sent_s >= KICK_EVERY_S:
            self._begin(at)

    def set(self, **changes: Any) -> None:  # noqa: ANN401  # JSON
        """Changes `visibility` or `login` from the next message on."""
        self._extra.update(changes)

    def bye(self) -> str | None:
        """Ends for good. Returns the bye, to be sent once; None: without a ticket there is none.

        The socket, if there is one, is the caller's to close.
        """
        body = None
        if self._ticket is not None and self.status.state is not State.STOPPED:
            body = self._message("bye", LAST_SEQ)
        self._active = False
        self._end()
        self._copies.clear()
        self._tell(State.ENDED)
        return body

    # The attempt.

    @property
    def _under_way(self) -> bool:
        return self._copies_left > 0 or any(copy.run == self._run for copy in self._copies.values())

    def _runs(self, at: Moment) -> float:
        """Notes that we run, and returns for how long we did not."""
        before = self._ran or at
        self._ran = at
        # One of the two stands while the machine sleeps, on some systems.
        gap_s = max(at.s - before.s, at.wall_s - before.wall_s)
        self._gap_s = max(self._gap_s, gap_s)
        self._later_gap_s = max(self._later_gap_s, gap_s)
        return gap_s

    def _end(self) -> None:
        """Ends the attempt or the wait."""
        self._run += 1
        self._copies_left = 0
        self._next_copy_s = self._due_s = math.inf

    def _greet_anew(self, at: Moment) -> None:
        self._fresh = True
        self._begin(at)

    def _begin(self, at: Moment) -> None:
        self._end()
        self._kind = "beat" if self._open and not self._greet else "hello"
        # Copies are lost apart from each other; what a socket carries is not.
        self._copies_left = HELLOS if self._fresh and not self.connected else 1
        self._fresh = self._greet = False
        self._later_gap_s = 0.0
        self._copy(at)

    def _copy(self, at: Moment) -> None:
        self._copies_left -= 1
        self._next_copy_s = at.s + HELLO_EVERY_S if self._copies_left else math.inf
        self._sent_s = at.s
        self._seq += 1
        self._number += 1
        body = self._message(self._kind, self._seq)
        socket = self.socket if self.connected else None
        self._copies[self._number] = _Copy(
            self._seq, self._run, at.s + TIMEOUT_S, socket, None if self._ticket else self._token
        )
        self._commands.append(Post(self._number, body) if socket is None else Send(socket, body))

    def _message(self, kind: str, seq: int) -> str:
        fields = {
            **self._who,
            "session_id": self._session_id,
            "type": kind,
            "incarnation": self.incarnation,
            "seq": seq,
            "ticket": self._ticket,
            "token": None if self._ticket or kind == "bye" else self._token,
            "gap_ms": None if kind == "bye" else round(self._gap_s * 1000),
            **({} if kind == "bye" else self._extra),
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})

    def _settle(self, number: int, answer: Answer | None, at: Moment) -> None:
        copy = self._copies.pop(number)
        if copy.run != self._run or not self._active:
            return
        told = answer.data.get("state") if answer and answer.status == 200 else None  # noqa: PLR2004
        state = told if isinstance(told, str) else ""
        if answer is None or (state == "unknown" and copy.seq < self._seq):
            # It says nothing about a later copy.
            if not self._under_way:
                self._failed(at)
        elif state in {"live", "unknown", "stop"}:
            self._told(state, answer.data, at)
        elif answer.status >= 500 and not answer.retry_s:  # noqa: PLR2004
            if not self._under_way:
                self._failed(at, detail=_detail(answer))
        elif answer.status == 401:  # noqa: PLR2004
            self._ticket = None
            self._failed(at, state=State.UNAUTHORIZED, detail=_detail(answer))
            if copy.token is not None and copy.token != self._token:
                # A new one came while this was on its way.
                self._begin(at)
            elif self._asks and not self._asking:
                self._ask()
        else:
            self._failed(at, answer.retry_s, detail=_detail(answer))

    def _failed(self, at: Moment, wait_s: float = 0.0, *, state: State = State.RETRYING, detail: str = "") -> None:
        if self._failing_since_s is None:
            self._failing_since_s = at.s
        self._end()
        if wait_s:
            self._not_before_s = at.s + wait_s
        elif at.s - self._failing_since_s < QUICK_FOR_S:
            wait_s = QUICK_S[0] + (QUICK_S[1] - QUICK_S[0]) * self._chance()
        else:
            wait_s = max(LEAST_BACKOFF_S, BACKOFF_S * self._chance())
        self._due_s = at.s + wait_s
        self._tell(state, detail)

    def _told(self, state: str, data: Mapping[str, Any], at: Moment) -> None:
        self._gap_s = self._later_gap_s
        notice = read_notice(data.get("notice"))
        if notice is not None and (notice.set_at, notice.restored) not in self._noticed:
            self._noticed.add((notice.set_at, notice.restored))
            self._commands.append(Tell(notice))
        if state == "unknown":
            self._next_incarnation()
            if self._kind == "hello":
                self._failed(at)
            else:
                self._tell(State.CONNECTING)
                self._greet_anew(at)
        elif state == "stop":
            self._active = False
            self._end()
            self._hang_up()
            self._tell(State.STOPPED)
        else:
            self._live(data, at)

    def _live(self, data: Mapping[str, Any], at: Moment) -> None:
        self._failing_since_s = None
        self._open = True
        ticket = data.get("ticket")
        self._ticket = ticket if isinstance(ticket, str) else self._ticket
        self._end()
        self._due_s = at.s + _next_s(data.get("next_ms"))
        self._tell(State.LIVE)
        if data.get("ws") is True and self._sockets and self.socket is None and at.s >= self._connect_after_s:
            self._dialled += 1
            self.socket = self._dialled
            self._commands.append(Dial(self.socket))

    def _next_incarnation(self) -> None:
        self.incarnation += 1
        self._seq = 0
        self._ticket = None
        self._open = False

    # The socket, the token, the user.

    def _hang_up(self) -> None:
        if self.socket is not None:
            self._commands.append(HangUp(self.socket))
        self._copies = {number: copy for number, copy in self._copies.items() if copy.socket is None}
        self.socket = None
        self.connected = False

    def _drop(self, at: Moment) -> None:
        """Gives the socket up, and goes on by POST at once."""
        was = self.connected
        self._hang_up()
        self._connect_after_s = at.s + self._patience * (1.0 + BACKOFF_S * self._chance())
        self._patience = min(2 * self._patience, MOST_PATIENCE)
        if was and self._active:
            self._begin(at)

    def _ask(self) -> None:
        self._asking = True
        self._commands.append(AskToken())

    def _tell(self, state: State, detail: str = "") -> None:
        status = Status(state, "ws" if self.connected else "post", detail)
        if status != self.status:
            self.status = status
            self._commands.append(Tell(status))


def read_json(text: str | bytes) -> Mapping[str, Any]:
    """The JSON object in a text; empty if there is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def retry_after_s(header: str | None) -> float:
    """The seconds of a Retry-After; 0 for a date, or for what is none."""
    text = header or ""
    return min(float(text), LONGEST_NEXT_S) if text.isascii() and text.isdecimal() else 0.0


def _next_s(next_ms: object) -> float:
    if isinstance(next_ms, bool) or not isinstance(next_ms, int | float) or not 0 < next_ms <= LONGEST_NEXT_S * 1000:
        return NEXT_S
    return max(LEAST_BACKOFF_S, next_ms / 1000)


def _detail(answer: Answer) -> str:
    detail = answer.data.get("detail")
    return detail if isinstance(detail, str) else f"HTTP {answer.status}"
