"""One provider's share: how much at once, how long, and what one bad token does to the others."""

import asyncio
from datetime import timedelta

import pytest

from daemon.domain.circuit_breaker import Reason
from daemon.domain.claim import SetAside, StoreLost
from daemon.domain.event import (
    InFlight,
    InternalError,
    ProviderThrottled,
    TokenPostponed,
    TokenRenewed,
    TokenUnreadable,
)
from daemon.domain.reply import Reply
from daemon.domain.token import FailureKind
from daemon.refreshing.prefetch import MOST_AHEAD
from tests.refreshing.fakes import answered, granted, provider
from tests.support.waiting import until


async def done(lane):
    await until(lambda: not lane.in_flight)


async def test_it_goes_on_while_more_is_due_and_never_beyond_its_share(world):
    """Twenty are due and four may be in flight: all are renewed in one pass, never more than four at a time."""
    for n in range(20):
        world.store.put(str(n))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane = world.lane(world.providers[0])
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 4)
    gate.set()
    assert await work == 20
    await done(lane)
    assert len(world.observed(TokenRenewed)) == 20
    assert world.endpoint.most_in_flight == 4
    assert max(world.store.limits) <= 4 * (1 + MOST_AHEAD)
    assert len({request.body for request in world.endpoint.asked}) == 1
    assert len(world.endpoint.asked) == 20


async def test_every_throttled_answer_is_told(world):
    """Beside what the token itself is told to do; an outage is none."""
    for n in range(2):
        world.store.put(str(n))
    replies = iter([answered({"error": "slow_down"}, status=429), answered({}, status=503)])
    world.endpoint.answer = lambda _request: next(replies)
    lane = world.lane(world.providers[0])
    await lane.work()
    await done(lane)
    assert world.observed(ProviderThrottled) == [ProviderThrottled(provider="acme")]


async def test_claims_come_in_batches(world):
    """It waits until half of its share is free before it claims again."""
    for n in range(9):
        world.store.put(str(n))
    lane = world.lane(world.providers[0])
    await lane.work()
    await done(lane)
    assert min(world.store.limits) >= 2


async def at_work(world, *, answers, takes):
    """A lane with forty tokens due, whose provider has answered `answers` times, after `takes` each, and now hangs."""
    for n in range(40):
        world.store.put(str(n))
    gate, answered_before = asyncio.Event(), world.endpoint.answer

    def answer(request):
        world.clock.passed += takes
        if len(world.endpoint.asked) >= answers:
            world.endpoint.hanging["acme"] = gate
        return answered_before(request)

    world.endpoint.answer = answer
    lane = world.lane(world.providers[0])
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 4 and world.endpoint.hanging)
    await turns()
    return lane, work, gate


async def turns(count=20):
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


def held(world):
    """The documents that are claimed and not renewed yet."""
    return [name for name, stored in world.store.documents.items() if stored.owner == "me"]


@pytest.mark.parametrize(
    ("takes", "ahead"), [(timedelta(milliseconds=20), range(6, 15)), (timedelta(seconds=1), range(3))]
)
async def test_a_lane_claims_ahead_what_it_will_finish_in_a_moment(world, takes, ahead):
    """At its present speed; so a slow one keeps nothing to itself that others could renew."""
    lane, work, gate = await at_work(world, answers=20, takes=takes)
    assert len(held(world)) - len(lane.in_flight) in ahead
    assert set(held(world)) <= lane._busy()  # no claim may take them again
    gate.set()
    assert await work == 40
    await done(lane)
    assert world.endpoint.most_in_flight == 4
    assert len(world.observed(TokenRenewed)) == len(world.endpoint.asked) == 40


async def test_what_was_claimed_ahead_is_given_back_by_a_lane_that_stops(world):
    """It was never presented: others may have it at once."""
    lane, work, gate = await at_work(world, answers=20, takes=timedelta(milliseconds=20))
    lane.stop()
    await work
    assert len(held(world)) == len(lane.in_flight) == 4
    assert any(entry.startswith("release") for entry in world.diary)
    gate.set()
    await done(lane)
    assert held(world) == []
    assert len(world.endpoint.asked) == 24


async def test_what_was_claimed_ahead_is_given_back_when_the_provider_rests(world):
    """Our client is refused: of what is claimed nothing more is asked, and the pass ends."""
    lane, work, gate = await at_work(world, answers=20, takes=timedelta(milliseconds=20))
    world.endpoint.answer = lambda request: answered({"error": "invalid_client"}, status=401)
    gate.set()
    await work
    await done(lane)
    assert world.store.paused["acme"].reason is Reason.WRONG_CLIENT
    assert held(world) == []
    assert len(world.endpoint.asked) <= 24 + 3  # some went before the refusal was heard


