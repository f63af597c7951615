"""The dashboard's files, as a browser asks for them."""

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from watchdog.ingest.dashboard import POLICY

SOURCE = Path(str(files("watchdog") / "web" / "dashboard"))

PATHS = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*") if path.is_file())

OURS = [name for name in PATHS if name.endswith(".js") and not name.startswith("vendor/")]


@pytest.mark.parametrize("name", PATHS)
async def test_each_file_is_given_to_anybody_with_the_policy(make_world, name):
    async with make_world().http() as http:
        reply = await http.get(f"/dashboard/{name}")
    assert (reply.status_code, reply.content) == (200, (SOURCE / name).read_bytes())
    assert reply.headers["content-security-policy"] == POLICY.decode()
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in reply.headers
    assert "access-control-allow-origin" not in reply.headers
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    kinds[".json"] = "application/json"
    assert reply.headers["content-type"].startswith(kinds.get(Path(name).suffix, "text/plain"))


async def test_the_page_is_at_the_root_and_holds_no_data(make_world):
    async with make_world().http() as http:
        reply = await http.get("/")
        assert reply.text == (SOURCE / "index.html").read_text(encoding="utf-8")
        again = await http.get("/", headers={"if-none-match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await http.head("/")).status_code == 200
        assert (await http.post("/")).status_code == 405
        for path in ("/dashboard/", "/dashboard/none.js", "/dashboard/../app.py", "/dashboard"):
            assert (await http.get(path)).status_code == 404


def test_the_policy_lets_nothing_in_that_is_not_a_file_of_ours():
    rules = dict(each.strip().partition(" ")[::2] for each in POLICY.decode().split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert {rules[each] for each in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}


def test_the_page_has_no_script_style_or_address_of_its_own():
    page = (SOURCE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?:|//\w", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


@pytest.mark.parametrize("name", OURS)
def test_a_script_loads_its_neighbours_only_and_writes_no_html(name):
    code = re.sub(r"^\s*//.*$", "", (SOURCE / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    loaded = re.findall(r'(?:from|import\()\s*"\./([^"]+)"', code)
    assert len(loaded) == len(re.findall(r"^import |import\(", code, re.MULTILINE))
    assert set(loaded) <= set(PATHS)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.(write|cookie)|\beval\b|new Function", code)
    assert "http:" not in code
    assert "https:" not in code


def test_what_is_vendored_is_what_npm_has_and_has_its_licence():
    told = json.loads((SOURCE / "vendor" / "README.json").read_text(encoding="utf-8"))
    assert told["name"] == "uplot"
    assert {each.name for each in (SOURCE / "vendor").iterdir()} == {*told["files"], "README.json"}
    for name, sha256 in told["files"].items():
        assert hashlib.sha256((SOURCE / "vendor" / name).read_bytes()).hexdigest() == sha256
    assert "MIT License" in (SOURCE / "vendor" / "uPlot.LICENSE.txt").read_text(encoding="utf-8")
