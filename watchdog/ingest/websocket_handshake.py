"""The handshake of a WebSocket: what is answered to the request that asks for one.

Its syntax is the `websockets` package's to judge; whether there is a socket for it is asked from whoever is given.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from watchdog.ingest.answers import PROBLEM_HEADERS
from watchdog.ingest.problems import Problem
from watchdog.ingest.wire import Header

SUBPROTOCOL = "watchdog.v1"

Opened = TypeVar("Opened")


def answered(
    head: bytes, open_: Callable[[list[Header]], Opened | Problem], defaults: list[Header]
) -> tuple[bytes, Opened | None]:
    """Answers a request.

    Args:
        head: All of it.
        open_: Given the headers of one in which nothing is wrong: opens the socket, or says why not.
        defaults: Headers of every answer.

    Returns:
        The answer, and what was opened; None if nothing was, and the connection is to be closed.
    """
    protocol = ServerProtocol()
    protocol.receive_data(head)
    opened: Opened | None = None
    for request in protocol.events_received():
        if isinstance(request, Request):
            response = protocol.accept(request)
            if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                found = open_([(name.encode(), value.encode("latin-1")) for name, value in request.headers.raw_items()])
                if isinstance(found, Problem):
                    response = _refused(found, defaults)
                else:
                    opened = found
                    del response.headers["Date"]
                    response.headers.update(_texts([*defaults, (b"sec-websocket-protocol", SUBPROTOCOL.encode())]))
            protocol.send_response(response)
    return b"".join(protocol.data_to_send()), opened


def _refused(problem: Problem, defaults: list[Header]) -> Response:
    body = problem.body()
    length, close = (b"content-length", b"%d" % len(body)), (b"connection", b"close")
    headers = Headers(_texts([*defaults, *PROBLEM_HEADERS, length, close]))
    return Response(problem.status, HTTPStatus(problem.status).phrase, headers, body)


def _texts(headers: list[Header]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
