"""The dashboard's page, at `/`, and what it loads: public files that hold no data.

All that the page shows it asks for with the operator's token. Its policy lets it load and ask nothing but this daemon,
run no script but its files, and write no HTML.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

from watchdog.ingest.client_files import File, file_of, give
from watchdog.ingest.problems import MEDIA_TYPE, Problem
from watchdog.ingest.wire import SAFE_HEADERS, Header, Scope, Send, answer

PAGE = "/"

PREFIX = "/dashboard/"

TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".json": b"application/json",
    ".txt": b"text/plain; charset=utf-8",
}

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Source: Content Security Policy Level 3; Trusted Types, "require-trusted-types-for"."""

HEADERS: tuple[Header, ...] = (
    # Asked for anew each time, answered 304: a page and its scripts are always of one release.
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept-encoding"),
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)

_PROBLEM_HEADERS: tuple[Header, ...] = ((b"content-type", MEDIA_TYPE.encode()), *SAFE_HEADERS)

_NOT_FOUND = Problem(404, "Not Found", "There is no such file of the dashboard, which is at /.")

_WRONG_METHOD = Problem(405, "Method Not Allowed", "The dashboard is read with GET.")


def is_of_dashboard(path: str) -> bool:
    """Whether `DashboardFiles` answers the path."""
    return path == PAGE or path.startswith(PREFIX)


class DashboardFiles:
    """Answers the page and everything below `PREFIX`."""

    def __init__(self) -> None:
        """Reads and packs the files."""
        self._files = dict(_below(files("watchdog") / "web" / "dashboard", PREFIX))
        self._files[PAGE] = self._files[PREFIX + "index.html"]

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answers one request. Its body is not read."""
        if scope["method"] not in ("GET", "HEAD"):
            await answer(send, 405, _WRONG_METHOD.body(), (*_PROBLEM_HEADERS, (b"allow", b"GET, HEAD")))
            return
        found = self._files.get(scope["path"])
        if found is None:
            await answer(send, 404, _NOT_FOUND.body(), _PROBLEM_HEADERS)
            return
        kind, file = found
        await give(file, ((b"content-type", kind), *HEADERS), scope, send)


def _below(folder: Traversable, path: str) -> list[tuple[str, tuple[bytes, File]]]:
    found: list[tuple[str, tuple[bytes, File]]] = []
    for each in folder.iterdir():
        kind = TYPES.get("." + each.name.rpartition(".")[2])
        if each.is_dir():
            found += _below(each, f"{path}{each.name}/")
        elif kind is not None:
            found.append((path + each.name, (kind, file_of(each.read_bytes()))))
    return found
