"""Codes in the lane: within the provider's limits, apart from the renewals, and never when nothing may be sent."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from daemon.domain.circuit_breaker import Circuit
from daemon.domain.claim import Claim, Unusable
from daemon.domain.journal_entry import Entry, EntryState, ReplayResult, consent_claim
from daemon.domain.token import State, Token
from daemon.refreshing.presenter import TOGETHER
from tests.refreshing.fakes import SetRate, World, granted
from tests.support.waiting import until


class Work:
    """Something to present, which takes as long as the test says."""

    def __init__(self) -> None:
        self.begun = 0
        self.over = asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        await self.over.wait()


@pytest.fixture
def work() -> Work:
    return Work()


async def test_it_runs_beside_the_renewals_and_uses_the_rate(world: World, work: Work) -> None:
    """A full bulkhead is no obstacle: an owner is waiting."""
    world.rate_limiter = SetRate(10)
    lane = world.lane(world.providers[0])
    for number in range(4):
        world.store.put(str(number))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    renewing = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 4)
    presenting = asyncio.create_task(lane.present(work))
    await until(lambda: work.begun == 1)
    assert world.rate_limiter.allowed == 10 - 4 - 1
    work.over.set()
    assert await presenting
    gate.set()
    await renewing
    await until(lambda: not lane.in_flight)


async def test_only_a_few_run_at_a_time(world: World, work: Work) -> None:
    """The others wait in the lane."""
    lane = world.lane(world.providers[0])
    presenting = [asyncio.create_task(lane.present(work)) for _ in range(TOGETHER + 2)]
    await until(lambda: work.begun == TOGETHER)
    await asyncio.sleep(0)
    assert work.begun == TOGETHER
    work.over.set()
    assert await asyncio.gather(*presenting) == [True] * (TOGETHER + 2)


def _paused(world: World) -> None:
    world.sweeper.lanes["acme"].health.breaker.state = Circuit.OPEN


def _stopped(world: World) -> None:
    world.sweeper.lanes["acme"].stop()


def _full(world: World) -> None:
    world.journal._works = False


def _crowded(world: World) -> None:
    world.journal.crowded.add("acme")


def _without_client(world: World) -> None:
    lane = world.sweeper.lanes["acme"]
    lane.use(replace(lane.provider, lacking="its secret has not come"))


@pytest.mark.parametrize("change", [_paused, _stopped, _full, _crowded, _without_client])
async def test_nothing_begins_when_nothing_may_be_sent(
    world: World, work: Work, change: Callable[[World], None]
) -> None:
    """The code stays in the store, for another moment or instance."""
    change(world)
    assert not await world.sweeper.lanes["acme"].present(work)
    assert work.begun == 0


async def test_a_drain_waits_for_what_is_being_presented(world: World, work: Work) -> None:
    """Its reply has to be kept and bound."""
    lane = world.sweeper.lanes["acme"]
    presenting = asyncio.create_task(lane.present(work))
    await until(lambda: work.begun == 1)
    draining = asyncio.create_task(lane.drain())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not draining.done()
    work.over.set()
    await draining
    assert await presenting


async def test_an_error_reaches_the_caller_and_the_lane_goes_on(world: World, work: Work) -> None:
    """As a lost store does."""
    lane = world.lane(world.providers[0])

    async def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await lane.present(fail)
    work.over.set()
    assert await lane.present(work)


async def kept(world: World) -> Entry:
    """A reply to a code that waits in the journal."""
    token = Token(id="acme:7", provider="acme", account="7", state=State.ACTIVE, refresh_token=None)
    claim = Claim(
        token=token, id=consent_claim("c1"), spent=None, spent_field="code", deadline=world.clock.boot()
    )
    return await world.journal.keep(claim, granted("refresh-1"))


async def test_the_sweep_replays_a_codes_reply_by_another_path(world: World) -> None:
    """It is no refresh: the stored token is not touched by it."""
    entry = await kept(world)
    replayed: list[Entry] = []

    async def conclude(one: Entry) -> ReplayResult | None:
        replayed.append(one)
        return ReplayResult.RECORDED

    world.sweeper.conclude_consents(conclude)
    await world.sweeper.sweep()
    assert replayed == [entry]


async def test_a_reply_that_is_being_processed_is_left_alone(world: World) -> None:
    """Its exchange is still running: it is neither parked nor reported."""
    entry = await kept(world)

    async def conclude(_entry: Entry) -> ReplayResult | None:
        return None

    world.sweeper.conclude_consents(conclude)
    await world.sweeper.sweep()
    assert world.journal.entries() == [entry]
    assert entry.key not in world.journal.parked


@pytest.mark.parametrize("bug", [None, Unusable("malformed"), ValueError("a bug")])
async def test_a_reply_that_can_not_be_concluded_stays(world: World, bug: Exception | None) -> None:
    """None: nothing exchanges codes here."""
    entry = await kept(world)

    async def conclude(_entry: Entry) -> ReplayResult | None:
        assert bug is not None
        raise bug

    if bug is not None:
        world.sweeper.conclude_consents(conclude)
    await world.sweeper.sweep()
    assert world.journal.parked == {entry.key: EntryState.UNUSABLE}
    assert world.journal.tokens == {"acme:7"}
