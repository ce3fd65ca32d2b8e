"""The courier: at least once, in bounds, and patient with a receiver that fails."""

import asyncio
from datetime import timedelta

import pytest

from daemon.domain.event import HookBack, HookCounted, HookDisabled
from daemon.domain.hook import Attempt, Health, Outcome
from daemon.domain.owner_event import OwnerEventType
from daemon.notifying.courier import DISABLED_POLL, IN_FLIGHT, POLL
from tests.notifying.fakes import DELIVERED, World

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DOWN = Attempt(outcome=Outcome.UNREACHABLE)
GONE = Attempt(outcome=Outcome.GONE, status=410)


@pytest.fixture
def world() -> World:
    return World()


def counted(world: World) -> list[tuple[str, int]]:
    return [(one.outcome.value, one.count) for one in world.events if isinstance(one, HookCounted)]


async def test_an_event_is_settled_after_the_answer(world: World):
    """Whoever dies in between sends it once more; the other way round it would be lost."""
    world.put("e1")
    assert await world.courier.work() == POLL
    assert world.diary == ["send e1", "done e1"]
    assert counted(world) == [("delivered", 1)]


async def test_nothing_that_waits_costs_one_query(world: World):
    assert await world.courier.work() == POLL
    assert world.diary == []


async def test_all_that_waits_is_delivered_a_bounded_number_at_a_time(world: World):
    world.put(*(f"e{n}" for n in range(100)))
    await world.courier.work()
    assert len([line for line in world.diary if line.startswith("done")]) == 100
    assert world.most_at_once == IN_FLIGHT


async def test_an_event_that_hangs_holds_up_no_other(world: World):
    """Its request takes one of the places until it is given up."""
    world.gate = asyncio.Event()
    world.put("slow")
    work = asyncio.create_task(world.courier.work())
    while "send slow" not in world.diary:
        await asyncio.sleep(0)
    slow, world.gate = world.gate, None
    world.put("e1")
    async with asyncio.timeout(20):
        while "done e1" not in world.diary:
            await asyncio.sleep(0.01)
    assert "done slow" not in world.diary
    slow.set()
    await work
    assert world.due == {}


async def test_an_event_that_is_refused_holds_up_no_other(world: World):
    world.answer = lambda name: Attempt(outcome=Outcome.REFUSED, status=400) if name == "bad" else DELIVERED
    world.put("bad", "e1", "e2")
    await world.courier.work()
    assert set(world.due) == {"bad"}
    assert "refused bad 5" in world.diary


async def test_a_receiver_that_is_down_is_tried_by_one_request_after_another(world: World):
    """A hundred events that wait are no reason for a hundred requests."""
    world.answer = lambda _name: DOWN
    world.put(*(f"e{n}" for n in range(100)))
    pauses = []
    for _ in range(12):
        pauses.append(await world.courier.work())
        world.clock.passed += 5 * SECOND
    sent = len([line for line in world.diary if line.startswith("send")])
    assert sent <= 3 * IN_FLIGHT + 3
    assert world.known.failures >= 3
    assert all(pause <= POLL for pause in pauses)
    world.diary.clear()
    world.clock.passed += HOUR
    await world.courier.work()
    assert len([line for line in world.diary if line.startswith("send")]) == 1


async def test_a_receiver_that_is_back_gets_everything(world: World):
    world.answer = lambda _name: DOWN
    world.put(*(f"e{n}" for n in range(30)))
    for _ in range(5):
        await world.courier.work()
        world.clock.passed += HOUR
    world.answer = lambda _name: DELIVERED
    await world.courier.work()
    assert world.due == {}
    assert world.known == Health()
    assert [one.hook for one in world.events if isinstance(one, HookBack)] == ["crm"]


async def test_a_wait_that_the_receiver_asks_for_is_kept(world: World):
    slow = Attempt(outcome=Outcome.THROTTLED, status=429, retry_after=7 * MINUTE)
    world.answer = lambda _name: slow
    world.put("e1")
    await world.courier.work()
    assert "throttled e1 420" in world.diary
    world.put("e2")
    world.clock.passed += 6 * MINUTE
    await world.courier.work()
    assert "send e2" not in world.diary
    world.answer = lambda _name: DELIVERED
    world.clock.passed += MINUTE
    await world.courier.work()
    assert world.due == {}


async def test_a_receiver_that_is_gone_gets_nothing_more_and_the_others_hear_of_it(world: World):
    world.answer = lambda _name: GONE
    world.put("e1")
    for _ in range(90):
        await world.courier.work()
        world.clock.passed += 2 * MINUTE
    [disabled] = world.told
    assert (disabled.type, disabled.code) == (OwnerEventType.HOOK_DISABLED, "crm")
    assert [one.hook for one in world.events if isinstance(one, HookDisabled)] == ["crm"]
    sent = len(world.diary)
    world.clock.passed += 20 * HOUR
    assert await world.courier.work() == DISABLED_POLL
    assert len(world.diary) == sent
    assert set(world.due) == {"e1"}


async def test_another_configuration_enables_it_again(world: World):
    world.put("e1")
    world.known = Health(failures=9, gone=9, disabled_at=world.clock.now(), configuration="c1")
    await world.courier.work()
    assert world.diary == []
    await world.with_configuration("c2").work()
    assert world.diary == ["send e1", "done e1"]
    assert world.known == Health()


async def test_what_is_malformed_is_counted_and_not_sent(world: World):
    world.malformed = 3
    world.put("e1")
    await world.courier.work()
    assert ("malformed", 3) in counted(world)
    assert world.diary == ["send e1", "done e1"]


async def test_a_courier_that_is_stopped_leaves_its_events_claimed(world: World):
    """They are due again when their lease ends."""
    world.gate = asyncio.Event()
    world.put("e1")
    work = asyncio.create_task(world.courier.work())
    while not world.diary:
        await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert world.at_once == 0
    assert world.due == {"e1": world.clock.now() + MINUTE}
