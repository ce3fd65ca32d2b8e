"""Who asks: right keys, wrong keys, networks and rates."""

from datetime import timedelta
from ipaddress import ip_network

import pytest

from daemon.domain.provider import Rate
from daemon.serving.doorkeeper import WRONG_ALLOWED, Doorkeeper
from daemon.serving.problems import Problem
from tests.serving.fakes import NOON, Keys, World

RATE = Rate(count=3, per=timedelta(minutes=1))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def door(world: World) -> Doorkeeper:
    return Doorkeeper(Keys(world), world.clock, rate=RATE)


async def refused(door: Doorkeeper, text: str, address: str = "10.0.0.1") -> Problem:
    with pytest.raises(Problem) as caught:
        await door.admit(text, address)
    return caught.value


async def test_a_right_key_is_admitted(world: World, door: Doorkeeper):
    text, key = world.key()
    caller = await door.admit(text, "10.0.0.1", 1000)
    assert (caller.key, caller.address, caller.peer, caller.away) == (key, "10.0.0.1", 1000, False)


@pytest.mark.parametrize("spoil", ["no key", "", "rfk_", "id", "secret", "sum"])
async def test_every_wrong_key_gets_the_same_answer(world: World, door: Doorkeeper, spoil: str):
    text, _ = world.key()
    other, _ = World().key()
    changed = {
        "id": other,
        "secret": f"{text[:30]}{'A' if text[30] != 'A' else 'B'}{text[31:]}",
        "sum": text[:-1] + ("0" if text[-1] != "0" else "1"),
    }.get(spoil, spoil)
    problem = await refused(door, changed)
    assert (problem.name, problem.detail) == (
        "unauthorized",
        "Send a valid access key: Authorization: Bearer rfk_...",
    )


@pytest.mark.parametrize("fields", [{"revoked_at": NOON}, {"disabled_at": NOON}, {"expires_at": NOON}])
async def test_a_key_that_is_over_is_refused(world: World, door: Doorkeeper, fields: dict[str, object]):
    text, _ = world.key(**fields)
    assert (await refused(door, text)).name == "unauthorized"


async def test_a_key_may_be_used_from_its_networks_only(world: World, door: Doorkeeper):
    text, _ = world.key(networks=(ip_network("10.0.0.0/8"),))
    await door.admit(text, "10.255.0.1")
    await door.admit(text, "::ffff:10.0.0.1")
    for elsewhere in ("11.0.0.1", "::1", "unix", ""):
        assert (await refused(door, text, elsewhere)).name == "unauthorized"


async def test_a_key_is_used_within_its_rate(world: World, door: Doorkeeper):
    usual, _ = world.key()
    own, _ = world.key(rate=Rate(count=1, per=timedelta(seconds=10)))
    for _ in range(3):
        await door.admit(usual, "10.0.0.1")
    problem = await refused(door, usual)
    assert (problem.name, problem.retry_after) == ("rate-limited", timedelta(seconds=20))
    await door.admit(own, "10.0.0.1")
    assert (await refused(door, own)).retry_after == timedelta(seconds=10)
    world.clock.passed += timedelta(seconds=20)
    await door.admit(usual, "10.0.0.1")
    assert (await refused(door, usual)).name == "rate-limited"


async def test_wrong_keys_from_one_address_wait_and_delay_nobody_else(world: World, door: Doorkeeper):
    text, _ = world.key()
    wrong, _ = World().key()
    for _ in range(WRONG_ALLOWED):
        assert (await refused(door, wrong)).name == "unauthorized"
    problem = await refused(door, wrong)
    assert (problem.name, problem.retry_after) == ("rate-limited", timedelta(minutes=1))
    assert (await refused(door, wrong, "10.0.0.2")).name == "unauthorized"
    await door.admit(text, "10.0.0.1")
    world.clock.passed += timedelta(minutes=1)
    assert (await refused(door, wrong)).name == "unauthorized"


async def test_an_unknown_id_costs_a_look_like_a_known_one(world: World, door: Doorkeeper):
    text, _ = world.key()
    unknown, _ = World().key()
    await door.admit(text, "10.0.0.1")
    assert world.looked == 1
    await refused(door, unknown)
    assert world.looked == 2