async def test_what_was_claimed_ahead_is_given_back_when_the_store_is_lost(world):
    """Nothing more is asked while results can't be stored."""
    lane, work, gate = await at_work(world, answers=20, takes=timedelta(milliseconds=20))
    for name in list(lane.in_flight):
        world.store.broken[name] = StoreLost("gone")
    gate.set()
    with pytest.raises(StoreLost):
        await work
    await done(lane)
    assert set(held(world)) >= world.journal.tokens  # their replies wait
    assert len(held(world)) <= 4
    assert len(world.endpoint.asked) == 24


async def test_nothing_due_is_one_claim(world):
    """No spinning: one look, none claimed."""
    assert await world.lane(world.providers[0]).work() == 0
    assert world.diary == ["claim acme"]


async def test_a_share_of_one_works(world_of):
    """One at a time, all of them."""
    world = world_of(provider(share=1))
    for n in range(3):
        world.store.put(str(n))
    lane = world.lane(world.providers[0])
    assert await lane.work() == 3
    await done(lane)
    assert world.endpoint.most_in_flight == 1


async def test_a_provider_that_hangs_fills_its_own_lane_and_no_other(world_of):
    """Two lanes side by side: the other one's tokens are all renewed meanwhile."""
    world = world_of(provider("hangs"), provider("works"))
    for n in range(10):
        world.store.put(str(n), of="hangs")
        world.store.put(str(n), of="works")
    world.endpoint.hanging["hangs"] = gate = asyncio.Event()
    hangs, works = (world.lane(one) for one in world.providers)
    stuck = asyncio.create_task(hangs.work())
    assert await works.work() == 10
    await done(works)
    assert {event.provider for event in world.observed(TokenRenewed)} == {"works"}
    assert len(hangs.in_flight) == 4
    assert not stuck.done()
    gate.set()
    assert await stuck == 10
    await done(hangs)


async def test_what_is_in_flight_or_in_the_journal_is_not_presented_again(world):
    """A second pass while the first one's request is under way, and a reply of an earlier life that waits."""
    world.store.put("flying")
    kept = world.store.put("kept")
    await world.journal.keep(await world.claim(kept), granted("refresh-1"))
    for stored in world.store.documents.values():
        stored.owner = stored.claim = None
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane = world.lane(world.providers[0])
    assert await lane.work() == 1
    await until(lambda: world.endpoint.in_flight == 1)
    assert await lane.work() == 0
    gate.set()
    await done(lane)
    assert len(world.endpoint.asked) == 1


async def test_while_stopping_it_claims_nothing_and_drain_waits_for_what_is_in_flight(world):
    """What is under way is recorded; what is due stays for others."""
    for n in range(6):
        world.store.put(str(n))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane = world.lane(world.providers[0])
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 4)
    drain = asyncio.create_task(lane.drain())
    assert await work == 4
    await asyncio.sleep(0)
    assert not drain.done()
    gate.set()
    await drain
    assert len(world.observed(TokenRenewed)) == 4
    assert len(world.endpoint.asked) == 4
    assert await lane.work() == 0
    assert lane.in_flight == {}


async def test_what_was_claimed_while_stopping_is_given_back(world):
    """The stop came between the claim and its return: nothing was presented, so others may have it at once."""
    for n in range(3):
        world.store.put(str(n))
    world.store.claim_may_go_on.clear()
    lane = world.lane(world.providers[0])
    work = asyncio.create_task(lane.work())
    await until(lambda: world.diary == ["claim acme"])
    await lane.drain()
    world.store.claim_may_go_on.set()
    await work
    assert world.endpoint.asked == []
    assert sorted(world.diary[1:]) == ["release acme:0", "release acme:1", "release acme:2"]
    assert {stored.owner for stored in world.store.documents.values()} == {None}


async def test_a_stopped_lane_can_be_resumed(world):
    """Its provider is configured again."""
    world.store.put("1")
    lane = world.lane(world.providers[0])
    lane.stop()
    assert await lane.work() == 0
    lane.resume()
    assert await lane.work() == 1
    await done(lane)


