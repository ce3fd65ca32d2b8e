"""Who asks: right keys, wrong keys, networks and rates."""

from datetime import timedelta
from ipaddress import ip_network

import pytest

from daemon.domain.provider import Rate
from daemon.serving import doorkeeper
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


async def refused(door: Doorkeeper, text: str, address: str = "10.0.0.1", peer: int | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        await door.admit(text, address, peer)
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


async def test_only_the_right_secret_of_a_key_that_is_over_is_reported_as_its(world: World):
    """A revoked key that somebody still uses must be found; a guess says nothing about the key it names."""
    seen: list[tuple[str, str]] = []
    door = Doorkeeper(
        Keys(world), world.clock, rate=RATE, refused=lambda one: seen.append((one.key.id, one.address))
    )
    revoked, key = world.key(revoked_at=NOON)
    usual, _ = world.key()
    assert (await refused(door, revoked)).name == "unauthorized"
    assert (await refused(door, f"{revoked[:30]}{'A' if revoked[30] != 'A' else 'B'}{revoked[31:]}")).name
    await door.admit(usual, "10.0.0.1")
    near, elsewhere = world.key(networks=(ip_network("10.0.0.0/8"),))
    assert (await refused(door, near, "11.0.0.1")).name == "unauthorized"
    assert seen == [(key.id, "10.0.0.1"), (elsewhere.id, "11.0.0.1")]


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


# ---------------------------------------------------------------- rates of callers

KEYS = Rate(count=10, per=timedelta(minutes=1))
CALLERS = Rate(count=2, per=timedelta(minutes=1))


@pytest.fixture
def shared(world: World) -> Doorkeeper:
    """A service that limits each caller of a key, too."""
    return Doorkeeper(Keys(world), world.clock, rate=KEYS, rate_per_caller=CALLERS)


async def test_a_caller_over_its_rate_leaves_the_rate_of_the_key_to_the_others(
    world: World, shared: Doorkeeper
):
    """However often it asks: each refused request would have used up the key."""
    text, _ = world.key()
    for _ in range(2):
        await shared.admit(text, "10.0.0.1")
    for _ in range(50):
        problem = await refused(shared, text, "10.0.0.1")
    assert (problem.name, problem.detail, problem.retry_after) == (
        "rate-limited",
        "This access key is used too often from this address.",
        timedelta(seconds=30),
    )
    for number in range(2, 10):
        await shared.admit(text, f"10.0.0.{number}")
    world.clock.passed += timedelta(seconds=30)
    await shared.admit(text, "10.0.0.1")


async def test_the_rate_of_a_key_holds_for_all_its_callers_together(world: World, shared: Doorkeeper):
    """And a request that it refuses is not counted for its caller."""
    text, _ = world.key()
    for number in range(10):
        await shared.admit(text, f"10.0.0.{number}")
    for _ in range(5):
        problem = await refused(shared, text, "10.0.1.1")
    assert (problem.detail, problem.retry_after) == (
        "This access key is used too often.",
        timedelta(seconds=6),
    )
    world.clock.passed += timedelta(seconds=12)
    for _ in range(2):
        await shared.admit(text, "10.0.1.1")


async def test_the_longer_of_two_waits_is_announced(world: World, shared: Doorkeeper):
    text, _ = world.key(rate=Rate(count=2, per=timedelta(seconds=10)))
    for _ in range(2):
        await shared.admit(text, "10.0.0.1")
    assert (await refused(shared, text)).retry_after == timedelta(seconds=30)
    assert (await refused(shared, text, "10.0.0.2")).retry_after == timedelta(seconds=5)


async def test_each_key_of_a_caller_has_a_rate_of_its_own(world: World, shared: Doorkeeper):
    one, other = world.key()[0], world.key()[0]
    for text in (one, other):
        for _ in range(2):
            await shared.admit(text, "10.0.0.1")
    assert (await refused(shared, one)).name == "rate-limited"


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        (("10.0.0.1", None), ("::ffff:10.0.0.1", None), True),
        (("2001:db8::1", None), ("2001:db8::ffff:1", None), True),
        (("fe80::1%eth0", None), ("fe80::2%eth1", None), True),
        (("2001:db8::1", None), ("2001:db8:0:1::1", None), False),
        (("10.0.0.1", None), ("10.0.0.2", None), False),
        (("unix", 1000), ("unix", 1000), True),
        (("unix", 1000), ("unix", 1001), False),
        (("unix", None), ("unix", 0), False),
        (("", None), ("unix", None), False),
    ],
)
async def test_a_caller_is_a_host_or_a_user_at_the_socket(
    world: World, shared: Doorkeeper, first: tuple[str, int], second: tuple[str, int], one: bool
):
    text, _ = world.key()
    for _ in range(2):
        await shared.admit(text, *first)
    if one:
        assert (await refused(shared, text, second[0], second[1])).name == "rate-limited"
    else:
        await shared.admit(text, *second)


async def test_wrong_keys_use_up_no_rate_of_a_caller(world: World, shared: Doorkeeper):
    """Nor does a valid key from a network that it is not for."""
    text, _ = world.key()
    wrong, _ = World().key()
    elsewhere, _ = world.key(networks=(ip_network("11.0.0.0/8"),))
    for _ in range(WRONG_ALLOWED):
        await refused(shared, wrong)
        assert (await refused(shared, elsewhere)).name == "unauthorized"
    assert (await refused(shared, wrong)).name == "rate-limited"
    for _ in range(2):
        await shared.admit(text, "10.0.0.1")


async def test_only_the_latest_callers_are_remembered(
    world: World, shared: Doorkeeper, monkeypatch: pytest.MonkeyPatch
):
    """A forgotten one is within its rate again: never is a caller refused for what others did."""
    monkeypatch.setattr(doorkeeper, "MOST_REMEMBERED", 2)
    text, _ = world.key(rate=Rate(count=100, per=timedelta(minutes=1)))
    for _ in range(2):
        await shared.admit(text, "10.0.0.1")
    await shared.admit(text, "10.0.0.2")
    assert (await refused(shared, text, "10.0.0.1")).name == "rate-limited"  # now the latest but for none
    await shared.admit(text, "10.0.0.3")
    assert len(shared._callers) == 2
    assert (await refused(shared, text, "10.0.0.1")).name == "rate-limited"
    for number in (4, 5):
        await shared.admit(text, f"10.0.0.{number}")
    await shared.admit(text, "10.0.0.1")


async def test_without_a_rate_per_caller_none_is_remembered(world: World, door: Doorkeeper):
    text, _ = world.key()
    await door.admit(text, "10.0.0.1")
    assert not door._callers
