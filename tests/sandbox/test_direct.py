"""The async facade on virtual time: a minute of hanging takes no minute."""

import asyncio
from email.utils import formatdate

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ParamValidationError, ReadTimeoutError

from watchdog.sandbox.direct import DirectConnect
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.records import Fault, FaultKind
from watchdog.sandbox.seed import seed

pytestmark = pytest.mark.looptime

EPOCH = 1_800_000_000.0


class Stand:
    """A model on the event loop's virtual time, with one agent."""

    def __init__(self, **options):
        loop = asyncio.get_running_loop()
        self.model = ConnectModel(lambda: EPOCH + loop.time())
        self.instance = seed(self.model)
        self.agent = next(iter(self.instance.users))
        self.client = DirectConnect(self.model, **options)

    async def put(self, status="Offline"):
        return await self.client.call(
            "PutUserStatus",
            InstanceId=self.instance.id,
            UserId=self.agent,
            AgentStatusId=self.instance.status_called(status).id,
        )

    def status(self):
        return self.model.status_name(self.instance.id, self.agent)


async def test_an_accepted_call_returns_metadata_and_the_models_date():
    stand = Stand()
    await asyncio.sleep(7)
    metadata = (await stand.put())["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200
    assert metadata["HTTPHeaders"]["date"] == formatdate(EPOCH + 7, usegmt=True)
    assert stand.status() == "Offline"


async def test_an_operation_may_be_named_as_boto3s_method():
    stand = Stand()
    answer = await stand.client.call("list_users", InstanceId=stand.instance.id)
    assert len(answer["UserSummaryList"]) == 1
    with pytest.raises(KeyError):
        await stand.client.call("list_whales")


async def test_a_refusal_raises_the_modeled_client_error():
    stand = Stand()
    with pytest.raises(ClientError) as caught:
        await stand.client.call("DescribeUser", InstanceId=stand.instance.id, UserId="nobody")
    assert isinstance(caught.value, stand.client.exceptions.ResourceNotFoundException)
    assert caught.value.operation_name == "DescribeUser"
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


async def test_what_boto3_would_not_send_never_arrives():
    stand = Stand()
    with pytest.raises(ParamValidationError):
        await stand.client.call("PutUserStatus", InstanceId=stand.instance.id)
    assert stand.model.calls() == ()


@pytest.mark.parametrize(("kind", "status"), [(FaultKind.TIMEOUT, "Available"), (FaultKind.LOST_ANSWER, "Offline")])
async def test_a_hanging_call_times_out_after_the_faults_delay(looptime, kind, status):
    stand = Stand()
    stand.model.add_fault(Fault(kind, delay_s=60))
    with pytest.raises(ReadTimeoutError):
        await stand.put()
    assert looptime == 60
    assert stand.status() == status


@pytest.mark.parametrize("kind", [FaultKind.TIMEOUT, FaultKind.LOST_ANSWER])
async def test_the_clients_own_time_out_comes_first_if_it_is_shorter(looptime, kind):
    stand = Stand(read_timeout_s=3)
    stand.model.add_fault(Fault(kind, delay_s=60))
    with pytest.raises(ReadTimeoutError):
        await stand.put()
    assert looptime == 3


async def test_a_connection_dropped_before_the_time_out_is_closed(looptime):
    stand = Stand(read_timeout_s=10)
    stand.model.add_fault(Fault(FaultKind.LOST_ANSWER, delay_s=1))
    with pytest.raises(ConnectionClosedError):
        await stand.put()
    assert looptime == 1
    assert stand.status() == "Offline"


async def test_a_delayed_call_takes_effect_at_the_end_of_its_delay(looptime):
    stand = Stand()
    stand.model.add_fault(Fault(FaultKind.DELAY, delay_s=5))
    calling = asyncio.create_task(stand.put())
    await asyncio.sleep(4)
    assert stand.status() == "Available"
    await calling
    assert looptime == 5
    assert stand.status() == "Offline"


async def test_a_delayed_call_takes_effect_after_its_caller_has_given_up(looptime):
    stand = Stand(read_timeout_s=2)
    stand.model.add_fault(Fault(FaultKind.DELAY, delay_s=5))
    with pytest.raises(ReadTimeoutError):
        await stand.put()
    assert (looptime, stand.status()) == (2, "Available")
    await asyncio.sleep(3)
    assert stand.status() == "Offline"


async def test_a_delayed_call_takes_effect_after_its_caller_was_cancelled():
    stand = Stand()
    stand.model.add_fault(Fault(FaultKind.DELAY, delay_s=5))
    calling = asyncio.create_task(stand.put())
    await asyncio.sleep(1)
    calling.cancel()
    await asyncio.sleep(4)
    assert calling.cancelled()
    assert stand.status() == "Offline"


async def test_the_quota_refills_in_virtual_time():
    stand = Stand()
    for _ in range(5):
        await stand.put()
    with pytest.raises(stand.client.exceptions.ThrottlingException):
        await stand.put()
    await asyncio.sleep(0.5)
    await stand.put()
