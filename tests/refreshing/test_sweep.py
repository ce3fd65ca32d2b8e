"""Many tokens: replay first, then claim; and one bad lane, entry or store is not everybody's."""

import asyncio
from datetime import timedelta

import pytest

from daemon.domain.circuit_breaker import Pause, Reason
from daemon.domain.claim import SetAside
from daemon.domain.event import (
    InternalError,
    JournalReplayed,
    LaneFailed,
    ProviderPaused,
    ProviderResumed,
    SweepFailed,
    SweepFinished,
    TokenInDoubt,
    TokenPostponed,
    TokenRenewed,
    TokenScheduled,
    TokenUnreadable,
)
from daemon.domain.journal_entry import EntryState
from daemon.domain.locked import Locked
from daemon.domain.token import FailureKind
from daemon.refreshing.sweep import Tally
from tests.refreshing.fakes import NOON, answered, granted, provider, unanswered
from tests.support.waiting import until

OPERATORS = Pause(reason=Reason.OPERATOR)


async def left_behind(world, account="1", reply=None):
    """A reply that an earlier process kept and did not conclude."""
    name = world.store.put(account)
    entry = await world.journal.keep(await world.claim(name), reply or granted(f"refresh-{account}"))
    world.diary.clear()
    return entry


# ---------------------------------------------------------------- one sweep


async def test_a_sweep_renews_all_that_is_due_and_says_so(world_of):
    """Every provider's tokens, and one line of what came of it."""
    world = world_of(provider("acme"), provider("other"))
    for n in range(7):
        world.store.put(str(n))
        world.store.put(str(n), of="other")
    await world.sweeper.sweep()
    assert len(world.observed(TokenRenewed)) == 14
    [finished] = world.observed(SweepFinished)
    assert (finished.claimed, finished.renewed, finished.postponed, finished.rejected) == (14, 14, 0, 0)
    assert finished.at == world.clock.now()


async def test_the_tally_counts_each_outcome_once(world):
    """Renewed, postponed, in doubt, rejected; and the next sweep begins at zero."""
    replies = [
        granted("refresh-1"),
        answered({}, status=503),
        unanswered(sent=False),
        unanswered(sent=True),
        answered({"error": "invalid_grant"}, status=400),
        answered({"error": "invalid_grant"}, status=400),
    ]
    for n in range(len(replies)):
        world.store.put(str(n))
    world.endpoint.answer = lambda request: replies.pop()
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    first, second = world.observed(SweepFinished)
    assert (first.claimed, first.renewed, first.postponed, first.rejected, first.in_doubt) == (6, 1, 1, 2, 2)
    assert (second.claimed, second.renewed, second.postponed, second.rejected) == (0, 0, 0, 0)
    assert (len(world.observed(TokenPostponed)), len(world.observed(TokenInDoubt))) == (1, 2)


async def test_a_tally_starts_again_at_zero():
    """Taken once, the counts are gone."""
    tally = Tally()
    tally(TokenScheduled(token="acme:1", provider="acme"))
    assert tally.take() == {"scheduled": 1}
    assert tally.take() == {}


async def test_a_provider_that_rests_is_not_claimed(world_of):
    """Paused in the store: its lane does not run, the others do."""
    world = world_of(provider("acme"), provider("other"))
    world.store.put("1")
    world.store.put("1", of="other")
    world.store.paused = {"acme": OPERATORS}
    await world.sweeper.sweep()
    assert "claim acme" not in world.diary
    assert [event.token for event in world.observed(TokenRenewed)] == ["other:1"]


async def test_a_pause_and_its_end_are_told_once_each(world_of):
    """An operator sees in the log that a provider rests, and that it works again, not a line for every sweep."""
    world = world_of(provider("acme"))
    world.store.paused = {"acme": OPERATORS, "stranger": OPERATORS}
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    assert [(event.provider, event.reason) for event in world.observed(ProviderPaused)] == [
        ("acme", "operator")
    ]
    assert world.observed(ProviderResumed) == []
    world.store.paused = {}
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    assert [event.provider for event in world.observed(ProviderResumed)] == ["acme"]


