"""Replicas on one database share the work; when one is killed, comes back or is cloned, nothing is presented twice.

The provider revokes a whole grant when a spent value is presented again, unless a grace is named. What a kill costs
where there is none, a request that was in flight and whose reply was not durable, is counted apart.
"""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from tests.e2e.daemon_process import DaemonProcess
from tests.faults.crashing import CRASHED
from tests.faults.replicas import (
    LONG,
    SHORT,
    USUAL,
    Form,
    buried,
    instance,
    killed,
    left,
    others,
    presented,
    taken_over,
    unclaimed,
)
from tests.faults.small_disk import small_disk
from tests.faults.stage import fingerprint, frozen
from tests.faults.test_crashes import SAFE
from tests.support import wall_clock

TOKENS = 300
ROUNDS = 8
AGAIN = timedelta(milliseconds=120)  # everything is made due anew this often, in flight or not
GRACE = timedelta(seconds=180)
LATENCY = timedelta(milliseconds=50)  # of the provider, so that a kill finds requests in flight
ADOPT_AFTER = timedelta(seconds=3)
SLACK = timedelta(seconds=1)  # for the commands of a sweep, on a busy machine
ONE_OF_EACH = ["claim.taken", "keep.durable", "record.before"]


def renewals(daemon: DaemonProcess) -> int:
    """How many results this process has stored. The log has a sample of the lines, and the number of the others."""
    told = daemon.seen("token.renewed") + daemon.seen("journal.replayed")
    return len(told) + sum(line["count"] for line in daemon.seen("log.left_out", of="token.renewed"))


@pytest.mark.slow
async def test_two_replicas_share_the_work_and_present_nothing_twice(stage, capsys):
    """300 tokens, made due again and again while both replicas work on them, at a provider that revokes on reuse."""
    # On a busy machine an answer may take long, and a request without an answer allows a second presentation.
    scene = await stage(sweep_every="500ms", request_timeout="20s", lease="60s", drain="25s")
    places = [scene.install(concurrency=32), scene.install(concurrency=32)]
    await scene.consent(TOKENS)
    async with scene.running(places[0]) as one, scene.running(places[1]) as other:
        await asyncio.gather(one.ready(), other.ready())
        while scene.refreshes() < TOKENS * ROUNDS:
            await scene.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})
            await asyncio.sleep(AGAIN.total_seconds())
        await unclaimed(scene)
        assert [await one.stop(), await other.stop()] == [0, 0]
        shares = [renewals(daemon) for daemon in (one, other)]
        superseded = sum(len(daemon.seen("token.superseded")) for daemon in (one, other))
    times = Counter(shown["sha256"] for grant in scene.ledger() for shown in grant["presented"])
    with capsys.disabled():
        print(f"\n2 replicas, {TOKENS} tokens: {times.total()} presentations, shares {shares}")
    assert max(times.values()) == 1
    assert scene.revoked() == []
    assert await scene.differing() == []
    assert superseded == 0
    assert sum(shares) == times.total() == scene.refreshes()
    assert min(shares) > sum(shares) / 10


@pytest.mark.slow
@pytest.mark.parametrize("form", [SHORT, pytest.param(USUAL, marks=pytest.mark.long)], ids=["short", "long"])
async def test_where_a_grace_is_documented_a_dead_replica_is_replaced_within_lease_and_sweep(
    stage, form: Form, capsys
):
    """One of three is killed for good at a provider with 180 s of grace: the others have its share when its lease and
    one sweep are over, and no grant is revoked."""
    scene = await stage(grace=GRACE, latency=LATENCY, **form.refresh)
    async with others(scene, form, grace="180s"):
        dead = await killed(scene, scene.install(concurrency=form.share, grace="180s"), after=form.share * 2)
        adopted = await taken_over(scene, dead, within=form.lease * 2) - dead.at
    with capsys.disabled():
        print(
            f"\n3 replicas, {form.tokens} tokens, 180 s of grace, one killed for good: {dead}; adopted after "
            f"{adopted:.1f} s of {(form.lease + form.sweep).total_seconds():.1f} s; {scene.refreshes()} refreshes, "
            f"{len(scene.revoked())} revoked"
        )
    assert dead.claims
    assert scene.revoked() == []
    assert await scene.differing() == []


