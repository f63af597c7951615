"""What the dashboard asks for besides the rest: cancel, settings, the history as CSV."""

import csv
import io
from dataclasses import replace

import httpx
import pytest

from tests.ingest.test_events import ACTION
from watchdog.core.model import AgentId, AgentState, Beat, Cancel, Outcome
from watchdog.errors import StoreUnavailable
from watchdog.ingest import console as module

ADMIN = {"authorization": "Bearer admin-token"}
INSTANCE = "11111111-2222-3333-4444-555555555555"
USER = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
CANCEL = f"/v1/agents/{INSTANCE}/{USER}/cancel"


@pytest.fixture
async def world(make_world):
    return make_world()


async def said(world, message):
    assert (await world.post(message(type="hello"))).status_code == 200


async def test_an_agent_is_left_alone_with_a_reason(world, message):
    await said(world, message)
    async with world.http() as http:
        answer = await http.post(CANCEL, headers=ADMIN, json={"reason": " on a call with them "})
        assert (answer.status_code, answer.json()["user_id"]) == (200, USER)
        assert (await http.post(CANCEL, headers=ADMIN)).status_code == 200
    agent = AgentId(INSTANCE, USER)
    assert world.cancels.orders == [
        (agent, AgentState.LIVE, "on a call with them", "token:10a4c7c9"),
        (agent, AgentState.LIVE, "", "token:10a4c7c9"),
    ]


@pytest.mark.parametrize(("becomes", "told"), [(Cancel.NOTHING, "which is live"), (Cancel.UNDER_WAY, "being done")])
async def test_what_cannot_be_cancelled_is_a_conflict_that_says_why(world, message, becomes, told):
    await said(world, message)
    world.cancels.becomes = becomes
    async with world.http() as http:
        answer = await http.post(CANCEL, headers=ADMIN)
    assert answer.status_code == 409
    assert told in answer.json()["detail"]


async def test_cancels_that_are_none_are_refused(world, message):
    await said(world, message)
    async with world.http() as http:
        assert (await http.post(CANCEL)).status_code == 401
        foreign = AgentId(INSTANCE.replace("1", "9"), USER)
        world.store.apply_one(Beat(foreign, bytes(16), ttl=35.0))
        assert await world.store.agent(foreign) is not None
        other = CANCEL.replace(INSTANCE, foreign.instance_id)
        assert (await http.post(other, headers=ADMIN)).status_code == 404
        assert (await http.post(CANCEL.replace(USER, "nobody"), headers=ADMIN)).status_code == 404
        for body in ({"reason": "a\nb"}, {"reason": "x" * 501}, {"other": 1}):
            assert (await http.post(CANCEL, headers=ADMIN, json=body)).status_code == 422
    assert world.cancels.orders == []


async def test_settings_are_for_operators_only(world):
    row = {"variable": "WATCHDOG_PORT", "value": "1", "default": None, "source": "environment", "meaning": "Where."}
    world.settings = [row]
    async with world.http() as http:
        assert (await http.get("/v1/settings")).status_code == 401
        assert (await http.get("/v1/settings", headers=ADMIN)).json() == {"settings": [row]}


# CSV.


async def export(world, asked=""):
    async with world.http() as http:
        answer = await http.get(f"/v1/actions.csv{asked}", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer, list(csv.reader(io.StringIO(answer.text, newline="")))


async def test_the_whole_history_is_told_line_by_line(world, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 3)
    world.store.history = [replace(ACTION, id=f"{each}") for each in range(10)]
    answer, (names, *rows) = await export(world)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "watchdog-history.csv" in answer.headers["content-disposition"]
    assert tuple(names) == module.COLUMNS
    assert [row[0] for row in rows] == [f"{each}" for each in range(10)]
    told = dict(zip(names, rows[0], strict=True))
    assert (told["instance_id"], told["user_id"], told["outcome"]) == ("i", "u", "confirmed")
    assert (told["at"], told["latency_s"]) == ("2027-01-15T08:00:00.000Z", "0.5")
    assert told["evidence"] == '{"note":"<b>\\n\\n"}'


async def test_its_filters_are_those_of_the_history(world):
    world.store.history = [ACTION, replace(ACTION, id="2", outcome=Outcome.FAILED), replace(ACTION, id="3", at=5.0)]
    assert [row[0] for row in (await export(world, "?outcome=failed"))[1]] == ["id", "2"]
    assert [row[0] for row in (await export(world, "?since=1000"))[1]] == ["id", "1-a", "2"]
    assert [row[0] for row in (await export(world, "?agent=i/other"))[1]] == ["id"]
    async with world.http() as http:
        assert (await http.get("/v1/actions.csv?outcome=none", headers=ADMIN)).status_code == 400
        assert (await http.get("/v1/actions.csv")).status_code == 401


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
async def test_no_cell_is_a_formula(world, text):
    world.store.history = [replace(ACTION, agent=AgentId("i", text), target=text, reason=text, id=text)]
    _, (names, row) = await export(world)
    told = dict(zip(names, row, strict=True))
    assert [told[each] for each in ("id", "user_id", "target", "reason")] == [f"'{text}"] * 4


async def test_a_history_that_cannot_be_read_is_told_as_such(world):
    world.store.broken = StoreUnavailable("away")
    async with world.http() as http:
        assert (await http.get("/v1/actions.csv", headers=ADMIN)).status_code == 503


async def test_a_history_that_breaks_off_is_no_whole_file(world, monkeypatch, serving):
    monkeypatch.setattr(module, "PAGE", 1)
    world.store.history = [ACTION, replace(ACTION, id="2")]
    whole = world.store.actions

    async def once(*asked):
        world.store.broken = StoreUnavailable("away") if asked[3] else None
        return await whole(*asked)

    world.store.actions = once
    served = serving(world.app)
    async with served, httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}", headers=ADMIN) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/v1/actions.csv")
