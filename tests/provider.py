"""An identity provider: real keys, a JWK set of them, and tokens signed with them, good and bad."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    from collections.abc import Iterator

ISSUER = "https://id.example.com/pool"
AUDIENCE = "watchdog"

CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def private_key(alg: str, number: int = 0, bits: int = 2048) -> Any:
    """A key of that algorithm's kind; the same for the same number."""
    return _made(alg, number, bits)


@cache
def _made(alg: str, number: int, bits: int) -> Any:
    del number
    if alg in CURVES:
        return ec.generate_private_key(CURVES[alg]())
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if alg == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, bits)


def jwk(alg: str, kid: str | None, /, number: int = 0, bits: int = 2048, **members: Any) -> dict[str, Any]:
    """The public part of that key, as a provider publishes it."""
    verifies = get_default_algorithms()["EdDSA" if alg == "Ed448" else alg]
    found = verifies.to_jwk(private_key(alg, number, bits).public_key(), as_dict=True)
    found.pop("key_ops", None)
    if kid is not None:
        found["kid"] = kid
    return {name: value for name, value in {**found, **members}.items() if value is not None}


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(
    alg: str = "ES256",
    kid: str | None = "k1",
    number: int = 0,
    headers: dict[str, Any] | None = None,
    now: float | None = None,
    **claims: Any,
) -> str:
    """A token with all that is needed; None takes a claim away."""
    at = time.time() if now is None else now
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "iat": at, "exp": at + 3600, **claims}
    head = {"kid": kid, **(headers or {})} if kid is not None else headers
    return jwt.encode(
        {name: value for name, value in said.items() if value is not None},
        private_key(alg, number),
        algorithm="EdDSA" if alg == "Ed448" else alg,
        headers=head,
    )


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token of these parts, whatever they are worth."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@dataclass
class Provider:
    """What it answers, and how often it was asked.

    Attributes:
        body: The JWK set.
        status: Of its answers.
        headers: More of them.
        asked: Wall clock of each request.
    """

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(provider: Provider, port: int = 0) -> Iterator[Provider]:
    """A real HTTP server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(time.time())
            self.send_response(provider.status)
            for name, value in provider.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(provider.body)))
            self.end_headers()
            self.wfile.write(provider.body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    provider.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
