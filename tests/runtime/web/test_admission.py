"""Which connection makes room for a new one: by how present its network and its address are, then by age."""

import pytest

from daemon.runtime.web.admission import most_present, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.3.4", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.9", "loopback"),
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_addresses_of_one_hand_are_one_network(address: str, network: str) -> None:
    """A local user has all of loopback, a machine its IPv6 /64; IPv4 within IPv6 is IPv4."""
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("addresses", "leaves"),
    [
        (["192.0.2.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"], 1),
        (["127.0.0.1", "127.0.0.2", "127.0.0.2"], 1),
        (["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8:0:1::1"], 0),
        (["127.0.0.1", "127.0.0.1", "127.0.0.1"], 0),
        (["192.0.2.1", "192.0.2.2"], 0),
        (["192.0.2.1", "192.0.2.1", *(f"127.0.0.{n}" for n in range(1, 4))], 2),
    ],
)
def test_the_most_present_makes_room(addresses: list[str], leaves: int) -> None:
    """The network decides, then the address, then who came first."""
    assert most_present(addresses) == leaves


def test_a_probe_outlives_a_crowd_from_other_addresses() -> None:
    """Among sixteen addresses of four connections each, a lone one never leaves, however old it is."""
    here = ["127.0.0.1", *(f"127.0.1.{n % 16}" for n in range(64))]
    for n in range(1000):
        del here[most_present(here)]
        here.append(f"127.0.1.{n % 16}")
    assert "127.0.0.1" in here
