"""Which addresses a host name from a database may lead to."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.egress.public_addresses import is_private_literal, is_public

CARRYING = [ip_network(one) for one in ("::ffff:0:0/96", "64:ff9b::/96", "2001::/32", "2002::/16")]


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "192.169.0.0",
        "168.63.129.17",
        "223.255.255.255",
        "2600::1",
        "2606:4700:4700::1111",
        "2a00:1450:4001:81b::200a",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808:0:0:f7f7:f7f7",  # Teredo: a server at 8.8.8.8, a client at the inverse of the end
    ],
)
def test_the_internet_is_public(address):
    """Also right beside a special range, and wrapped in an IPv6 address."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.0",
        "100.100.100.200",  # a cloud's metadata
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",  # a cloud's host
        "169.254.169.254",  # most clouds' metadata
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.192",  # a cloud's metadata
        "192.31.196.1",  # AS112
        "192.52.193.1",  # AMT
        "192.175.48.6",  # AS112
        "2620:4f:8000::1",  # AS112
        "::ffff:192.175.48.6",
        "64:ff9b::192.52.193.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",  # the old "compatible" form
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",  # a network's own NAT64: wherever it likes
        "64:ff9b:1:7f00:0:100::",
        "100::1",
        "2001::1",
        "2001:0:808:808:0:0:f5ff:fffe",  # Teredo: a public server, and a client at 10.0.0.1
        "2001:0:a00:1:0:0:f7f7:f7f7",  # ... and the other way round
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2002:a9fe:a9fe::",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",  # a cloud's metadata
        "fe80::1",
        "fe80::1%eth0",
        "2600::1%eth0",
        "fec0::1",
        "ff02::1",
        "",
        "localhost",
        "127.1",
        "2130706433",
        "08.8.8.8",
        "8.8.8.8/32",
        "8.8.8.8 ",
        "[2600::1]",
    ],
)
def test_the_rest_is_not(address):
    """Private, loopback, link-local, shared, multicast, reserved, for documents, in any wrapping; or no address."""
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_a_wrapping_changes_nothing(address: IPv4Address):
    """What an IPv6 address carries decides."""
    number = int(address)
    wrapped = (
        0xFFFF << 32 | number,
        0x64FF9B << 96 | number,
        0x2002 << 112 | number << 80 | 1,
        0x20010000 << 96 | number << 64 | (number ^ 0xFFFFFFFF),
    )
    assert {is_public(str(IPv6Address(one))) for one in wrapped} == {is_public(str(address))}


@given(st.ip_addresses())
def test_nothing_that_the_standard_library_calls_special_is_public(address: IPv4Address | IPv6Address):
    """We refuse more than it does, never less; it knows nothing of what an address carries."""
    if is_public(str(address)) and (address.version == 4 or not any(address in one for one in CARRYING)):
        assert address.is_global
        special = (address.is_private, address.is_loopback, address.is_link_local, address.is_multicast)
        assert not any((*special, address.is_reserved, address.is_unspecified))


@given(st.text())
def test_any_text_is_judged(text: str):
    """Never an exception; and what is no address isn't public."""
    try:
        ip_address(text)
    except ValueError:
        assert not is_public(text)
    assert is_private_literal(text) in (True, False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1.", "127.1", "0x7f.1", "2130706433", "010.0.0.1", "::1", "fe80::1%eth0"]
)
def test_a_host_that_is_a_private_address_is_known_in_any_spelling(host):
    """Some resolver takes each of these for an address."""
    assert is_private_literal(host)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "2600::1", "sso.example.com", "10.example.com", "", "\udcff", "é.example"]
)
def test_a_name_or_a_public_address_is_no_private_one(host):
    """Names are looked up by whoever connects."""
    assert not is_private_literal(host)