async def test_a_paused_provider_that_is_removed_has_not_resumed(world_of):
    """Nothing shows that it works. If it comes back while it is paused, that is reported."""
    acme, other = provider("acme"), provider("other")
    world = world_of(acme, other)
    world.store.paused = {"acme": OPERATORS}
    await world.sweeper.sweep()
    world.configured.replace({"other": other})
    await world.sweeper.sweep()
    assert world.sweeper.paused == {}
    assert world.observed(ProviderResumed) == []
    world.configured.replace({"acme": acme, "other": other})
    await world.sweeper.sweep()
    assert [event.provider for event in world.observed(ProviderPaused)] == ["acme", "acme"]


async def test_what_the_survey_set_aside_is_told_even_if_the_replay_fails(world):
    """It is new only once: a loss right after must not swallow it."""
    await left_behind(world)
    world.store.set_aside = [
        SetAside(
            token="lost:1",
            provider="lost",
            kind=FailureKind.UNCONFIGURED,
            code="unconfigured",
            message="no client is configured for this provider",
            new=True,
        )
    ]
    world.store.away = {"recall"}
    await world.sweeper.sweep()
    assert [event.token for event in world.observed(TokenUnreadable)] == ["lost:1"]
    assert len(world.observed(SweepFailed)) == 1


# ---------------------------------------------------------------- replays


async def test_what_waits_is_replayed_before_anything_is_claimed(world):
    """The order of an instance that comes back: survey, replay to the end, and only then claims."""
    await left_behind(world)
    world.store.put("2")
    await world.sweeper.sweep()
    order = [step for step in world.diary if step != "send"]
    assert order[:6] == [
        "survey",
        "probe journal",
        "recall acme:1",
        "record acme:1",
        "forget acme:1",
        "due acme",
    ]
    assert "claim acme" in order
    assert world.store.refresh_token("acme:1") == "refresh-1"
    assert len(world.endpoint.asked) == 1
    assert [(event.token, event.result) for event in world.observed(JournalReplayed)] == [
        ("acme:1", "recorded")
    ]


async def test_a_replay_tells_its_result(world):
    """Recorded, superseded by a consent, superseded because the document is gone, or unread."""
    await left_behind(world, "a")
    await left_behind(world, "b")
    world.store.consent("acme:b")
    await left_behind(world, "c")
    del world.store.documents["acme:c"]
    await left_behind(world, "d", answered({"inner": {"refresh_token": "refresh-elsewhere"}}))
    world.store.paused = {"acme": OPERATORS}
    await world.sweeper.sweep()
    assert {event.token: event.result for event in world.observed(JournalReplayed)} == {
        "acme:a": "recorded",
        "acme:b": "superseded",
        "acme:c": "superseded",
        "acme:d": "unparsed",
    }
    assert sorted(world.journal.parked.values()) == ["superseded", "superseded", "unparsed"]
    assert world.journal.tokens == set()


async def test_a_store_that_is_lost_during_the_replay_keeps_the_reply_and_claims_nothing(world):
    """The sweep fails; the next one begins with the same replay."""
    await left_behind(world)
    world.store.put("2")
    world.store.away = {"record"}
    await world.sweeper.sweep()
    assert "claim acme" not in world.diary
    assert world.journal.tokens == {"acme:1"}
    assert [event.message for event in world.observed(SweepFailed)] == ["the store is away (record)"]
    assert world.observed(SweepFinished) == []
    world.store.away = set()
    await world.sweeper.sweep()
    assert world.store.refresh_token("acme:1") == "refresh-1"
    assert len(world.observed(SweepFinished)) == 1


