"""Wishes for early renewals: first in the queue, and nothing more."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.circuit_breaker import Pause, Reason
from daemon.domain.claim import StoreLost
from daemon.domain.event import InternalError, TokenRenewed, TokenScheduled
from daemon.domain.provider import Definition
from daemon.refreshing.wishes import MOST
from tests.refreshing.fakes import NOON, SetRate, World, answered, granted, provider
from tests.support.waiting import until

SECOND = timedelta(seconds=1)


@pytest.fixture
def lane(world):
    """Of acme, in the sweeper, after a first sweep."""
    lane = world.lane(world.providers[0])
    world.sweeper.lanes["acme"] = lane
    return lane


async def swept(world):
    await world.sweeper.sweep()
    world.diary.clear()


async def rest(lane):
    """Wait until nothing is being done about any wish."""
    async with asyncio.timeout(5):
        await lane._wishes.ended()
    await until(lambda: not lane.in_flight)


def renewed(world) -> list[str]:
    return [event.token for event in world.observed(TokenRenewed)]


async def test_a_wish_is_served_without_a_sweep(world, lane):
    """By the same steps as any other token, after a look at the provider's pause."""
    await swept(world)
    name = world.store.put("1", due_at=world.clock.now())
    world.sweeper.wish([name])
    await rest(lane)
    assert world.diary == [
        "pause of acme",
        "claim wished acme:1",
        "send",
        "keep acme:1",
        "record acme:1",
        "forget acme:1",
    ]
    assert renewed(world) == ["acme:1"]


async def test_before_the_first_sweep_it_is_left_to_it(world, lane):
    """Only a sweep has found which providers are paused, and has replayed the journal. Other providers' are no one's."""
    world.sweeper.wish([world.store.put("1")])
    assert world.diary == []
    await world.sweeper.sweep()
    assert renewed(world) == ["acme:1"]
    world.sweeper.wish(["other:1", "", ":", "acme"])
    await rest(lane)


async def test_it_does_not_wait_behind_a_backlog(world, lane):
    """Forty are due, and all of the share is in flight: the first place that is free is its own."""
    await swept(world)
    for n in range(40):
        world.store.put(str(n))
    gates = iter_gates(world)
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.endpoint.in_flight == 4)
    world.sweeper.wish([world.store.put("wished", due_at=world.clock.now())])
    await until(lambda: bool(lane._bulkhead.wished))
    next(gates).set()
    await until(lambda: "acme:wished" in lane.in_flight)
    assert world.endpoint.most_in_flight == 4
    for gate in gates:
        gate.set()
    await sweep
    await rest(lane)
    assert len(renewed(world)) == 41


def iter_gates(world):
    """Each request from now on waits for a gate of its own; later ones than the fourth for none."""
    gates = [asyncio.Event() for _ in range(4)]
    waiting = list(gates)
    send = world.endpoint.send

    async def gated(request, *, deadline):
        world.endpoint.in_flight += 1
        world.endpoint.most_in_flight = max(world.endpoint.most_in_flight, world.endpoint.in_flight)
        if waiting:
            await waiting.pop(0).wait()
        world.endpoint.in_flight -= 1
        return await send(request, deadline=deadline)

    world.endpoint.send = gated
    return iter(gates)


