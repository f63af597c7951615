"""Where a Valkey or Redis server is: read from a URL, without anything of a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

SINGLE, CLUSTER = ("valkey", "valkeys", "redis", "rediss"), "+cluster"
SCHEMES = (*SINGLE, *(name + CLUSTER for name in SINGLE))
"""Of a single server, and of a cluster; with an s the way there is TLS."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and how to get in.

    Attributes:
        host: Its name or address; of a cluster any node's.
        port: Its port.
        database: The number of the database.
        user: ACL user; None for the default one.
        password: The secret; never told.
        tls: Whether the way there is encrypted, and the server's certificate checked.
        authorities: A file with the certificates of those who may sign it; None for the system's.
        cluster: It is a node of a cluster.
    """

    host: str
    port: int = 6379
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    authorities: str | None = None
    cluster: bool = False

    def __str__(self) -> str:
        """For people: without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = ("valkeys" if self.tls else "valkey") + (CLUSTER if self.cluster else "")
        return f"{scheme}://{host}:{self.port}/{self.database}"


def address(url: str) -> Address:
    """Reads `valkey://[[user]:password@]host[:port][/database]`.

    `valkeys` is TLS, `valkey+cluster` a cluster; `redis` in place of `valkey` is the same.

    Raises:
        ValueError: It is none; the text never holds a part of it.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("this is no URL of a Valkey or Redis server")
    try:
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("its port is no number from 1 to 65535") from None
    if not host:
        raise ValueError("it names no host")
    if parts.fragment:
        raise ValueError("a '#' in the password has to be written as %23")
    authorities = None
    if parts.query:
        name, _, authorities = parts.query.partition("=")
        if name != "ca" or not authorities:
            raise ValueError("the only option is ?ca=, a file of certificates")
        authorities = unquote(authorities)
    database = parts.path.removeprefix("/") or "0"
    if not database.isdecimal() or not database.isascii():
        raise ValueError("behind its last slash is the number of a database")
    cluster = parts.scheme.endswith(CLUSTER)
    if cluster and int(database) != 0:
        raise ValueError("a cluster has database 0 only")
    return Address(
        host=host,
        port=port or 6379,
        database=int(database),
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme.removesuffix(CLUSTER) in ("valkeys", "rediss"),
        authorities=authorities,
        cluster=cluster,
    )