@pytest.mark.slow
@pytest.mark.parametrize("form", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
async def test_without_grace_a_dead_replica_costs_at_most_what_it_had_in_flight(stage, form: Form, capsys):
    """One of three is killed for good: what it had not claimed is renewed at once, what it had only after the hold,
    and of that no grant is revoked but those whose value the provider had taken from it."""
    scene = await stage(latency=LATENCY, **form.refresh, adopt_after=f"{ADOPT_AFTER.seconds}s")
    async with others(scene, form):
        dead = await killed(scene, scene.install(concurrency=form.share), after=form.share * 2)
        back = dead.at
        await scene.settled(
            lambda one: one["account"] in dead.claims or _refreshed_since(one, back),
            within=timedelta(minutes=1),
        )
        at_once = wall_clock.timestamp() - dead.at
        adopted = await taken_over(scene, dead, within=form.lease * 3) - dead.at
    revoked = {str(grant["id"]) for grant in scene.revoked()}
    earliest = min(claim["lease"]["hold"].timestamp() for claim in dead.claims.values())
    with capsys.disabled():
        print(
            f"\n3 replicas, {form.tokens} tokens, no grace, one killed for good: {dead}; all others renewed within "
            f"{at_once:.1f} s, the claims adopted after {adopted:.1f} s; {len(revoked)} revoked in flight, "
            f"{len(revoked - dead.spent)} else"
        )
    assert dead.claims
    assert adopted <= (form.lease + ADOPT_AFTER + form.sweep + SLACK).total_seconds()
    unanswered = scene.in_doubt()
    assert revoked - unanswered <= dead.spent
    assert scene.presented_twice() - unanswered == revoked - unanswered
    assert presented(scene, dead, until=earliest - 0.05) == set()
    assert await scene.differing() == []


@pytest.mark.slow
@pytest.mark.parametrize("form", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
async def test_a_replica_that_was_killed_and_comes_back_takes_its_claims_at_once(stage, form: Form, capsys):
    """One of three is killed under load and is away for a while: nobody touches its claims, and it takes them back
    when it returns. Only what was in flight, with its reply not yet durable, is revoked."""
    scene = await stage(latency=LATENCY, **form.refresh)
    place = scene.install(concurrency=form.share)
    async with others(scene, form):
        dead = await killed(scene, place, after=form.share * 2)
        journaled = _accounts(place, dead, scene.journal(place))
        await asyncio.sleep(form.away.total_seconds())
        untouched, back = (
            presented(scene, dead, until=wall_clock.timestamp()),
            wall_clock.timestamp(),
        )
        async with scene.running(place) as daemon:
            taken = await taken_over(scene, dead, within=timedelta(seconds=30)) - back
            await daemon.event("sweep.finished", count=2)
            await left(scene, instance(daemon))
            assert await daemon.stop() == 0
    revoked = {str(grant["id"]) for grant in scene.revoked()}
    with capsys.disabled():
        print(
            f"\n3 replicas, {form.tokens} tokens, no grace, one killed and back after {form.away.total_seconds():.0f} s: "
            f"{dead}, {len(journaled)} in its journal; taken back {taken:.1f} s after its start; {len(revoked)} revoked "
            f"in flight, {len(revoked - dead.spent) + len(revoked & journaled)} else"
        )
    assert untouched == set()
    unanswered = scene.in_doubt()
    assert revoked - unanswered <= dead.spent - journaled
    assert scene.presented_twice() - unanswered == revoked - unanswered
    assert await scene.differing() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "points"),
    # Each step by itself is in every run, in test_crashes.py.
    [
        pytest.param(SHORT, ONE_OF_EACH, marks=pytest.mark.long),
        pytest.param(LONG, SAFE, marks=pytest.mark.long),
    ],
    ids=["short", "long"],
)
async def test_a_replica_that_died_at_a_named_step_comes_back_and_nothing_is_lost(
    stage, form: Form, points: list[str], capsys
):
    """At each step outside the window in doubt one replica dies, is away for a while and comes back, while two others
    go on: no grant is revoked, and no value is presented twice."""
    scene = await stage(**form.refresh)
    places = {point: scene.install(concurrency=1) for point in points}
    async with others(scene, form):
        dead = await asyncio.gather(*(_crashed(scene, place, point) for point, place in places.items()))
        await asyncio.sleep(form.away.total_seconds())
        untouched = [presented(scene, each, until=wall_clock.timestamp()) for each in dead]
        async with AsyncExitStack() as running:
            starting = [running.enter_async_context(scene.running(place)) for place in places.values()]
            daemons = await asyncio.gather(*starting)
            back = wall_clock.timestamp()
            taken = await taken_over(scene, *dead, within=timedelta(seconds=60)) - back
            await asyncio.gather(*(daemon.event("sweep.finished") for daemon in daemons))
            assert [await daemon.stop() for daemon in daemons] == [0] * len(points)
            replayed = sum(len(daemon.seen("journal.replayed")) for daemon in daemons)
    with capsys.disabled():
        print(
            f"\n{len(points)} replicas died at {len(points)} steps and came back {form.away.total_seconds():.0f} s later: "
            f"{sum(len(each.claims) for each in dead)} claims, {replayed} replies replayed, all taken back within "
            f"{taken:.1f} s; {len(scene.revoked())} revoked, {len(scene.presented_twice())} presented twice"
        )
    assert not any(untouched)
    await _nothing_lost(scene)