async def test_a_replay_that_loses_the_store_ends_whole_before_the_sweep_does(world):
    """No part of it goes on behind the back of the next one."""
    for account in "abc":
        await left_behind(world, account)
    gate, record = asyncio.Event(), world.store.record

    async def slow_record(claim, change):
        if claim.token.id == "acme:b":
            await gate.wait()
        elif claim.token.id == "acme:a":
            world.store.away = {"record"}
        return await record(claim, change)

    world.store.record = slow_record
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: "record acme:c" in world.diary)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not sweep.done()
    gate.set()
    await sweep
    assert len(world.observed(SweepFailed)) == 1


async def test_an_entry_that_can_not_be_replayed_holds_up_no_other(world):
    """It is marked, reported once, never deleted, still in its token's way, and tried again."""
    entry = await left_behind(world, "bad")
    await left_behind(world, "good")
    world.store.broken = {"acme:bad": ZeroDivisionError("a bug")}
    world.store.put("2")
    for _ in range(2):
        await world.sweeper.sweep()
    assert [event.token for event in world.observed(JournalReplayed)] == ["acme:good"]
    assert world.journal.parked == {entry.key: EntryState.UNUSABLE}
    assert world.journal.tokens == {"acme:bad"}
    assert len(world.endpoint.asked) == 1
    assert len(world.observed(SweepFinished)) == 2
    assert [bug.where for bug in world.observed(InternalError)] == ["replay"]
    world.store.broken = {}
    await world.sweeper.sweep()
    assert world.store.refresh_token("acme:bad") == "refresh-bad"
    assert world.journal.tokens == set()


async def test_an_entry_whose_spent_value_can_not_be_opened_waits_for_its_key(world):
    """Unusable until the key is back; the spent value is not presented meanwhile."""
    entry = await left_behind(world)
    values, world.store._values = world.store._values, {}
    await world.sweeper.sweep()
    assert world.endpoint.asked == []
    assert world.journal.parked == {entry.key: EntryState.UNUSABLE}
    assert [event.code for event in world.observed(TokenUnreadable)] == ["unusable"]
    world.store._values = values
    await world.sweeper.sweep()
    assert world.store.refresh_token("acme:1") == "refresh-1"


async def test_a_reply_that_can_not_be_opened_blocks_its_token_only_until_a_newer_grant_is_stored(world):
    """Its key is gone: the owner's new consent is renewed all the same, and the entry is kept for people."""
    world.store.put("1", issued_at=NOON)
    world.store.put("2", issued_at=NOON)
    locked = [
        Locked(
            key=key,
            token=f"acme:{key}",
            provider="acme",
            claim="gone",
            spent="spent",
            asked_at=NOON + timedelta(minutes=2 * key - 3),
            why="no such key",
        )
        for key in (1, 2)
    ]
    world.journal.locked = locked
    await world.sweeper.sweep()
    assert world.journal.parked == {1: EntryState.SUPERSEDED}


async def test_an_entry_of_a_provider_that_is_not_configured_waits(world):
    """Its definition may come back: not replayed, not marked, not deleted."""
    await left_behind(world)
    other = provider("other")
    world.configured.replace({"other": other})
    await world.sweeper.sweep()
    assert "recall acme:1" not in world.diary
    assert world.journal.tokens == {"acme:1"}
    assert world.journal.parked == {}


async def test_a_reply_in_flight_is_not_replayed_beside_itself(world):
    """Its own refresher is about to conclude it: a sweep that comes between leaves it alone."""
    world.store.put("1")
    gate, record = asyncio.Event(), world.store.record

    async def slow_record(claim, change):
        await gate.wait()
        return await record(claim, change)

    world.store.record = slow_record
    first = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: "keep acme:1" in world.diary)
    second = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.diary.count("probe journal") == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert "recall acme:1" not in world.diary
    gate.set()
    await asyncio.gather(first, second)
    assert len(world.observed(TokenRenewed)) == 1


