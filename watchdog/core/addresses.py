"""IP addresses: which are never called, whose proxies are trusted, and whom a request is from. Nothing is resolved."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
"""Besides the link-local ones. Source: the documentation of the metadata services of Amazon EC2, Google Compute Engine,
Alibaba Cloud, Oracle Cloud (classic) and Azure."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Source: RFC 6052, section 2.1."""

_SITE_BITS = 64
"""Of an IPv6 address name a site, which may give itself any of the others. Source: RFC 6177, section 2."""


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    return _read(text) is not None


def is_loopback(text: str) -> bool:
    """Whether a text is an address that only its own machine can reach."""
    address = _read(text)
    return address is not None and _embedded(address).is_loopback


def is_barred(text: str) -> bool:
    """Whether an address is never called: link-local, or that of a cloud's metadata service, also within IPv6."""
    address = _read(text)
    if address is None:
        return False
    inner = _embedded(address)
    return inner.is_link_local or address.is_link_local or inner in _METADATA


@lru_cache(maxsize=4096)
def site(text: str) -> str:
    """What counts as one client: an IPv4 address, or the network of an IPv6 address."""
    address = _read(text)
    if address is None:
        return text
    address = _embedded(address)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _SITE_BITS), strict=False).network_address)


class Proxies:
    """The proxies that are believed when they say whom a request is from."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Takes networks, or addresses (TRUSTED_PROXIES)."""
        self._networks: Sequence[Network] = [ipaddress.ip_network(each, strict=False) for each in networks]
        self._trusts = lru_cache(maxsize=4096)(self._looked_up)

    def trusts(self, text: str) -> bool:
        """Whether the address is one of a proxy."""
        return bool(self._networks) and self._trusts(text)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Whom a request is from: the last that is no trusted proxy, in the order in which it came.

        Args:
            peer: The address of the connection.
            forwarded: The values of `X-Forwarded-For`, in their order. Each proxy adds, at the end, whom it has it
                from; what stands before that of an untrusted one may be made up.
        """
        if not self.trusts(peer):
            return peer
        found = peer
        for text in reversed([each.strip() for value in forwarded for each in value.split(",")]):
            if not is_address(text):
                return found
            found = text
            if not self.trusts(text):
                return found
        return found

    def _looked_up(self, text: str) -> bool:
        address = _read(text)
        if address is None:
            return False
        inner = _embedded(address)
        return any(each in network for network in self._networks for each in (address, inner))


def _read(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):  # the compatible form of RFC 4291
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
