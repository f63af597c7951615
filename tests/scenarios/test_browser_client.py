"""What the browser client asks of a running daemon: its files, and answers that its page may read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.harness import INSTANCE, Connect, Daemon, new_session

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.scenario

PAGE = "https://ccp.example.com"


def say(daemon: Daemon, origin: str, **fields: object) -> httpx.Response:
    """As a page does: a text, and no header of its own."""
    return daemon.client.post(
        f"{daemon.url}/v1/heartbeat",
        content=json.dumps(fields),
        headers={"origin": origin, "content-type": "text/plain;charset=UTF-8"},
    )


def test_a_page_of_an_allowed_origin_loads_the_client_beats_and_says_bye(connect: Connect, daemon: Daemon) -> None:
    daemon.env["WATCHDOG_ALLOWED_ORIGINS"] = PAGE
    daemon.start().ready()
    script = daemon.client.get(f"{daemon.url}/client/presence.js", headers={"origin": PAGE})
    assert (script.status_code, script.headers["access-control-allow-origin"]) == (200, "*")
    assert 'from "./core.js"' in script.text
    assert daemon.client.head(f"{daemon.url}/client/core.js").content == b""

    user_id = connect.users[0]
    who = {"instance_id": INSTANCE, "user_id": user_id, "session_id": new_session()}
    token = daemon.env["WATCHDOG_HEARTBEAT_TOKENS"]
    hello = say(daemon, PAGE, **who, type="hello", seq=1, token=token, driver="main", visibility="visible", gap_ms=0)
    assert (hello.status_code, hello.headers["access-control-allow-origin"]) == (200, PAGE)
    assert say(daemon, PAGE, **who, seq=2, ticket=hello.json()["ticket"], driver="worker").status_code == 200
    # The number with which the client says bye.
    bye = say(daemon, PAGE, **who, type="bye", seq=2**53 - 1, ticket=hello.json()["ticket"], reason="pagehide")
    assert bye.status_code == 204
    assert daemon.state(user_id) == "grace"
    again = say(daemon, PAGE, **who, type="hello", incarnation=1, seq=1, token=token)
    assert again.json()["state"] == "live"

    other = say(daemon, "https://elsewhere.example", **who, incarnation=1, seq=2, token=token)
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
