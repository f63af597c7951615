"""The keys of an identity provider: a JWK set becomes public keys, each with the algorithms that fit it.

No I/O: where the set comes from is in `key_source.py`. A key that is not ours to use is left out, with the reason; a
set in which none is left is refused, so that a bad rotation does not take the place of good keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey

MAX_KEYS = 200
"""Keys of a set that are looked at; the largest that providers publish have a few dozen."""

RSA_BITS = range(2048, 8193)
"""Source: RFC 7518, section 3.3, for the least; more than the most takes milliseconds to verify."""

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

# By `kty` and `crv`. Nothing symmetric, no `none`, and of each curve only its own. Source: RFC 7518, 3.1; RFC 8037.
_FITTING: Mapping[tuple[str, str], frozenset[str]] = {
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}

ALGORITHMS: Mapping[str, Algorithm] = {
    name: verifies for name, verifies in get_default_algorithms().items() if name in _RSA.union(*_FITTING.values())
}
"""All that are taken, each with what verifies its signatures."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key. Two are equal if they are the same key for the same purpose.

    Attributes:
        kid: Its name in the set; None without one.
        algorithms: What it may verify.
        der: The key itself, as SubjectPublicKeyInfo.
        public: The same for `cryptography`.
    """

    kid: str | None
    algorithms: frozenset[str]
    der: bytes
    public: PublicKey = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a set that can be used; at least one.

    Attributes:
        keys: In the order of the set.
        left_out: Why others are not used, one sentence each.
    """

    keys: tuple[Key, ...]
    left_out: tuple[str, ...] = ()

    def named(self, kid: str | None) -> tuple[Key, ...]:
        """The keys of that name. A token that names none may be meant for any: it fits only where there is one."""
        if kid is None:
            return self.keys if len(self.keys) == 1 else ()
        return tuple(key for key in self.keys if key.kid == kid)


def read(document: bytes) -> KeySet:
    """Reads a JWK set. Source: RFC 7517, section 5.

    Raises:
        ValueError: It is none, or has no key that can be used; the text says why.
    """
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise ValueError("It is not JSON.") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError('It is no JWK set: an object with a list "keys".')  # noqa: TRY004 - what it holds is the fault
    keys: list[Key] = []
    left_out: list[str] = []
    for number, jwk in enumerate(listed[:MAX_KEYS], 1):
        try:
            keys.append(_key(jwk))
        except ValueError as error:
            left_out.append(f"Key {number} {error}.")
    if not keys:
        raise ValueError(f"It has no key that can be used. {left_out[0] if left_out else ''}".rstrip())
    return KeySet(tuple(keys), tuple(left_out))


def _key(jwk: object) -> Key:
    """Reads one key. Raises `ValueError`, whose text completes "Key 1 …"."""
    if not isinstance(jwk, dict):
        raise ValueError("is no object")  # noqa: TRY004
    kid = jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("has a name that is no text")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("is not for signatures")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("is not for verifying")
    if "d" in jwk:
        raise ValueError("is a private one, which nobody but the provider may have")
    fitting = _fitting(jwk)
    if jwk.get("alg") is not None:
        fitting &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set()
    if not fitting:
        raise ValueError("is of a kind or for an algorithm that is not taken")
    try:
        public = ALGORITHMS[next(iter(fitting))].from_jwk(jwk)
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise ValueError("cannot be read") from None
    if isinstance(public, RSAPublicKey) and public.key_size not in RSA_BITS:
        raise ValueError(f"has {public.key_size} bits, not {RSA_BITS.start} to {RSA_BITS.stop - 1}")
    return Key(kid, fitting, der, public)


def _fitting(jwk: Mapping[str, Any]) -> frozenset[str]:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        return _RSA
    return _FITTING.get((kind, curve), frozenset()) if isinstance(kind, str) and isinstance(curve, str) else frozenset()
