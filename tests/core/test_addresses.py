"""Which addresses are never called, and whom a request is from."""

import pytest

from watchdog.core.addresses import Proxies, is_barred, is_loopback, site


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.2",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_metadata_is_never_called_however_it_is_written(address):
    assert is_barred(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "192.0.2.1", "100.100.100.201", "::1", "fd00::1", "2001:db8::1", "a name"]
)
def test_other_addresses_are(address):
    assert not is_barred(address)


def test_loopback_is_known_in_each_form():
    assert [is_loopback(each) for each in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")] == [True] * 4
    assert [is_loopback(each) for each in ("10.0.0.1", "::2", "localhost", "")] == [False] * 4


def test_a_site_is_one_client():
    assert site("192.0.2.7") == site("::ffff:192.0.2.7") == "192.0.2.7"
    assert site("2001:db8:1:2::3") == site("2001:db8:1:2:ffff::1") != site("2001:db8:1:3::3")
    assert site("unix") == "unix"


TRUSTED = ("10.0.0.0/8", "fd00::/8", "192.0.2.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # whoever is no trusted proxy says nothing about others
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        # what the client had written itself stands further left
        ("10.0.0.1", ["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["127.0.0.1", "198.51.100.1"], "198.51.100.1"),
        # a chain of proxies
        ("10.0.0.1", ["198.51.100.1, 10.0.0.3, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        # nonsense ends the chain
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2"], "10.0.0.2"),
    ],
)
def test_only_trusted_proxies_say_whom_a_request_is_from(peer, forwarded, client):
    assert Proxies(TRUSTED).client(peer, forwarded) == client


def test_without_trusted_proxies_it_is_from_whom_it_comes():
    assert Proxies().client("10.0.0.1", ["198.51.100.1"]) == "10.0.0.1"
