"""The stand-in without HTTP: an async client over the model for tests on virtual time.

It answers and raises what a boto3 client would, one attempt a call, and waits with `asyncio.sleep` only, so that a
fault's delay passes in the event loop's time.
"""

import asyncio
from email.utils import formatdate
from typing import Any, cast

from botocore import xform_name
from botocore.errorfactory import BaseClientExceptions, ClientExceptionsFactory
from botocore.exceptions import ClientError, ConnectionClosedError, ParamValidationError, ReadTimeoutError

from watchdog.sandbox.api import OPERATIONS, Admission, Reply
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.shapes import faults_in, service_model
from watchdog.sandbox.world import DEFAULT_ACCOUNT, DEFAULT_REGION, Caller

ENDPOINT = "sandbox://connect"
"""What time-outs name as the endpoint."""

_METHODS = {xform_name(name): name for name in OPERATIONS}


class DirectConnect:
    """A client of one account and Region. Safe for any number of concurrent calls in one event loop."""

    def __init__(
        self,
        model: ConnectModel,
        *,
        account: str = DEFAULT_ACCOUNT,
        region: str = DEFAULT_REGION,
        read_timeout_s: float | None = None,
    ) -> None:
        """Call `model` as this account.

        Args:
            model: what is called.
            account: instances of other accounts do not exist for it.
            region: instances in other Regions do not exist for it.
            read_timeout_s: how long a call waits for its answer; None waits for as long as a fault takes.
        """
        self._model = model
        self._caller = Caller(account, region)
        self._read_timeout_s = read_timeout_s
        self._calls = 0
        self._late: set[asyncio.Task[Reply]] = set()
        self.exceptions: BaseClientExceptions = ClientExceptionsFactory().create_client_exceptions(service_model())

    async def call(self, operation: str, **params: object) -> dict[str, Any]:
        """Call an operation, by its name (`PutUserStatus`) or boto3's method (`put_user_status`).

        A `delay` fault takes effect when its time comes, also after the caller has given up or was cancelled.

        Returns:
            What boto3 returns, with `ResponseMetadata`; the `date` header is the model's clock, to the second.

        Raises:
            ParamValidationError: boto3 would not have sent it.
            ClientError: the service refused; the class is the modeled one, as in `exceptions`.
            ReadTimeoutError: no answer within the read time-out; whether it took effect is not known.
            ConnectionClosedError: the connection was dropped before the read time-out; the same.
            KeyError: the stand-in does not have the operation.
        """
        name = _METHODS.get(operation, operation)
        if name not in OPERATIONS:
            raise KeyError(operation)
        report = faults_in(name, params)
        if report:
            raise ParamValidationError(report=report)
        admission = self._model.admit(name, params, self._caller)
        # A real call lets others run before it takes effect.
        await asyncio.sleep(0)
        reply = await self._late_reply(admission) if admission.wait_s else self._model.perform(admission)
        if reply.lost:
            await self._hang(reply.hang_s)
        metadata = self._metadata(reply)
        if reply.error is not None:
            error = {"Error": {"Message": reply.error.message, "Code": reply.error.code}, "ResponseMetadata": metadata}
            # botocore-stubs say that this gives an exception; it gives a class.
            raised = cast("type[ClientError]", self.exceptions.from_code(reply.error.code))
            raise raised(error, name)  # type: ignore[arg-type]  # a plain dict is what botocore itself passes
        return {**(reply.answer or {}), "ResponseMetadata": metadata}

    async def _late_reply(self, admission: Admission) -> Reply:
        async def serve() -> Reply:
            await asyncio.sleep(admission.wait_s)
            return self._model.perform(admission)

        serving = asyncio.create_task(serve())
        self._late.add(serving)
        serving.add_done_callback(self._late.discard)
        done, _ = await asyncio.wait({serving}, timeout=self._read_timeout_s)
        if not done:
            raise ReadTimeoutError(endpoint_url=ENDPOINT)
        return serving.result()

    async def _hang(self, hang_s: float) -> None:
        timeout_s = self._read_timeout_s
        if timeout_s is not None and hang_s < timeout_s:
            await asyncio.sleep(hang_s)
            raise ConnectionClosedError(endpoint_url=ENDPOINT)
        await asyncio.sleep(hang_s if timeout_s is None else timeout_s)
        raise ReadTimeoutError(endpoint_url=ENDPOINT)

    def _metadata(self, reply: Reply) -> dict[str, Any]:
        self._calls += 1
        request_id = f"sandbox-{self._calls}"
        return {
            "RequestId": request_id,
            "HTTPStatusCode": reply.error.status if reply.error else 200,
            "HTTPHeaders": {
                "content-type": "application/json",
                "date": formatdate(self._model.now, usegmt=True),
                "x-amzn-requestid": request_id,
            },
            "RetryAttempts": 0,
        }
