"""The certificate of the server: loaded, loaded anew when its files change, and told when it is about to expire.

A pair of files that does not go together changes nothing: the one before is served on. Both files are read before
anything is changed, and each handshake takes one pair or the other, never half of each.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from watchdog.core.model import Epoch
from watchdog.errors import CertificateRefused

EXPIRES_S = 7 * 86_400.0
"""So long before the end it is a problem: certificates are renewed weeks before, so something has stopped."""

LOOK_S = 10.0
"""Between looks at the files."""

_EXPIRED = 10
"""Source: OpenSSL, X509_V_ERR_CERT_HAS_EXPIRED."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Validity:
    """For how long a certificate holds.

    Attributes:
        expires_at: When it ends; None where that is not known.
        expired: Whether it has ended.
    """

    expires_at: Epoch | None
    expired: bool = False


class Certificate:
    """A certificate with its key, from two files.

    Attributes:
        context: For the server. It takes whichever pair was loaded last.
        validity: Of the pair that is served.
        fault: Why a newer pair is not served; None while there is none.
        fault_since: Since when.
    """

    def __init__(self, cert: Path, key: Path, epoch: Callable[[], Epoch]) -> None:
        """Loads the pair.

        Args:
            cert: PEM, the server's own certificate first (TLS_CERT).
            key: PEM, not encrypted (TLS_KEY).
            epoch: The wall clock.

        Raises:
            CertificateRefused: It cannot be served.
        """
        self._cert, self._key, self._epoch = cert, key, epoch
        self.fault: str | None = None
        self.fault_since = Epoch(0.0)
        self._seen = self._marks()
        self._serving = load(cert, key)
        self.validity = validity(self._serving, cert)
        self.context = load(cert, key)
        self.context.sni_callback = self._chosen

    def look(self) -> None:
        """Loads the pair anew if a file of it has changed."""
        marks = self._marks()
        if marks == self._seen:
            return
        self._seen = marks
        try:
            fresh = load(self._cert, self._key)
            found = validity(fresh, self._cert)
        except CertificateRefused as error:
            if self.fault is None:
                self.fault_since = self._epoch()
                log.error("tls.refused", reason=str(error))  # noqa: TRY400  # the text tells all
            self.fault = str(error)
            return
        self._serving, self.validity, self.fault = fresh, found, None
        log.info("tls.loaded", expires_at=found.expires_at)

    @property
    def expires_in_s(self) -> float | None:
        """Seconds until the one that is served ends, 0 if it has; None where that is not known."""
        if self.validity.expired:
            return 0.0
        ends = self.validity.expires_at
        return None if ends is None else max(0.0, ends - self._epoch())

    def _chosen(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        # Called in each handshake, with a name or without.
        connection.context = self._serving

    def _marks(self) -> tuple[object, ...]:
        """What changes when a file is written or put in place of another."""
        found: list[object] = []
        for path in (self._cert, self._key):
            try:
                stat = path.stat()
            except OSError as error:
                found.append(error.errno)
            else:
                found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return tuple(found)


def load(cert: Path, key: Path) -> ssl.SSLContext:
    """A context that serves the pair, with TLS 1.2 or newer.

    Raises:
        CertificateRefused: It cannot be served; the text names the file.
    """
    for path in (cert, key):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateRefused(f"{path} cannot be read: {error.strerror}.") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_none)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateRefused(f"{key} is not the key of the first certificate in {cert}.") from None
        raise CertificateRefused(f"{cert} and {key} are no certificate and key in PEM ({error.reason}).") from None
    except _EncryptedError:
        raise CertificateRefused(f"{key} is encrypted. Give a key without a passphrase.") from None
    return context


def validity(serving: ssl.SSLContext, cert: Path) -> Validity:
    """For how long a pair holds, as a client sees it that trusts this very certificate."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cert)
        found = _greeted(serving, client)
    except ssl.SSLCertVerificationError as error:
        return Validity(None, expired=error.verify_code == _EXPIRED)
    except ssl.SSLError:
        return Validity(None)
    ends = found.get("notAfter") if found else None
    return Validity(Epoch(float(ssl.cert_time_to_seconds(ends))) if isinstance(ends, str) else None)


def _greeted(serving: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object] | None:
    """The server's certificate after a handshake that happens in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = serving.wrap_bio(to_server, to_client, server_side=True)
    waiting = [asking, answering]
    for _ in range(4):
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    return dict(asking.getpeercert() or {})


class _EncryptedError(Exception):
    """A key needs a passphrase."""


def _none() -> str:
    raise _EncryptedError
