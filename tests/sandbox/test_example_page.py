"""The example page: what is in its files, and what the demo's server answers to whom."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from watchdog.ingest.client_files import NAMES
from watchdog.sandbox.demo.agents import Agent, Office
from watchdog.sandbox.demo.page import ADDRESS, MEDIA_TYPES, TOKEN, application, policy
from watchdog.sandbox.demo.roles import TIMING
from watchdog.sandbox.demo.stage import Stage
from watchdog.sandbox.demo.stories import cast
from watchdog.sandbox.demo.watching import Seen, Snapshot
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.seed import DEFAULT_INSTANCE_ID, seed
from watchdog.sandbox.server import SandboxServer

FOLDER = Path(__file__).parents[2] / "watchdog" / "web" / "example"
FILES = sorted(path.name for path in FOLDER.iterdir())
PAGES = [name for name in FILES if name.endswith(".html")]
DAEMON = "http://127.0.0.1:8123"
HOST = "http://127.0.0.1:9000"


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@dataclass
class Server:
    """The page's server in this process, before a stand-in of Connect."""

    stage: Stage
    page: httpx.AsyncClient
    connect: ConnectModel
    users: list[str]

    def status(self, number: int) -> str:
        return self.connect.status_name(DEFAULT_INSTANCE_ID, self.users[number])


@pytest.fixture
async def server():
    model = ConnectModel(time.time)
    users = list(seed(model, agents=2, instance_id=DEFAULT_INSTANCE_ID, statuses=["Away"]).users)
    with SandboxServer(model) as connect:
        async with httpx.AsyncClient() as client:
            office = Office(client, DAEMON, connect.url, DEFAULT_INSTANCE_ID, "to-beat", "admin", lambda *_: None)
            agents = [Agent(role, user, f"arn:{user}", office) for role, user in zip(cast(), users, strict=False)]
            seen = dict(zip(users, (Seen("live", 2, 5.5, "Available"), Seen(None, 0, None, "Offline")), strict=True))
            stage = Stage(TIMING, agents, Snapshot(seen, {}))
            app = application(stage, office, {users[1]})
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as page:
                yield Server(stage, page, model, users)


def test_both_ways_to_use_the_client_are_there_as_a_reader_would_copy_them():
    (line,) = re.findall(r"<script[^>]*presence\.js[^>]*></script>", text("index.html"))
    attributes = f'data-streams data-token="{TOKEN}" data-banner'
    assert line == f'<script type="module" src="{ADDRESS}/client/presence.js" {attributes}></script>'
    module = text("module.js")
    assert re.findall(r'from "(.*)"', module) == [f"{ADDRESS}/client/banner.js", f"{ADDRESS}/client/presence.js"]
    assert all(name in module for name in ("streams: connect", "getToken", "onStatus", "onNotice", "warn("))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_its_own_files_and_the_client_and_nothing_else(name):
    html = re.sub("<pre.*</pre>", "", text(name), flags=re.DOTALL)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    own = {each for each in loaded if "//" not in each and each not in ("data:,", "./")}
    assert own <= set(FILES)
    assert {each for each in loaded if "//" in each} <= {f"{ADDRESS}/client/{script}" for script in NAMES}
    # The policy that the docs give forbids what is written into the page.
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon[a-z]+=|\bstyle=", html)
    assert '<html lang="en">' in html
    assert 'name="viewport" content="width=device-width' in html


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_a_script_writes_no_html(name):
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text(name))


async def test_files_have_the_daemons_address_and_token_put_in_and_a_policy_that_allows_it(server):
    for name in ["", *FILES]:
        answer = await server.page.get(f"/{name}")
        assert answer.status_code == 200, name
        kind = MEDIA_TYPES[(name or "index.html").rpartition(".")[2]]
        assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
        assert ADDRESS not in answer.text
        assert TOKEN not in answer.text
        assert answer.headers["content-security-policy"] == policy(DAEMON)
        assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")
    line = f'src="{DAEMON}/client/presence.js" data-streams data-token="to-beat"'
    assert line in (await server.page.get("/")).text
    assert (await server.page.get("/package.json")).status_code == 404
    assert (await server.page.get("/..%2fclient%2fcore.js")).status_code == 404


def test_the_policy_is_the_one_of_the_docs():
    docs = (FOLDER.parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
    given = dict(each.split(" ", 1) for each in policy("https://watchdog.example.com").split("; "))
    for directive, sources in re.findall(r"^\| `(\S+) ([^`]+)` \|", docs, re.MULTILINE):
        assert set(sources.split()) <= set(given[directive].split())


async def test_the_floor_is_what_was_seen_last(server):
    floor = (await server.page.get("/floor.json")).json()
    assert (floor["daemon"], floor["statuses"]) == (True, ["Available", "Away", "Offline"])
    first, second = floor["agents"]
    assert (first["name"], first["state"], first["sessions"], first["due_in_s"]) == ("agent-01", "live", 2, 5.5)
    assert [each["yours"] for each in (first, second)] == [False, True]
    server.stage.snapshot = Snapshot(server.stage.snapshot.agents, None)
    assert not (await server.page.get("/floor.json")).json()["daemon"]


async def test_a_status_that_is_chosen_goes_to_connect_and_is_told(server):
    path = f"/agents/{server.users[1]}/status"
    assert (await server.page.post(path, json={"status": "Away"})).status_code == 204
    assert (server.status(0), server.status(1)) == ("Available", "Away")
    assert [(each.who, each.what) for each in server.stage.events] == [("agent-02", "chooses Away in the example page")]
    refused = await server.page.post(path, json={"status": "?"})
    assert refused.status_code == 404
    assert "?" in refused.json()["detail"]
    assert len(server.stage.events) == 1


async def test_pages_of_others_can_neither_choose_nor_read(server):
    path, body = f"/agents/{server.users[1]}/status", '{"status": "Away"}'
    for headers in ({"content-type": "text/plain"}, {}):
        assert (await server.page.post(path, content=body, headers=headers)).status_code == 415
    preflight = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in (await server.page.options(path, headers=preflight)).headers
    # A name of theirs that points at loopback.
    for each in ("/", "/floor.json"):
        assert (await server.page.get(each, headers={"host": "evil.example:9000"})).status_code == 400
    assert (await server.page.post("/agents/nobody/status", json={"status": "Away"})).text == "There is no such agent."
    assert server.status(1) == "Available"