async def test_a_reply_that_came_while_the_journal_was_probed_is_not_replayed_beside_itself(world):
    """Claimed by a pass of an earlier sweep, in flight by the time that the probe has ended."""
    lane = world.sweeper.lanes["acme"]
    world.store.put("1")
    probe, record, gate = world.journal.probe, world.store.record, asyncio.Event()

    async def probe_after_a_claim():
        await lane.work()
        await until(lambda: "keep acme:1" in world.diary)
        await probe()

    async def slow_record(claim, change):
        await gate.wait()
        return await record(claim, change)

    world.journal.probe, world.store.record = probe_after_a_claim, slow_record
    replay = asyncio.create_task(world.sweeper.replay())
    await until(lambda: "probe journal" in world.diary)
    async with asyncio.timeout(5):
        await replay
    assert "recall acme:1" not in world.diary
    gate.set()
    await lane.drain()


# ---------------------------------------------------------------- what stops a sweep


@pytest.mark.parametrize("step", ["survey", "claim"])
async def test_a_store_that_is_away_fails_the_sweep_and_asks_nobody(world, step):
    """One sentence, no exception, no request."""
    world.store.put("1")
    world.store.away = {step}
    await world.sweeper.sweep()
    assert [event.message for event in world.observed(SweepFailed)] == [f"the store is away ({step})"]
    assert world.observed(SweepFinished) == []
    assert world.endpoint.asked == []


async def test_a_journal_that_can_not_be_written_claims_nothing(world):
    """Nothing is asked while its answer could not be kept; it goes on by itself afterwards."""
    world.store.put("1")
    world.journal.disk_full = True
    await world.sweeper.sweep()
    assert "claim acme" not in world.diary
    [failed] = world.observed(SweepFailed)
    assert "journal" in failed.message
    world.journal.disk_full = False
    await world.sweeper.sweep()
    assert len(world.observed(TokenRenewed)) == 1


async def test_a_bug_in_one_lane_stops_neither_the_others_nor_the_next_sweep(world_of):
    """What a lane raises that is not a loss of the store is reported; the sweep itself is told as usual."""
    world = world_of(provider("acme"), provider("other"))
    world.store.put("1", of="other")
    world.store.put("1")
    claim = world.store.claim

    async def claim_with_a_bug(wanted, **more):
        if wanted.name == "acme":
            raise ZeroDivisionError("a bug")
        return await claim(wanted, **more)

    world.store.claim = claim_with_a_bug
    await world.sweeper.sweep()
    assert len(world.observed(TokenRenewed)) == 1
    assert len(world.observed(SweepFinished)) == 1
    assert [bug.where for bug in world.observed(InternalError)] == ["lane"]
    world.store.claim = claim
    await world.sweeper.sweep()
    assert [(failed.provider, failed.failures) for failed in world.observed(LaneFailed)] == [
        ("acme", 1),
        ("acme", 0),
    ]
    assert len(world.observed(TokenRenewed)) == 2


async def test_only_lanes_that_have_something_due_claim(world_of):
    """Five hundred providers at rest cost one question. What falls due is found by the next sweep."""
    world = world_of(provider("acme"), *(provider(f"idle{n}") for n in range(5)))
    world.store.put("1")
    world.store.put("1", of="idle3", due_at=world.clock.now() + timedelta(seconds=1))
    await world.sweeper.sweep()
    assert {step for step in world.diary if step.startswith("claim")} == {"claim acme"}
    world.clock.passed = timedelta(seconds=1)
    await world.sweeper.sweep()
    assert "claim idle3" in world.diary
    assert [event.token for event in world.observed(TokenRenewed)] == ["acme:1", "idle3:1"]


async def test_a_lane_that_failed_shows_that_it_works_again_though_nothing_is_due(world_of):
    """Somebody took the document away that it could not cope with."""
    world = world_of(provider("acme"), provider("other"))
    name = world.store.put("1")
    claim = world.store.claim

    async def claim_with_a_bug(wanted, **more):
        raise ZeroDivisionError("a bug")

    world.store.claim = claim_with_a_bug
    await world.sweeper.sweep()
    world.store.claim = claim
    del world.store.documents[name]
    await world.sweeper.sweep()
    assert [failed.failures for failed in world.observed(LaneFailed)] == [1, 0]


