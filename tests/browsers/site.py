"""The pages that the browsers open, on an origin (indeed a site) of their own: the daemon's is another one.

`/module` imports the client and keeps what it is told in `told`; `/tag` is the script tag alone, under the
Content-Security-Policy that docs/client.md asks for; `/other` has nothing to do with presence.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

MODULE = """<!doctype html><meta charset="utf-8"><title>CCP</title><link rel="icon" href="data:,"><p>CCP</p>
<script type="module">
const told = window.told = {statuses: [], notices: [], tokens: 0, persisted: undefined};
addEventListener("pageshow", (event) => (told.persisted = event.persisted));
const { presence } = await import(OPTIONS.url + "/client/presence.js");
window.here = presence({
  ...OPTIONS,
  async getToken() {
    told.tokens++;
    return (await fetch("/token", {cache: "no-store"})).text();
  },
  onStatus: (status) => told.statuses.push(status),
  onNotice: (notice) => told.notices.push(notice),
});
</script>
"""

TAG = """<!doctype html><meta charset="utf-8"><title>CCP</title><link rel="icon" href="data:,"><p>CCP</p>
<script type="module" src="{url}/client/presence.js" data-agent="{agent}" data-token="{token}" {more}></script>
"""

OTHER = "<!doctype html><meta charset='utf-8'><title>Elsewhere</title><link rel='icon' href='data:,'><p>Elsewhere</p>"

POLICY = (
    "default-src 'none'; img-src data:; connect-src 'self' {url} {ws}; script-src {inline}{url}; worker-src {worker}"
)


class Site:
    """Serves the pages on loopback; a context manager.

    Attributes:
        token: What `/token` gives to the pages that ask.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        site = self

        class Pages(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body, policy = site._page(self.path)
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                if policy:
                    self.send_header("content-security-policy", policy)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def origin(self) -> str:
        """By name: 127.0.0.1 is the daemon's, and so another site."""
        return f"http://localhost:{self._server.server_port}"

    def url(self, path: str, **query: str) -> str:
        return f"{self.origin}{path}?{urlencode(query)}"

    def _page(self, address: str) -> tuple[bytes, str]:
        split = urlsplit(address)
        query: dict[str, Any] = dict(parse_qsl(split.query))
        if split.path == "/token":
            return self.token.encode(), ""
        if split.path not in ("/module", "/tag"):
            return OTHER.encode(), ""
        url = query["url"]
        workers = query.pop("workers", "")
        inline = "'unsafe-inline' " if split.path == "/module" else ""
        policy = POLICY.format(
            url=url,
            ws=url.replace("http", "ws", 1),
            inline=inline,
            worker="'none'" if workers == "none" else f"blob: {url}",
        )
        if split.path == "/module":
            return MODULE.replace("OPTIONS", json.dumps(query)).encode(), policy
        more = 'data-transport="post"' if query.get("transport") == "post" else ""
        return TAG.format(url=url, agent=query["agent"], token=self.token, more=more).encode(), policy
