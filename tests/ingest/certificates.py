"""Certificates for tests, signed by themselves."""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write(folder: Path, name: str, *, days: float = 90, passphrase: bytes | None = None) -> tuple[Path, Path]:
    """A certificate of `name` that ends in so many days, and its key, put in place as `tls.crt` and `tls.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    lock = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    pem = serialization.Encoding.PEM
    put(folder / "tls.crt", made.public_bytes(pem))
    put(folder / "tls.key", key.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock))
    return folder / "tls.crt", folder / "tls.key"


def put(path: Path, content: bytes) -> None:
    """Puts a file in the place of another, as certificate tools do."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)
