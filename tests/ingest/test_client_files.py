"""The files of the browser client, as a browser asks for them."""

import gzip
from importlib.resources import files

import httpx
import pytest

from watchdog.ingest.client_files import NAMES

SOURCE = files("watchdog") / "web" / "client"


@pytest.fixture
async def client(make_world):
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(make_world().app), base_url="http://testserver"
    ) as client:
        yield client


@pytest.mark.parametrize("name", NAMES)
async def test_a_page_of_any_origin_may_load_each_file(client, name):
    reply = await client.get(f"/client/{name}", headers={"origin": "https://elsewhere.example"})
    assert reply.status_code == 200
    assert reply.content == (SOURCE / name).read_bytes()
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"].startswith("public, max-age=600")


async def test_a_file_that_is_known_is_not_sent_again(client):
    first = await client.get("/client/core.js")
    etag = first.headers["etag"]
    for asked in (etag, f'"other", {etag}'):
        again = await client.get("/client/core.js", headers={"if-none-match": asked})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert "content-encoding" not in again.headers
    other = await client.get("/client/worker.js", headers={"if-none-match": etag})
    assert other.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False), ("xgzip", False)],
)
async def test_it_is_packed_for_who_can_unpack_it(client, accepted, packed):
    async with client.stream("GET", "/client/presence.js", headers={"accept-encoding": accepted}) as reply:
        raw = b"".join([chunk async for chunk in reply.aiter_raw()])
    assert ("content-encoding" in reply.headers) is packed
    assert reply.headers["vary"] == "accept-encoding"
    assert (gzip.decompress(raw) if packed else raw) == (SOURCE / "presence.js").read_bytes()


@pytest.mark.parametrize("path", ["/client/", "/client/package.json", "/client/../daemon.py", "/client/core.d.ts"])
async def test_nothing_else_is_given_out(make_world, path):
    sent = []

    async def send(message):
        sent.append(message)

    await make_world().app({"type": "http", "method": "GET", "path": path, "headers": []}, None, send)
    assert sent[0]["status"] == 404
    assert (b"access-control-allow-origin", b"*") not in sent[0]["headers"]


async def test_the_files_are_only_read(client):
    reply = await client.post("/client/core.js")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")
    assert (await client.head("/client/core.js")).status_code == 200
