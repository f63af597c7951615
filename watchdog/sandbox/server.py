"""The stand-in as a server: AWS's API (Connect, and STS as moto has it) and the control API on one port.

Loopback unless asked for more. One thread for each connection; an answer closes its connection, which clients that
keep connections alive take in their stride. `serve` is what `watchdog sandbox` runs.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from types import FrameType
from typing import TYPE_CHECKING, Self

from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from watchdog.sandbox.backend import ENVIRON_KEY, Serving, install
from watchdog.sandbox.control import PREFIX, ControlApi
from watchdog.sandbox.model import ConnectModel
from watchdog.sandbox.seed import DEFAULT_INSTANCE_ID, seed
from watchdog.sandbox.world import DEFAULT_REGION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOOPBACK = "127.0.0.1"


class _DatedHandler(MotoRequestHandler):
    """Dates every answer by the model's clock: http.server adds a `Date` of its own, whatever the application sets."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Give the time for the `Date` header; real time if the request was too broken to reach the application."""
        serving: Serving | None = getattr(self, "environ", {}).get(ENVIRON_KEY)
        if timestamp is None and serving is not None:
            timestamp = serving.model.now
        return formatdate(timestamp, usegmt=True)

    def connection_dropped(self, error: BaseException, environ: "WSGIEnvironment | None" = None) -> None:  # noqa: ARG002
        """Close the connection when the application has lost an answer; werkzeug would wait for the next request."""
        self.close_connection = True


class _QuietHandler(_DatedHandler):
    """Serves without a line for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing; errors are still logged."""


class _Application:
    """Sends `/sandbox/…` to the control API and everything else to moto, with the model in the environment."""

    def __init__(self, serving: Serving) -> None:
        install()
        self._serving = serving
        self._control = ControlApi(serving.model)
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ[ENVIRON_KEY] = self._serving
        if environ.get("PATH_INFO", "").startswith(PREFIX):
            return self._control(environ, start_response)
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


class SandboxServer(ThreadedMotoServer):
    """moto's threaded server with the stand-in in it; a context manager."""

    def __init__(
        self,
        model: ConnectModel | None = None,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        log_requests: bool = False,
    ) -> None:
        """Bind the port; nothing is served before `start`.

        Args:
            model: what is served; a new one on the real clock by default.
            host: the address to listen on.
            port: 0 takes a free one.
            log_requests: write a line for each request to standard error, as werkzeug does.

        Raises:
            SystemExit: the port is taken (werkzeug says so on standard error).
        """
        super().__init__(host, port, verbose=False)
        self.model = model or ConnectModel(time.time)
        self._closing = threading.Event()
        self._server = make_server(
            host,
            port,
            _Application(Serving(self.model, self._closing)),
            threaded=True,
            request_handler=_DatedHandler if log_requests else _QuietHandler,
        )

    def _server_entry(self) -> None:
        assert self._server is not None  # noqa: S101  # set in the constructor; the base class allows None
        self._server_ready_event.set()
        self._server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """Stop serving, end what hangs and free the port."""
        self._closing.set()
        super().stop()
        if self._server is not None:
            self._server.server_close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """The address, without a slash at the end; a wildcard host is shown as loopback."""
        host, port = self.get_host_and_port()
        if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not listened on
            host = LOOPBACK
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def environment(url: str, instance_id: str, region: str = DEFAULT_REGION) -> Mapping[str, str]:
    """Give the environment variables with which the daemon, the AWS CLI and any SDK talk to the stand-in."""
    return {
        "AWS_ENDPOINT_URL_CONNECT": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_REGION": region,
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",  # any value will do: the stand-in checks no signature
        "WATCHDOG_INSTANCES": instance_id,
    }


def _announce(server: SandboxServer, instance_id: str) -> None:
    lines = [
        f"Amazon Connect stand-in at {server.url}, instance {instance_id}.",
        f"State: {server.url}/sandbox/state. Stop with Ctrl-C. For the daemon:",
        *(f"export {name}={value}" for name, value in environment(server.url, instance_id).items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def serve(
    host: str = LOOPBACK,
    port: int = 0,
    agents: int = 10,
    instance_id: str | None = None,
    on_ready: Callable[[SandboxServer, str], None] = _announce,
) -> None:
    """Run the stand-in with a seeded instance until SIGINT or SIGTERM; call it in the main thread.

    Args:
        host: the address to listen on.
        port: 0 takes a free one.
        agents: how many agents the instance has, all Available.
        instance_id: the same one in every run by default.
        on_ready: called with the server and the instance id when it serves; prints how to use it by default.
    """
    chosen = instance_id or DEFAULT_INSTANCE_ID
    try:
        server = SandboxServer(host=host, port=port)
    except SystemExit:
        sys.stderr.write("A sandbox may run here already. Another port: --port; the variables printed then name it.\n")
        raise
    seed(server.model, agents=agents, instance_id=chosen)
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            on_ready(server, chosen)
            stopping.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