@pytest.mark.slow
@pytest.mark.parametrize("form", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
async def test_a_state_directory_that_is_cloned_with_replies_in_its_journal_presents_nothing_twice(
    stage, form: Form, capsys
):
    """A replica dies with replies in its journal, its state directory is copied, and both are started at once: each
    has an id of its own, and each replays all of the journal."""
    scene = await stage(**form.refresh)
    place, clone = scene.install(concurrency=8), scene.install(concurrency=8)
    async with others(scene, form), AsyncExitStack() as running:
        async with scene.running(place, "record.jammed", 20) as daemon:
            assert await daemon.ended(within=timedelta(seconds=30)) == CRASHED, daemon.logs
        waiting = len(scene.journal(place))
        scene.clone(place, to=clone)
        starting = [running.enter_async_context(scene.running(one)) for one in (place, clone)]
        twins = await asyncio.gather(*starting)
        for twin in twins:
            await twin.event("token.renewed", count=form.share * 4)
        assert [await twin.stop() for twin in twins] == [0, 0]
    replayed = [len(twin.seen("journal.replayed")) for twin in twins]
    with capsys.disabled():
        print(f"\na journal of {waiting} replies, cloned: replayed {replayed}; {_counted(scene)}")
    assert replayed == [waiting, waiting]
    assert waiting > 1
    assert instance(twins[0]) == instance(daemon) != instance(twins[1])
    await _nothing_lost(scene)


@pytest.mark.slow
@pytest.mark.parametrize("form", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
async def test_a_state_directory_that_is_cloned_at_work_presents_nothing_twice(stage, form: Form, capsys):
    """The state directory of a replica is copied while it has requests in flight, to a new disk on which the files
    have the same numbers, and the copy is started beside it: it has an id of its own."""
    scene = await stage(latency=LATENCY, **form.refresh)
    place, clone = scene.install(concurrency=form.share), scene.install(concurrency=form.share)
    with (
        small_disk(place.directory / "state", mebibytes=64),
        small_disk(clone.directory / "state", mebibytes=64) as disk,
    ):
        async with others(scene, form), scene.running(place) as daemon:
            await daemon.event("token.renewed", count=form.share)
            daemon.send_signal(signal.SIGSTOP)
            await frozen(daemon)
            identity = place.directory / "state" / "instance.json"
            _number(disk.directory / identity.name, identity.stat().st_ino)
            scene.clone(place, to=clone)
            daemon.send_signal(signal.SIGCONT)
            async with scene.running(clone) as twin:
                for one in (daemon, twin):
                    await one.event("token.renewed", count=form.share * 8)
                assert [await daemon.stop(), await twin.stop()] == [0, 0]
    replayed = len(twin.seen("journal.replayed"))
    with capsys.disabled():
        print(f"\ncloned at work to a new disk: the clone replayed {replayed}; {_counted(scene)}")
    assert instance(daemon) != instance(twin)
    await _nothing_lost(scene)


async def _crashed(scene, place, point):
    async with scene.running(place, point, 2) as daemon:
        assert await daemon.ended(within=timedelta(seconds=60)) == CRASHED, daemon.logs
    at = wall_clock.timestamp()
    await asyncio.sleep(0.5)
    return await buried(scene, instance(daemon), at)


def _accounts(place, dead, spent):
    """Whose stored values are among `spent`."""
    return {
        account
        for account, claim in dead.claims.items()
        if fingerprint(
            place.keyring.open(claim["refresh_token"], token_id=claim["_id"], field="refresh_token")
        )
        in spent
    }


def _refreshed_since(document, at):
    return document.get("refreshed_at") is not None and document["refreshed_at"].timestamp() > at


def _number(path, number):
    """Make the file at `path` the one with this number, on a disk that counts them up."""
    while (made := path.with_suffix(".made")).touch() or made.stat().st_ino < number:
        made.rename(path.with_suffix(f".{made.stat().st_ino}"))
    assert made.stat().st_ino == number
    made.rename(path)


def _counted(scene):
    revoked, twice = len(scene.revoked()), len(scene.presented_twice())
    return f"{scene.refreshes()} refreshes, {revoked} revoked, {twice} presented twice"


async def _nothing_lost(scene):
    assert scene.revoked() == []
    assert scene.presented_twice() == set()
    assert await scene.differing() == []
