"""The way to a Valkey or Redis server: its address, the functions that are loaded into it, its errors in our words.

What the functions do is in `parts.lua`, and what is kept there in `parts.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import TimeoutError as NoAnswer

from watchdog.errors import StoreCorrupt, StoreUnavailable
from watchdog.stores.address import Address
from watchdog.stores.ending import ended
from watchdog.stores.server_info import evicting, unguarded, version

Result = TypeVar("Result")
Call = tuple[str, Sequence[str], Sequence[Any]]
"""A function's name, its keys and its arguments."""

ANSWER_S = 2.0
"""Longest wait for an answer. Later than that the clock stands anyway (`core.clock.MAX_STEP_S`)."""

CONNECT_S = 1.0
"""Longest wait for a connection."""

FAULTS = Exception
"""What the client raises: not only errors of its own, such as the KeyError of a slot that no node of a cluster serves.
Whatever it is, what was asked may have been done or not."""

LEAST_VERSION = (7, 0, 0)
"""The first with functions. Source: https://valkey.io/topics/functions-intro/ ."""

log = structlog.stdlib.get_logger(__name__)


def library() -> tuple[str, str]:
    """The library of functions: its version, which is told by its text, and the text."""
    text = Path(__file__).with_name("parts").with_suffix(".lua").read_text()
    version = sha256(text.encode()).hexdigest()[:8]
    return version, text.replace("@VERSION@", version)


def options(address: Address, answer_s: float) -> dict[str, Any]:
    """What a client of redis-py is told."""
    tls: dict[str, Any] = {}
    if address.tls:
        tls = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if address.authorities is not None:
            tls["ssl_ca_certs"] = address.authorities
    return {
        "host": address.host,
        "port": address.port,
        "username": address.user,
        "password": address.password,
        "socket_timeout": answer_s,
        "socket_connect_timeout": CONNECT_S,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": "watchdog",
        **tls,
    }