@pytest.mark.parametrize("share", [1, 4, 16])
async def test_a_storm_of_wishes_delays_the_others_by_a_third(world_of: Callable[..., World], share):
    """A thousand wishes beside 64 tokens that are due: of what is asked until all of those are renewed, wishes are a
    quarter. So the due ones are as late as with three quarters of the share, and no later."""
    world = world_of(provider(share=share))
    lane = world.sweeper.lanes["acme"] = world.lane(world.providers[0])
    await swept(world)
    due = {world.store.put(f"due-{n}") for n in range(64)}
    wishes = [world.store.put(f"wish-{n}", due_at=world.clock.now()) for n in range(1000)]
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    order: list[str] = []
    starts = lane._bulkhead._start

    def started(claim):
        order.append(claim.token.id)
        starts(claim)

    lane._bulkhead._start = started
    world.sweeper.wish(wishes)
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.endpoint.in_flight == share)
    gate.set()
    await until(lambda: due <= set(order))
    asked = order[: 1 + max(map(order.index, due))]
    assert len(asked) <= 64 * 4 / 3 + max(share // 4, 1) + share
    await sweep
    await rest(lane)
    assert len(renewed(world)) == 1064
    assert world.endpoint.most_in_flight == share


async def test_wishes_alone_take_a_quarter_at_a_time(world_of):
    """So that a token which comes due finds three quarters free."""
    world = world_of(provider(share=16))
    lane = world.sweeper.lanes["acme"] = world.lane(world.providers[0])
    await swept(world)
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    world.sweeper.wish([world.store.put(str(n), due_at=world.clock.now()) for n in range(100)])
    await until(lambda: world.endpoint.in_flight == 4)
    for _ in range(100):
        await asyncio.sleep(0)
    assert world.endpoint.in_flight == len(lane.in_flight) == 4
    gate.set()
    await rest(lane)
    assert len(renewed(world)) == 100
    assert world.endpoint.most_in_flight == 4


async def test_the_same_wish_many_times_is_one(world, lane):
    """However many ask while it waits or is in flight; and of many different ones so many wait."""
    await swept(world)
    name = world.store.put("1", due_at=world.clock.now())
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    for _ in range(100):
        world.sweeper.wish([name] * 10)
    await until(lambda: world.endpoint.in_flight == 1)
    world.sweeper.wish([name])
    world.sweeper.wish([f"acme:{n}" for n in range(2 * MOST)])
    assert len(lane._wishes._tokens) <= MOST
    gate.set()
    await rest(lane)
    assert len(world.endpoint.asked) == 1


async def test_only_a_due_and_idle_token_is_claimed(world, lane):
    """None that is due later, has a reply in the journal, has met a bug, or isn't there."""
    await swept(world)
    world.store.put("later", due_at=world.clock.now() + SECOND)
    claim = (await world.store.claim(world.providers[0], limit=1, busy=[], doubtful=False)).items
    assert claim == []
    world.store.put("kept")
    await world.journal.keep(await world.claim("acme:kept"), granted("refresh-1"))
    lane._contained._quarantine.put(world.store.put("bug"), "TypeError", now=world.clock.boot())
    world.sweeper.wish(["acme:later", "acme:kept", "acme:bug", "acme:nowhere"])
    await rest(lane)
    assert world.endpoint.asked == []


async def test_the_definitions_bounds_hold(world_of):
    """A provider that takes a request a minute for one token is not asked sooner; the wish becomes a date."""
    definition = Definition(
        name="acme", title="acme", token_url="https://acme.example/token", min_interval=timedelta(minutes=1)
    )
    world = world_of(provider(definition=definition))
    lane = world.sweeper.lanes["acme"] = world.lane(world.providers[0])
    await swept(world)
    world.sweeper.wish([world.store.put("1", refreshed_at=NOON - timedelta(seconds=30))])
    await rest(lane)
    assert world.endpoint.asked == []
    assert world.observed(TokenScheduled)
    assert world.store.documents["acme:1"].token.due_at == NOON + timedelta(seconds=30)


async def test_a_provider_is_not_asked_before_the_time_that_it_named(world, lane):
    """A wish after its Retry-After of a minute waits for the rest of that minute."""
    await swept(world)
    throttled = replace(answered({"error": "slow_down"}, status=429), retry_after="60")
    world.endpoint.answer = lambda request: throttled
    name = world.store.put("1", due_at=world.clock.now())
    world.sweeper.wish([name])
    await rest(lane)
    assert len(world.endpoint.asked) == 1
    world.clock.passed += 20 * SECOND
    world.store.documents[name].token = replace(world.store.documents[name].token, due_at=world.clock.now())
    world.sweeper.wish([name])
    await rest(lane)
    assert len(world.endpoint.asked) == 1
    assert world.store.documents[name].token.due_at == NOON + 60 * SECOND
    world.clock.passed += 40 * SECOND
    world.sweeper.wish([name])
    await rest(lane)
    assert len(world.endpoint.asked) == 2


async def test_a_paused_provider_is_not_asked(world, lane):
    """Neither when the lane has it from the last sweep, nor when another replica or an operator has paused it since."""
    name = world.store.put("1", due_at=world.clock.now() + SECOND)
    await swept(world)
    world.clock.passed += SECOND
    world.store.paused["acme"] = Pause(reason=Reason.OPERATOR)
    world.sweeper.wish([name])
    await rest(lane)
    assert world.diary == ["pause of acme"]
    assert lane.health.breaker.is_open
    world.sweeper.wish([name])
    await rest(lane)
    assert world.diary == ["pause of acme"]


async def test_the_rate_limit_holds(world, lane):
    """Three may be asked; the others wait until more may be, and a sweep's pass has its turn beside them."""
    await swept(world)
    world.rate_limiter.allowed = 3
    for n in range(10):
        world.store.put(f"due-{n}")
    world.sweeper.wish([world.store.put(f"wish-{n}", due_at=world.clock.now()) for n in range(10)])
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: len(world.endpoint.asked) == 3 and not lane.in_flight)
    for expected in range(4, 21):
        allow(world.rate_limiter)
        await until(lambda expected=expected: len(world.endpoint.asked) == expected and not lane.in_flight)
    allow(world.rate_limiter)  # wishes whose tokens the pass has renewed are looked for once more
    await sweep
    await rest(lane)
    assert sorted(renewed(world)) == sorted(world.store.documents)
    assert 2 <= sum("wish" in name for name in renewed(world)[:12]) <= 4