async def test_a_lane_that_waits_for_nothing_and_does_not_end_is_reported(world_of):
    """Its claim never returns: after half a minute that is no slow MongoDB any more."""
    world = world_of(provider("acme"), provider("other"), period=timedelta(milliseconds=10))
    world.store.put("1")
    claim, returning = world.store.claim, asyncio.Event()

    async def claim_that_hangs(wanted, **more):
        if wanted.name == "acme":
            await returning.wait()
        return await claim(wanted, **more)

    world.store.claim = claim_that_hangs
    for _ in range(6):
        await world.sweeper.sweep()
        world.clock.passed += timedelta(seconds=15)
    assert [(failed.provider, failed.failures) for failed in world.observed(LaneFailed)] == [
        ("acme", 1),
        ("acme", 2),
        ("acme", 3),
    ]
    returning.set()
    await world.sweeper.drain()
    await world.sweeper.sweep()
    assert world.observed(LaneFailed)[-1].failures == 0


async def test_a_bug_in_the_survey_fails_the_sweep_and_no_more(world):
    """Never raises: whoever calls it every few seconds goes on calling."""

    async def survey(configured):
        raise ZeroDivisionError("a bug")

    world.store.survey = survey
    await world.sweeper.sweep()
    assert len(world.observed(SweepFailed)) == 1
    assert [bug.where for bug in world.observed(InternalError)] == ["sweep"]


async def test_two_lanes_that_lose_the_store_are_one_failure(world_of):
    """Each loss is seen; nothing is left over that nobody has looked at."""
    world = world_of(provider("acme"), provider("other"))
    world.store.put("1")
    world.store.put("1", of="other")
    world.store.away = {"claim"}
    await world.sweeper.sweep()
    assert len(world.observed(SweepFailed)) == 1
    world.store.away = set()
    await world.sweeper.sweep()
    assert len(world.observed(SweepFinished)) == 1


# ---------------------------------------------------------------- sweeps that overlap


async def test_a_sweep_does_not_wait_longer_than_its_period(world_of):
    """A provider that hangs: the sweep ends, and its tokens are told by the one in which they end."""
    world = world_of(provider("acme"), provider("hangs"), period=timedelta(milliseconds=50))
    for n in range(6):
        world.store.put(str(n), of="hangs")
    world.store.put("1")
    world.endpoint.hanging["hangs"] = gate = asyncio.Event()
    await asyncio.wait_for(world.sweeper.sweep(), timeout=30)  # a sweep that waits fails, and hangs nothing
    assert [(event.claimed, event.renewed) for event in world.observed(SweepFinished)] == [(1, 1)]
    gate.set()
    await until(lambda: len(world.observed(TokenRenewed)) == 7)
    await world.sweeper.sweep()
    assert [(event.claimed, event.renewed) for event in world.observed(SweepFinished)] == [(1, 1), (6, 6)]


async def test_a_lane_that_ended_between_two_sweeps_runs_in_the_next_one(world_of):
    """It is not left out of a sweep because nobody was waiting when it ended."""
    world = world_of(provider("hangs", share=1), period=timedelta(milliseconds=50))
    for n in range(2):
        world.store.put(str(n), of="hangs")
    world.endpoint.hanging["hangs"] = gate = asyncio.Event()
    await world.sweeper.sweep()
    gate.set()
    await until(lambda: all(task.done() for task in world.sweeper._passes.values()))
    assert len(world.observed(TokenRenewed)) == 2
    world.store.put("new", of="hangs")
    await world.sweeper.sweep()
    assert len(world.observed(TokenRenewed)) == 3