async def test_a_bug_that_one_token_meets_does_not_reach_the_others(world):
    """It is reported once and not presented again; all others are renewed in the same pass."""
    for n in range(12):
        world.store.put(str(n))
    world.store.broken = {f"acme:{n}": ZeroDivisionError("a bug") for n in range(5)}
    lane = world.lane(world.providers[0])
    await lane.work()
    await done(lane)
    assert len(world.observed(TokenRenewed)) == 7
    assert len(world.endpoint.asked) == 12
    assert await lane.work() == 0
    assert [bug.token for bug in world.observed(InternalError)] == [f"acme:{n}" for n in range(5)]
    assert len(world.journal.tokens) == 5  # their replies wait there


async def test_a_bug_before_any_reply_is_met_again_ever_more_rarely(world):
    """No reply in the journal blocks the token: it is left alone for five minutes, then for ten."""
    world.store.put("1")

    def fail(request):
        raise ZeroDivisionError("a bug")

    world.endpoint.answer = fail
    lane = world.lane(world.providers[0])
    await lane.work()
    await done(lane)
    assert await lane.work() == 0
    asked = []
    for _ in range(60):
        world.clock.passed += timedelta(minutes=1)
        await lane.work()
        await done(lane)
        asked.append(len(world.endpoint.asked))
    assert [minute + 1 for minute in range(60) if asked[minute] > (asked[minute - 1] if minute else 1)] == [
        5,
        15,
        35,
    ]
    assert {bug.where for bug in world.observed(InternalError)} == {"refresh"}


async def test_a_lost_store_ends_the_pass_until_the_replay(world):
    """A result could not be stored: nothing more is claimed before the next sweep has replayed it."""
    for n in range(20):
        world.store.put(str(n))
    world.store.away = {"record"}
    lane = world.lane(world.providers[0])
    with pytest.raises(StoreLost, match="could not be stored"):
        await lane.work()
    await done(lane)
    asked = len(world.endpoint.asked)
    assert 0 < asked <= 4
    assert world.journal.tokens == {f"acme:{n}" for n in range(asked)}
    world.store.away = set()
    assert await lane.work() == 20 - asked
    await done(lane)


async def test_a_journal_that_can_not_be_written_ends_the_pass(world):
    """A reply that the disk refused: no request may be started whose answer could not be kept."""
    for n in range(20):
        world.store.put(str(n))
    world.store.away = {"record"}  # so that the refused reply stays in memory
    world.journal.disk_full = True
    lane = world.lane(world.providers[0])
    with pytest.raises(StoreLost, match="could not be stored"):
        await lane.work()
    await done(lane)
    assert len(world.endpoint.asked) <= 4
    assert not world.journal.writable
    assert await lane.work() == 0


async def test_a_claim_that_loses_the_store_is_raised(world):
    """The sweep tells of it; what is in flight goes on."""
    world.store.away = {"claim"}
    with pytest.raises(StoreLost, match="away"):
        await world.lane(world.providers[0]).work()


async def test_how_many_are_in_flight_is_told_when_it_changes(world):
    """Up with the claim and down with the ends, once for all that comes at one moment."""
    for n in range(3):
        world.store.put(str(n))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane = world.lane(world.providers[0])
    await lane.work()
    await until(lambda: world.endpoint.in_flight == 3)
    gate.set()
    await done(lane)
    await asyncio.sleep(0)
    counts = [event.count for event in world.observed(InFlight)]
    assert (counts[0], counts[-1]) == (3, 0)
    assert len(counts) <= 4


async def test_a_document_that_was_set_aside_is_told_once(world):
    """Only what is new is told; neither is started."""
    items = [
        SetAside(
            token=f"acme:{new}",
            provider="acme",
            kind=FailureKind.UNREADABLE,
            code="unreadable",
            message="state is not a text",
            new=new,
        )
        for new in (True, False)
    ]
    claim = world.store.claim

    async def claim_these(*arguments, **more):
        batch = await claim(*arguments, **more)
        return type(batch)(items=[*items, *batch.items], more=False)

    world.store.claim = claim_these
    world.store.put("good")
    lane = world.lane(world.providers[0])
    assert await lane.work() == 3
    await done(lane)
    assert [event.token for event in world.observed(TokenUnreadable)] == ["acme:True"]
    assert [event.token for event in world.observed(TokenRenewed)] == ["acme:good"]


async def test_secrets_are_in_no_event(world):
    """Whatever is told, neither the old nor the new tokens are in it."""
    world.store.put("1")
    world.store.put("2")
    replies: list[Reply] = [granted("canary-successor", access="canary-access"), granted("x")]
    world.endpoint.answer = lambda request: replies.pop()
    lane = world.lane(world.providers[0])
    await lane.work()
    await done(lane)
    assert world.observed(TokenRenewed)
    assert not world.observed(TokenPostponed)
    assert "canary" not in repr(world.events)