def allow(limiter: SetRate) -> None:
    """One more request."""
    limiter.allowed += 1
    limiter.more.set()


async def test_a_wish_and_a_pass_never_claim_at_the_same_time(world, lane):
    """While one claim is under way, the other waits: else both could take the same token."""
    await swept(world)
    world.store.put("1")
    world.store.claim_may_go_on.clear()
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: "claim acme" in world.diary)
    world.sweeper.wish(["acme:1"])
    for _ in range(100):
        await asyncio.sleep(0)
    assert "claim wished acme:1" not in world.diary
    world.store.claim_may_go_on.set()
    await sweep
    await rest(lane)
    assert len(world.endpoint.asked) == 1


async def test_a_lane_that_stops_gives_wishes_back(world, lane):
    """What is claimed and not started is released; the drain waits for the rest."""
    await swept(world)
    for n in range(40):
        world.store.put(str(n))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.endpoint.in_flight == 4)
    world.sweeper.wish([world.store.put("wished", due_at=world.clock.now()), "acme:more"])
    await until(lambda: bool(lane._bulkhead.wished))
    drain = asyncio.create_task(world.sweeper.drain())
    await until(lambda: "release acme:wished" in world.diary)
    world.sweeper.wish(["acme:wished"])
    gate.set()
    await drain
    await sweep
    assert not lane._wishes._tokens
    assert world.store.documents["acme:wished"].owner is None
    assert "acme:wished" not in renewed(world)


async def test_after_a_lost_result_wishes_wait_for_the_replay(world, lane):
    """As all claims do; then they are served again, though nothing of this provider is due."""
    await swept(world)
    first = world.store.put("1", due_at=world.clock.now())
    world.store.broken[first] = StoreLost("gone")
    world.sweeper.wish([first])
    await rest(lane)
    second = world.store.put("2", due_at=world.clock.now())
    world.sweeper.wish([second])
    await rest(lane)
    assert len(world.endpoint.asked) == 1
    del world.store.broken[first]
    world.store.documents[second].token = replace(
        world.store.documents[second].token, due_at=world.clock.now() + SECOND
    )
    await swept(world)
    world.clock.passed += SECOND
    world.sweeper.wish([second])
    await rest(lane)
    assert len(world.endpoint.asked) == 2


@pytest.mark.parametrize("step", ["pause of", "claim wished"])
async def test_without_the_store_wishes_are_left_to_the_sweep(world, lane, step):
    """They are dropped; the next one is served again."""
    await swept(world)
    world.store.away.add(step)
    name = world.store.put("1", due_at=world.clock.now())
    world.sweeper.wish([name])
    await rest(lane)
    assert not lane._wishes._tokens
    world.store.away.clear()
    world.sweeper.wish([name])
    await rest(lane)
    assert renewed(world) == ["acme:1"]


async def test_a_bug_in_a_claim_is_reported_and_ends_nothing(world, lane):
    """The lane's passes go on, and so do later wishes."""
    await swept(world)
    name = world.store.put("1", due_at=world.clock.now())
    claim, world.store.claim_wished = world.store.claim_wished, None
    world.sweeper.wish([name])
    await rest(lane)
    [bug] = world.observed(InternalError)
    assert (bug.where, bug.provider) == ("wishes", "acme")
    world.store.claim_wished = claim
    world.sweeper.wish([name])
    await rest(lane)
    assert renewed(world) == ["acme:1"]


async def test_a_crowded_journal_takes_no_wish(world, lane):
    """Nor does one that can't be written."""
    await swept(world)
    name = world.store.put("1", due_at=world.clock.now())
    world.journal.crowded.add("acme")
    world.sweeper.wish([name])
    world.journal.crowded.clear()
    world.journal._works = False
    world.sweeper.wish([name])
    await rest(lane)
    assert world.endpoint.asked == []
