"""boto3 against the stand-in over HTTP: one attempt, aborted when late, errors by code. Real time and sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from watchdog.connect.answers import StatusType
from watchdog.connect.api import Instance
from watchdog.connect.boto import BotoConfig, BotoConnect
from watchdog.core.model import Boot, Epoch, Instant
from watchdog.errors import (
    CallAborted,
    ConnectCredentials,
    ConnectDenied,
    ConnectInvalid,
    ConnectNotFound,
    ConnectThrottled,
    ConnectUnavailable,
)
from watchdog.sandbox.records import ContactState, Fault, FaultKind, ProfileQueue
from watchdog.sandbox.seed import DEFAULT_INSTANCE_ID, seed
from watchdog.sandbox.server import SandboxServer

LATER = Boot(1e12)


def now() -> Instant:
    return Instant(Boot(time.monotonic()), Epoch(time.time()), "boot")


@pytest.fixture(scope="module")
def server():
    with SandboxServer() as served:
        yield served


class Stand:
    def __init__(self, server, connect, users):
        self.server, self.model, self.connect, self.users = server, server.model, connect, users
        self.since = self.model.last_seq

    def calls(self):
        return [(call.operation, call.outcome) for call in self.model.calls(self.since)]

    def status_id(self, name="Offline"):
        return self.model.instance(DEFAULT_INSTANCE_ID).status_called(name).id

    async def put(self, not_after=LATER, user=None, status=None):
        await self.connect.put_user_status(
            DEFAULT_INSTANCE_ID, user or self.users[0], status or self.status_id(), not_after
        )


@pytest.fixture
async def stand(server, monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ROLE_ARN", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL_CONNECT": server.url,
        "AWS_ENDPOINT_URL_STS": server.url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    server.model.clear_faults()
    server.model.set_quota(None, 1)
    instance = seed(server.model, agents=3)
    for user_id in list(instance.users):
        server.model.agent_sets_status(DEFAULT_INSTANCE_ID, user_id, "Available")
    # Patient: the first request of all loads moto, which takes seconds on a busy machine.
    connect = BotoConnect([Instance(DEFAULT_INSTANCE_ID), Instance("elsewhere")], now, BotoConfig(read_timeout_s=60))
    yield Stand(server, connect, list(instance.users))
    server.model.clear_faults()
    assert await connect.close(5.0)


async def test_a_status_is_written_and_read(stand):
    await stand.put()
    data = await stand.connect.current_user_data(DEFAULT_INSTANCE_ID, stand.users)
    assert stand.users[0] not in data.rows
    assert set(data.rows) == set(stand.users[1:])
    assert data.complete
    assert abs(data.answered_at - time.time()) < 5
    seen = data.rows[stand.users[1]]
    assert seen.status_name == "Available"
    assert seen.status_id == stand.status_id("Available")
    assert abs(seen.since - time.time()) < 60
    assert seen.available["VOICE"] == 1
    assert stand.calls() == [("PutUserStatus", "ok"), ("GetCurrentUserData", "ok")]


async def test_contacts_and_the_next_status_are_read(stand):
    user = stand.users[2]
    contact = stand.model.add_contact(DEFAULT_INSTANCE_ID, user, ContactState.CONNECTED)
    await stand.put(user=user)
    data = await stand.connect.current_user_data(DEFAULT_INSTANCE_ID, [user])
    stand.model.end_contact(DEFAULT_INSTANCE_ID, user, contact.id)
    assert data.rows[user].next_status == "Offline"
    assert data.rows[user].contacts == ("CONNECTED",)
    assert data.rows[user].contact_ids == (contact.id,)
    (connected_at,) = data.rows[user].connected_at
    assert connected_at == pytest.approx(contact.connected_at, abs=0.01)
    assert data.dated


async def test_a_missed_contact_is_dismissed_by_the_id_that_was_read(stand):
    user = stand.users[1]
    stand.model.add_contact(DEFAULT_INSTANCE_ID, user, ContactState.MISSED)
    seen = (await stand.connect.current_user_data(DEFAULT_INSTANCE_ID, [user])).rows[user]
    await stand.connect.dismiss_user_contact(DEFAULT_INSTANCE_ID, user, seen.contact_ids[0], LATER)
    assert stand.model.user(DEFAULT_INSTANCE_ID, user).contacts == ()
    with pytest.raises(ConnectNotFound):
        await stand.connect.dismiss_user_contact(DEFAULT_INSTANCE_ID, user, seen.contact_ids[0], LATER)


async def test_a_contact_that_goes_on_cannot_be_dismissed(stand):
    user = stand.users[1]
    contact = stand.model.add_contact(DEFAULT_INSTANCE_ID, user, ContactState.CONNECTED)
    with pytest.raises(ConnectInvalid):
        await stand.connect.dismiss_user_contact(DEFAULT_INSTANCE_ID, user, contact.id, LATER)
    stand.model.end_contact(DEFAULT_INSTANCE_ID, user, contact.id)


async def test_all_sessions_of_a_user_are_ended(stand):
    before = stand.model.user(DEFAULT_INSTANCE_ID, stand.users[0]).sessions_ended
    await stand.connect.delete_all_entity_sessions(DEFAULT_INSTANCE_ID, stand.users[0], LATER)
    assert stand.model.user(DEFAULT_INSTANCE_ID, stand.users[0]).sessions_ended == before + 1
    with pytest.raises(ConnectNotFound):
        await stand.connect.delete_all_entity_sessions(DEFAULT_INSTANCE_ID, "nobody", LATER)


async def test_each_queue_of_a_profile_is_listed_once_whatever_its_channels(stand):
    instance = stand.model.instance(DEFAULT_INSTANCE_ID)
    profile = next(iter(instance.profiles.values()))
    assert len(profile.queues) == 2
    page = await stand.connect.list_routing_profile_queues(DEFAULT_INSTANCE_ID, profile.id)
    (queue,) = page.queues
    assert (queue.name, queue.arn) == ("BasicQueue", f"{instance.arn}/queue/{queue.id}")
    assert page.cursor is None


async def test_queues_of_a_profile_are_listed_page_by_page(stand):
    instance = stand.model.instance(DEFAULT_INSTANCE_ID)
    queues = {f"queue-{number:03}": f"Queue {number}" for number in range(101)}
    instance.queues.update(queues)
    profile = replace(next(iter(instance.profiles.values())), id="many", name="Many")
    instance.profiles["many"] = replace(profile, queues=tuple(ProfileQueue(each, "VOICE") for each in queues))
    first = await stand.connect.list_routing_profile_queues(DEFAULT_INSTANCE_ID, "many")
    second = await stand.connect.list_routing_profile_queues(DEFAULT_INSTANCE_ID, "many", first.cursor)
    del instance.profiles["many"]
    assert (len(first.queues), len(second.queues), second.cursor) == (100, 1, None)
    assert {queue.name for queue in first.queues + second.queues} == set(queues.values())
    with pytest.raises(ConnectNotFound, match="Routing profile"):
        await stand.connect.list_routing_profile_queues(DEFAULT_INSTANCE_ID, "many")


async def test_agents_are_read_by_profile_page_by_page(stand):
    profiles = list((await stand.connect.list_routing_profiles(DEFAULT_INSTANCE_ID)).names)
    everyone = {user.id for user in stand.model.instance(DEFAULT_INSTANCE_ID).users.values()}
    page = await stand.connect.user_data_page(DEFAULT_INSTANCE_ID, profiles, None)
    assert page.rows.keys() <= everyone
    assert set(stand.users) <= page.rows.keys()
    assert page.cursor is None
    for number in range(100):
        stand.model.add_user(DEFAULT_INSTANCE_ID, f"one-more-{number}", status="Available")
    page = await stand.connect.user_data_page(DEFAULT_INSTANCE_ID, profiles, None)
    assert len(page.rows) == 100
    rest = await stand.connect.user_data_page(DEFAULT_INSTANCE_ID, profiles, page.cursor)
    assert rest.cursor is None
    assert not page.rows.keys() & rest.rows.keys()
    assert set(stand.users) <= page.rows.keys() | rest.rows.keys()
    for user in list(stand.model.instance(DEFAULT_INSTANCE_ID).users.values()):
        if user.username.startswith("one-more-"):
            stand.model.delete_user(DEFAULT_INSTANCE_ID, user.id)


async def test_statuses_and_profiles_are_listed(stand):
    statuses = (await stand.connect.list_agent_statuses(DEFAULT_INSTANCE_ID)).statuses
    assert {status.name: status.type for status in statuses}["Offline"] is StatusType.OFFLINE
    assert "Basic Routing Profile" in (await stand.connect.list_routing_profiles(DEFAULT_INSTANCE_ID)).names.values()


WRITES = {
    "PutUserStatus": lambda stand, at: stand.put(not_after=at),
    "DismissUserContact": lambda stand, at: stand.connect.dismiss_user_contact(
        DEFAULT_INSTANCE_ID, stand.users[0], "contact", at
    ),
    "DeleteAllEntitySessions": lambda stand, at: stand.connect.delete_all_entity_sessions(
        DEFAULT_INSTANCE_ID, stand.users[0], at
    ),
}


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.THROTTLE, ConnectThrottled),
        (FaultKind.ACCESS_DENIED, ConnectDenied),
        (FaultKind.INTERNAL, ConnectUnavailable),
        (FaultKind.NOT_FOUND, ConnectNotFound),
        (FaultKind.INVALID, ConnectInvalid),
    ],
)
async def test_an_error_is_one_request_and_one_exception_of_ours(stand, operation, kind, error):
    stand.model.add_fault(Fault(kind, operation))
    with pytest.raises(error) as caught:
        await WRITES[operation](stand, LATER)
    assert caught.value.operation == operation
    assert (kind is FaultKind.ACCESS_DENIED) == (f"Allow connect:{operation}." in str(caught.value))
    assert len(stand.calls()) == 1


async def test_a_denied_listing_of_queues_names_its_action(stand):
    stand.model.add_fault(Fault(FaultKind.ACCESS_DENIED, "ListRoutingProfileQueues"))
    with pytest.raises(ConnectDenied, match=r"Allow connect:ListRoutingProfileQueues\."):
        await stand.connect.list_routing_profile_queues(DEFAULT_INSTANCE_ID, "any")


async def test_a_500_may_have_been_applied(stand):
    stand.model.add_fault(Fault(FaultKind.INTERNAL, "PutUserStatus"))
    with pytest.raises(ConnectUnavailable) as caught:
        await stand.put()
    assert caught.value.maybe_applied


async def test_a_lost_answer_is_one_request_that_may_have_been_applied(stand):
    await stand.put(user=stand.users[1])
    stand.model.add_fault(Fault(FaultKind.LOST_ANSWER, "PutUserStatus", delay_s=30))
    connect = BotoConnect([Instance(DEFAULT_INSTANCE_ID)], now, BotoConfig(read_timeout_s=2))
    with pytest.raises(ConnectUnavailable, match="Read timeout") as caught:
        await connect.put_user_status(DEFAULT_INSTANCE_ID, stand.users[0], stand.status_id(), LATER)
    assert caught.value.maybe_applied
    assert stand.calls() == [("PutUserStatus", "ok"), ("PutUserStatus", "lost_answer")]
    assert stand.model.status_name(DEFAULT_INSTANCE_ID, stand.users[0]) == "Offline"


async def test_where_nobody_listens_nothing_was_applied(stand, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", "http://127.0.0.1:9")
    with pytest.raises(ConnectUnavailable) as caught:
        await stand.put()
    assert not caught.value.maybe_applied


@pytest.mark.parametrize("operation", WRITES)
async def test_a_write_that_is_late_is_never_sent(stand, operation):
    await stand.put(user=stand.users[1])
    with pytest.raises(CallAborted):
        await WRITES[operation](stand, Boot(now().boot - 0.001))
    assert len(stand.calls()) == 1
    assert stand.model.status_name(DEFAULT_INSTANCE_ID, stand.users[0]) == "Available"
    # The limit of one call is not that of the next one in the same thread.
    await stand.connect.current_user_data(DEFAULT_INSTANCE_ID, stand.users)
    await stand.put()


async def test_an_instance_that_does_not_exist_names_the_variable(stand):
    with pytest.raises(ConnectNotFound, match="WATCHDOG_INSTANCES"):
        await stand.connect.list_agent_statuses("elsewhere")


async def test_without_credentials_nothing_is_sent_and_later_ones_are_found(stand, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConnectCredentials):
        await stand.put()
    assert stand.calls() == []
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    await stand.put()
    assert stand.calls() == [("PutUserStatus", "ok")]


async def test_a_role_is_assumed_once_for_many_calls(stand, monkeypatch):
    instance = Instance(DEFAULT_INSTANCE_ID, "us-east-1", "arn:aws:iam::123456789012:role/watchdog", "secret")
    connect = BotoConnect([instance], now)
    await connect.list_agent_statuses(DEFAULT_INSTANCE_ID)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    await asyncio.gather(*(connect.current_user_data(DEFAULT_INSTANCE_ID, stand.users) for _ in range(4)))
    assert len(stand.calls()) == 5
    assert await connect.close(1.0)
    without_sts = BotoConnect([instance], now)
    with pytest.raises(ConnectUnavailable):
        await without_sts.list_agent_statuses(DEFAULT_INSTANCE_ID)
    assert len(stand.calls()) == 5
    assert await without_sts.close(1.0)


async def test_a_cancelled_call_is_still_waited_for_at_the_end(stand):
    sending = threading.Event()

    def told() -> Instant:
        sending.set()
        return now()

    connect = BotoConnect([Instance(DEFAULT_INSTANCE_ID)], told)
    stand.model.add_fault(Fault(FaultKind.DELAY, "PutUserStatus", delay_s=0.3))
    calling = asyncio.create_task(
        connect.put_user_status(DEFAULT_INSTANCE_ID, stand.users[0], stand.status_id(), LATER)
    )
    await asyncio.to_thread(sending.wait)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert connect.running == 1
    assert not await connect.close(0.01)
    assert await connect.close(5.0)
    assert stand.calls() == [("PutUserStatus", "ok")]
    assert stand.model.status_name(DEFAULT_INSTANCE_ID, stand.users[0]) == "Offline"


class Proxy(BaseHTTPRequestHandler):
    """Answers everything with status 200 and what it was told to."""

    body, kind = b"", "text/html"

    def do_any(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = do_PUT = do_any  # noqa: N815 - names that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>please log in</html>", "text/html"),
        (b"", "application/json"),
        (b"{}", "application/json"),
        (b"null", "application/json"),
    ],
)
async def test_a_200_that_is_no_answer_of_connect_is_none(monkeypatch, body, kind):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    handler = type("Handler", (Proxy,), {"body": body, "kind": kind})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", f"http://127.0.0.1:{proxy.server_port}")
        connect = BotoConnect([Instance("i", "us-east-1")], now)
        for call in (
            connect.current_user_data("i", ["anna"]),
            connect.list_agent_statuses("i"),
            connect.list_routing_profiles("i"),
            connect.list_routing_profile_queues("i", "profile"),
        ):
            with pytest.raises(ConnectUnavailable):
                await call
        if kind == "text/html":
            at = Boot(now().boot + 5)
            for write in (
                connect.put_user_status("i", "anna", "offline", at),
                connect.dismiss_user_contact("i", "anna", "contact", at),
                connect.delete_all_entity_sessions("i", "anna", at),
            ):
                with pytest.raises(ConnectUnavailable) as caught:
                    await write
                assert caught.value.maybe_applied
        await connect.close(1)
        proxy.shutdown()
        thread.join()


async def test_an_agent_who_is_shown_without_a_status_is_neither_seen_nor_absent(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    body = b'{"UserDataList": [{"User": {"Id": "anna"}}]}'
    handler = type("Handler", (Proxy,), {"body": body, "kind": "application/json"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", f"http://127.0.0.1:{proxy.server_port}")
        connect = BotoConnect([Instance("i", "us-east-1")], now)
        data = await connect.current_user_data("i", ["anna", "bert"])
        assert (dict(data.rows), data.unreadable) == ({}, {"anna"})
        await connect.close(1)
        proxy.shutdown()
        thread.join()


async def test_an_endpoint_that_is_none_is_told_and_not_lost(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CONNECT", "localhost:5000")
    connect = BotoConnect([Instance("i", "us-east-1")], now)
    with pytest.raises(ConnectUnavailable, match="localhost:5000"):
        await connect.list_agent_statuses("i")
    await connect.close(1)
