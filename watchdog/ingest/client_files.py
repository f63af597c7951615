"""The files of the browser client, which anybody may load from anywhere: `/client/presence.js` and what it imports.

They are public and small, so they are read once and answered here, with headers of their own: everything else that the
daemon says is neither for a cache nor for other origins.
"""

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from watchdog.ingest.problems import MEDIA_TYPE, Problem
from watchdog.ingest.wire import GUARDED, SAFE_HEADERS, Header, Scope, Send, answer

PREFIX = "/client/"

NAMES = ("presence.js", "core.js", "worker.js", "banner.js")

CACHE = b"public, max-age=600, stale-while-revalidate=86400"
"""Ten minutes, so that a release reaches pages soon; and a day while it is asked again, so that a page that loads while
the daemon is away has its client all the same."""

PUBLIC: tuple[Header, ...] = (
    (b"content-type", b"text/javascript; charset=utf-8"),
    (b"cache-control", CACHE),
    (b"vary", b"accept-encoding"),
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    *GUARDED,
)

_PROBLEM_HEADERS: tuple[Header, ...] = ((b"content-type", MEDIA_TYPE.encode()), *SAFE_HEADERS)

_NOT_FOUND = Problem(404, "Not Found", f"There is no such file of the client. There are {', '.join(NAMES)}.")

_WRONG_METHOD = Problem(405, "Method Not Allowed", "The files of the client are read with GET.")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent.

    Attributes:
        plain: Its bytes.
        packed: The same, with gzip.
        etag: Of both.
    """

    plain: bytes
    packed: bytes
    etag: bytes


class ClientFiles:
    """Answers everything below `PREFIX`."""

    def __init__(self) -> None:
        """Reads the files."""
        folder = files("watchdog") / "web" / "client"
        self._files = {PREFIX + name: file_of((folder / name).read_bytes()) for name in NAMES}

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answers one request. Its body is not read."""
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            await answer(send, 405, _WRONG_METHOD.body(), (*_PROBLEM_HEADERS, (b"allow", b"GET, HEAD")))
            return
        file = self._files.get(scope["path"])
        if file is None:
            await answer(send, 404, _NOT_FOUND.body(), _PROBLEM_HEADERS)
            return
        await give(file, PUBLIC, scope, send)


def file_of(plain: bytes) -> File:
    """Packs a file."""
    # Weak, since it stands for the plain and the packed form.
    etag = b'W/"%s"' % hashlib.sha256(plain).hexdigest()[:32].encode()
    return File(plain, gzip.compress(plain, mtime=0), etag)


async def give(file: File, headers: tuple[Header, ...], scope: Scope, send: Send) -> None:
    """Sends a file, packed for who can unpack it; or 304 to who has it already."""
    asked = {name: value for name, value in scope["headers"] if name in (b"if-none-match", b"accept-encoding")}
    headers = (*headers, (b"etag", file.etag))
    if file.etag in asked.get(b"if-none-match", b""):
        await send({"type": "http.response.start", "status": 304, "headers": [*headers]})
        await send({"type": "http.response.body", "body": b""})
        return
    body = file.plain
    if _takes_gzip(asked.get(b"accept-encoding", b"")):
        body, headers = file.packed, (*headers, (b"content-encoding", b"gzip"))
    # The server leaves the body of an answer to HEAD out.
    await answer(send, 200, body, headers)


def _takes_gzip(accepted: bytes) -> bool:
    """Whether it is named and not refused. Source: RFC 9110, section 12.5.3."""
    for each in accepted.lower().split(b","):
        name, _, weight = each.partition(b";")
        if name.strip() == b"gzip":
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False