class ValkeyServer:
    """A server, with our functions in it. Every method but `close` may raise `StoreUnavailable`.

    Asked again at once is only where a connection was cut, which whoever writes can tell from a write that came twice,
    and where a replica has answered.

    Attributes:
        unguarded: Replicas without which it takes writes, as last seen: one of them may be made the primary while it
            takes them. None where it does not tell.
        evicts: The policy by which it drops keys when it is full, as last seen; empty for none.
    """

    def __init__(self, address: Address, answer_s: float = ANSWER_S) -> None:
        """Connects to nothing yet."""
        self._address = address
        self._answer_s = answer_s
        self.unguarded: int | None = None
        self.evicts = ""
        self._looking: asyncio.Task[str] | None = None
        self._connects_anew = False
        self._version, self._library = library()
        self._client = self._made(options(address, answer_s))

    def _made(self, options: dict[str, Any]) -> Redis | RedisCluster:
        return Redis(db=self._address.database, **options)

    def __str__(self) -> str:
        """Its address, for people."""
        return str(self._address)

    async def open(self) -> None:
        """Loads the functions, if they are not there.

        Raises:
            StoreUnavailable: It cannot be reached or written.
            StoreCorrupt: It is too old, or may drop keys to make room.
        """
        await self.examine()
        if self.unguarded:
            log.warning("store.unguarded", replicas=self.unguarded)
        await self._load(full=True)

    async def examine(self) -> str:
        """Finds out whether a daemon could use it, without a change to it. Returns its version.

        Raises:
            StoreUnavailable: It cannot be reached, or is a replica, which cannot be written.
            StoreCorrupt: It is too old, or may drop keys to make room.
        """
        infos = await self._told(self._infos())
        for info in infos:
            self._check(info)
        self.unguarded = unguarded(infos)
        return ", ".join(sorted({version(info) for info in infos}))

    def _check(self, info: Mapping[str, Any]) -> None:
        if tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:3]) < LEAST_VERSION:
            raise StoreCorrupt(
                f"{self} is version {version(info)}. Functions are needed: Valkey 7.2, or Redis 7.0, or newer."
            )
        policy = evicting([info])
        if policy:
            raise StoreCorrupt(
                f"{self} drops keys when its memory is full (maxmemory-policy {policy}): agents would be forgotten. "
                "Set maxmemory-policy noeviction, or use another server."
            )
        if bool(info.get("cluster_enabled")) is not self._address.cluster:
            raise StoreUnavailable(f"{self}: {_CODES['MOVED'] if info.get('cluster_enabled') else NO_CLUSTER}")
        if info.get("role") != "master":
            raise StoreUnavailable(f"{self}: {_CODES['READONLY']}")

    async def look(self) -> str:
        """See `Server.look`. Others may set it, or another server have taken its place: what has changed is logged."""
        try:
            infos = [info for info in await self._told(self._infos()) if info.get("role") == "master"]
        except StoreUnavailable:
            return self.evicts
        if infos:
            before, self.unguarded = self.unguarded, unguarded(infos)
            if self.unguarded and self.unguarded != before:
                log.warning("store.unguarded", replicas=self.unguarded)
            evicted, self.evicts = self.evicts, evicting(infos)
            if self.evicts and self.evicts != evicted:
                log.error("store.evicts", policy=self.evicts)
            elif evicted and not self.evicts:
                log.info("store.evicts_no_more")
        return self.evicts

    async def _infos(self) -> list[Mapping[str, Any]]:
        """What each server that is written to tells of itself."""
        return [await self._run("INFO")]

    async def close(self) -> None:
        """Lets the connections go."""
        await ended([self._looking])
        with contextlib.suppress(FAULTS):
            await self._client.aclose()

    async def call(self, calls: Sequence[Call]) -> list[list[bytes]]:
        """Calls functions, in order and in one go. Each is atomic, all together are not, and each may run twice.

        Raises:
            StoreUnavailable: Nobody knows which of them ran.
        """
        try:
            return await self._again(lambda: self._called(calls))
        except FAULTS as error:
            if not isinstance(error, ResponseError) or "function not found" not in str(error).lower():
                raise self._unavailable(error) from None
        # A server that was emptied, or another one in its place.
        await self._load()
        return await self._told(self._called(calls))

    async def memory_share(self, key: str) -> float | None:
        """The part of the memory it may use that the server with a key has in use; None where nothing limits it.

        As the server counts: without what waits for its replicas and its disk.
        Source: https://valkey.io/commands/info/ .
        """
        info = await self._told(self._info(key))
        most = int(info.get("maxmemory", 0))
        used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
        return used / most if most else None

    async def _info(self, key: str) -> Mapping[str, Any]:
        """What the server that has a key tells of itself."""
        del key
        return dict(await self._run("INFO"))

    async def read(self, *commands: Sequence[str | int | float]) -> list[Any]:
        """Runs commands that change nothing, in one go."""
        return await self._told(self._again(lambda: self._piped(commands)))

    async def pop(self, key: str, wait_s: float) -> bytes | None:
        """Takes the first of a list, and waits for one if there is none; None when none came.

        Has a connection of its own while it waits. What was taken and did not arrive is lost.
        """
        wait_s = min(wait_s, self._answer_s / 2)
        found = await self._told(self._again(lambda: self._run("BLPOP", key, wait_s)))
        return None if found is None else bytes(found[1])

    async def _again(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Asks once more where that may help at once."""
        try:
            found = await ask()
        except FAULTS as error:
            # What answers next may be another server, or one that was started with other settings.
            self._connects_anew |= _of_replica(error) or not isinstance(error, ResponseError)
            task = asyncio.current_task()
            # Else it was cut by ourselves.
            if (task is not None and task.cancelling()) or not await self._made_ready(error):
                raise
            found = await ask()
        if self._connects_anew and (self._looking is None or self._looking.done()):
            self._connects_anew = False
            self._looking = asyncio.create_task(self.look())
        return found

    async def _made_ready(self, error: Exception) -> bool:
        """Makes ready for one more attempt, if that may help at once; returns whether it may."""
        if _of_replica(error):
            # It has become one by a failover that cuts no connections, and its name may lead to the new primary.
            await self._look_anew()
            return True
        # Cut by a proxy, an operator, or a server that was restarted.
        return isinstance(error, NoConnection | ConnectionError) and not isinstance(
            error, BusyLoadingError | AuthenticationError
        )

    async def _look_anew(self) -> None:
        """Lets all connections go, each as soon as nobody uses it: whoever asks next finds out where the server is."""
        pool: Any = cast("Redis", self._client).connection_pool
        await pool.update_active_connections_for_reconnect()
        await pool.disconnect(inuse_connections=False)

    async def _called(self, calls: Sequence[Call]) -> list[list[bytes]]:
        return await self._piped(
            [("FCALL", f"wd_{name}_{self._version}", len(keys), *keys, *args) for name, keys, args in calls]
        )

    async def _piped(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        if len(commands) == 1:
            return [await self._run(*commands[0])]
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute())

    async def _run(self, *command: Any) -> Any:  # noqa: ANN401 - of each command another type
        return await self._client.execute_command(*command)

    async def _load(self, *, full: bool = False) -> None:
        """Loads the functions, if they are not there.

        Args:
            full: A server whose memory is full will do: it takes none, and perhaps has them. The first call tells.
        """
        try:
            await self._loaded()
        except OutOfMemoryError as error:
            if not full:
                raise self._unavailable(error) from None
        except ResponseError as error:
            if "already exists" not in str(error):
                raise self._unavailable(error) from None
        except FAULTS as error:
            raise self._unavailable(error) from None

    async def _loaded(self) -> None:
        await self._run("FUNCTION", "LOAD", self._library)

    async def _told(self, asked: Awaitable[Result]) -> Result:
        try:
            return await asked
        except FAULTS as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"{self}: {_why(error)}")


NOT_ALLOWED = "its user may not do this. Give it the permissions that the documentation lists."
NO_MEMORY = "its memory is full (maxmemory). Give it more."
NOT_PRIMARY = "it is a replica, which cannot be written. Name the primary in WATCHDOG_STORE."
LOADING = "it is loading its data. Wait until it has."
NO_PRIMARY = "it is a replica that has lost its primary."
NO_SLOT = "its cluster cannot be used now. Look whether all its slots are served."

_ADVICE: Sequence[tuple[type[Exception], str]] = (
    (BusyLoadingError, LOADING),
    (AuthenticationError, "it refuses the user or the password in WATCHDOG_STORE."),
    (NoPermissionError, NOT_ALLOWED),
    (OutOfMemoryError, NO_MEMORY),
    (ReadOnlyError, NOT_PRIMARY),
    (MasterDownError, NO_PRIMARY),
    (ClusterDownError, NO_SLOT),
    (RedisClusterException, NO_SLOT),
    (LookupError, NO_SLOT),
    (TimeoutError, f"it has not answered in {ANSWER_S:g} s. Look whether it runs and what keeps it busy."),
    (NoAnswer, f"it has not answered in {ANSWER_S:g} s. Look whether it runs and what keeps it busy."),
    (NoConnection, "it cannot be reached. Look at the address, the network, and whether it runs."),
    (OSError, "it cannot be reached. Look at the address, the network, and whether it runs."),
)

NO_CLUSTER = "it is no node of a cluster. Write valkey:// in WATCHDOG_STORE."

_WORDS = {
    "Cluster mode is not enabled": NO_CLUSTER,
    "Redis Cluster cannot be connected": (
        "no node of its cluster lets itself be asked for the others. Look at the address, the network, the user and "
        "the password, and whether they run."
    ),
    "DB index is out of range": "it has no database of that number. Write another one behind the last slash.",
    # Of Redis 7.0, in a function; newer ones say NOPERM.
    "The user executing the script can't": NOT_ALLOWED,
}
"""By words of an error that its kind does not tell: of the client on its first way to a cluster, and of a server."""

_CODES = {
    "OOM": NO_MEMORY,
    "READONLY": NOT_PRIMARY,
    "LOADING": LOADING,
    "NOPERM": NOT_ALLOWED,
    "NOAUTH": "it wants a password. Give it in WATCHDOG_STORE.",
    "MISCONF": "it cannot save its data and takes no writes. Look at its log and its disk.",
    "NOREPLICAS": "too few of its replicas follow it (min-replicas-to-write).",
    "MASTERDOWN": NO_PRIMARY,
    "BUSY": "a script keeps it busy.",
    "MOVED": "it is a node of a cluster. Write valkey+cluster:// in WATCHDOG_STORE.",
    "CLUSTERDOWN": NO_SLOT,
    "UNBLOCKED": "it is being demoted to a replica.",
}
"""By the first word of an answer. Source: https://valkey.io/topics/protocol/#simple-errors ."""


def _why(error: Exception) -> str:
    """What is wrong, without anything of what was sent."""
    for words, text in _WORDS.items():
        if words in str(error):
            return text
    code = str(error).partition(" ")[0].rstrip(":")
    if isinstance(error, ResponseError) and code in _CODES:
        return _CODES[code]
    for kind, text in _ADVICE:
        if isinstance(error, kind):
            return text
    for code, text in _CODES.items():
        if isinstance(error, ResponseError) and f"{code} " in str(error):
            return text
    return f"{type(error).__name__}. Look at its log."


def _of_replica(error: Exception) -> bool:
    """Whether a replica has answered, or what is becoming one."""
    return isinstance(error, ReadOnlyError | MasterDownError) or (
        isinstance(error, ResponseError) and any(code in str(error) for code in ("READONLY", "MASTERDOWN", "UNBLOCKED"))
    )