async def test_a_busy_lane_is_not_asked_about(world_of):
    """Its pass goes on as long as there are due tokens."""
    world = world_of(provider("acme"), provider("hangs", share=1), period=timedelta(milliseconds=50))
    world.store.put("1", of="hangs")
    world.endpoint.hanging["hangs"] = gate = asyncio.Event()
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    assert [step for step in world.diary if step.startswith("due")] == ["due acme hangs", "due acme"]
    gate.set()
    await world.sweeper.drain()


async def test_a_hanging_lane_keeps_no_other_from_the_next_sweep(world_of):
    """While one provider hangs through several sweeps, the others are claimed in each of them."""
    world = world_of(provider("acme"), provider("hangs"), period=timedelta(milliseconds=30))
    for n in range(9):
        world.store.put(str(n), of="hangs")
    world.endpoint.hanging["hangs"] = gate = asyncio.Event()
    for n in range(3):
        world.store.put(str(n))
        await world.sweeper.sweep()
        assert len(world.observed(TokenRenewed)) == n + 1
    assert world.diary.count("claim hangs") == 1
    gate.set()
    await world.sweeper.drain()


async def test_sweeps_that_overlap_do_not_replay_the_same_entry_twice(world):
    """One sweep begins after the other, whoever asked for it."""
    await left_behind(world)
    await asyncio.gather(world.sweeper.sweep(), world.sweeper.sweep())
    assert world.diary.count("recall acme:1") == 1
    assert len(world.observed(SweepFinished)) == 2


# ---------------------------------------------------------------- drain and reload


async def test_drain_waits_for_all_that_is_in_flight_and_starts_nothing_more(world_of):
    """In every lane: what was asked is recorded, what was not asked is not."""
    world = world_of(provider("acme"), provider("other"))
    for n in range(9):
        world.store.put(str(n))
        world.store.put(str(n), of="other")
    world.endpoint.hanging["example"] = gate = asyncio.Event()
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.endpoint.in_flight == 8)
    drain = asyncio.create_task(world.sweeper.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not drain.done()
    gate.set()
    await drain
    await sweep
    assert len(world.observed(TokenRenewed)) == 8
    assert world.journal.kept == {}
    await world.sweeper.sweep()
    assert len(world.endpoint.asked) == 8


async def test_a_provider_that_is_no_longer_configured_finishes_and_claims_nothing(world):
    """Its requests under way are recorded, also by a drain; it is not asked about anything else."""
    for n in range(9):
        world.store.put(str(n))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.endpoint.in_flight == 4)
    world.configured.replace({})
    drain = asyncio.create_task(world.sweeper.drain())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not drain.done()
    gate.set()
    await drain
    await sweep
    assert len(world.observed(TokenRenewed)) == 4
    assert len(world.endpoint.asked) == 4


async def test_a_provider_that_comes_back_presents_nothing_twice(world_of):
    """Taken out and put in again while its requests are under way: they still count as in flight."""
    world = world_of(provider("acme", share=8))
    for n in range(3):
        world.store.put(str(n))
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    sweep = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.endpoint.in_flight == 3)
    world.configured.replace({})
    world.configured.replace({"acme": world.providers[0]})
    again = asyncio.create_task(world.sweeper.sweep())
    await until(lambda: world.diary.count("claim acme") == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(world.endpoint.asked) == 3
    gate.set()
    await asyncio.gather(sweep, again)
    assert len(world.observed(TokenRenewed)) == 3


async def test_a_new_provider_is_swept_and_a_changed_one_is_used(world):
    """After a reload the next sweep knows both."""
    other, acme = provider("other"), provider("acme", share=2)
    world.configured.replace({"other": other, "acme": acme})
    world.store.put("1", of="other")
    for n in range(5):
        world.store.put(str(n))
    await world.sweeper.sweep()
    assert len(world.observed(TokenRenewed)) == 6
    assert world.sweeper.lanes["acme"].provider.share == 2
    assert max(world.store.limits) >= 4  # other's
