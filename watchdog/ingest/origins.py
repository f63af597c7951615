"""Which pages may ask for what: the `Origin` of a request, what the browser says of its site, and the `Host` it names.

A page of any origin may send a POST with a `text/plain` body, and no browser asks before. So what changes something is
judged here, by whom it comes from, before anybody looks at its token. Clients that are no browsers send neither header.
Sources: the Fetch standard, "`Origin` header"; W3C, "Fetch Metadata Request Headers".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from watchdog.core.addresses import is_loopback
from watchdog.ingest.problems import Problem

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing. Source: RFC 9110, section 9.2.1."""

ASKED = frozenset({b"origin", b"sec-fetch-site", b"host"})
"""The headers that are looked at."""

FOREIGN_PAGE = Problem(
    403,
    "Forbidden",
    "Pages of this origin may not send heartbeats. Add the page's origin, as the browser names it, to "
    "WATCHDOG_ALLOWED_ORIGINS.",
    "origin",
)

FOREIGN_OPERATOR = Problem(
    403,
    "Forbidden",
    "Pages of other origins may not ask for this; WATCHDOG_ALLOWED_ORIGINS is for heartbeats alone. Ask from the "
    "daemon's own pages, or without a browser.",
    "origin",
)

MISDIRECTED = Problem(
    421,
    "Misdirected Request",
    "With WATCHDOG_AUTH=none the daemon answers only to localhost, loopback addresses and the host of "
    "WATCHDOG_CANARY_URL. Ask for one of these, or set WATCHDOG_AUTH=token.",
    "host",
)

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origins:
    """The rules.

    Attributes:
        allowed: Origins of pages that may send heartbeats (ALLOWED_ORIGINS).
        public: The daemon's own origin as clients see it, where a proxy changes `Host` (CANARY_URL).
        open: Whether nobody has to prove anything (AUTH=none): then only names that lead to this machine for certain
            are answered to. Any other may be an attacker's that leads here today, and whose page counts as our own.
    """

    allowed: frozenset[bytes] = frozenset()
    public: bytes | None = None
    open: bool = False

    @classmethod
    def of(cls, allowed: Iterable[str], public_url: str | None, *, open_to_all: bool) -> Origins:
        """The rules that follow from the settings."""
        public = None if public_url is None else _origin(public_url)
        return cls(frozenset(each.encode() for each in allowed), public, open_to_all)

    def problem(self, asked: Mapping[bytes, bytes], *, heartbeat: bool) -> Problem | None:
        """Why a request is refused; None when it may pass.

        Args:
            asked: Those of the request's headers that are in `ASKED`.
            heartbeat: Whether it is one, or the handshake of a socket for them.
        """
        host = asked.get(b"host")
        if self.open and host is not None and not self._leads_here(host):
            return MISDIRECTED
        origin, site = asked.get(b"origin"), asked.get(b"sec-fetch-site")
        if origin is None and site is None:
            return None
        if site == b"same-origin" or (heartbeat and origin in self.allowed):
            return None
        if site in (None, b"none", b"") and (origin is None or self._is_own(origin, host)):
            return None
        return FOREIGN_PAGE if heartbeat else FOREIGN_OPERATOR

    def _is_own(self, origin: bytes, host: bytes | None) -> bool:
        if origin == self.public:
            return True
        scheme, _, place = origin.lower().partition(b"://")
        port = _PORTS.get(scheme.decode("latin-1"))
        return host is not None and port is not None and place == host.lower().removesuffix(b":%d" % port)

    def _leads_here(self, host: bytes) -> bool:
        return is_local(host) or (self.public is not None and host.lower() == self.public.partition(b"://")[2])


@lru_cache(maxsize=256)
def is_local(host: bytes) -> bool:
    """Whether a `Host` names this machine whatever a name server says. Source: RFC 6761, section 6.3."""
    try:
        name = urlsplit(b"//" + host).hostname
    except ValueError:
        return False
    if name is None:
        return False
    text = name.decode("latin-1").lower()
    return text == "localhost" or text.endswith(".localhost") or is_loopback(text)


def _origin(url: str) -> bytes:
    """The origin of an http or https URL, as browsers write it."""
    parts = urlsplit(url.lower())
    place = parts.netloc.removesuffix(f":{_PORTS[parts.scheme]}")
    return f"{parts.scheme}://{place}".encode()
