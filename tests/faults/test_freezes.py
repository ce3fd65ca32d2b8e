"""A replica that freezes at a step of a token's path, past its lease, and wakes when nobody expects it any more.

Shorter than the hold, a freeze costs nothing at any step. Longer, others have taken over: whoever wakes before it has
asked is refused by its own deadline. One step is left, between the check of the deadline and the write; how long it
lasts is measured here, and what a freeze longer than the hold costs there is shown.
"""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from tests.e2e.daemon_process import DaemonProcess
from tests.faults.crashing import FREEZE
from tests.faults.replicas import LONG, SHORT, Form, buried, instance, others, taken_over
from tests.faults.stage import Stage, frozen
from tests.support import wall_clock

THE_ONE_STEP = "ask.checked"  # between the check of the deadline and the write
NOT_CLAIMED = ["claim.before", "claim.found"]
NOT_ASKED = ["claim.taken", "claim.after", "ask.before", "ask.connected"]
ASKED = [
    "ask.midway",
    "ask.after",
    "keep.before",
    "keep.durable",
    "keep.after",
    "record.before",
    "record.slow",
    "record.after",
    "forget.before",
    "forget.after",
]
STEPS = [*NOT_CLAIMED, *NOT_ASKED, THE_ONE_STEP, *ASKED]
ONE_OF_EACH = ["claim.taken", "ask.connected", THE_ONE_STEP, "ask.midway", "record.before"]
MARGIN = timedelta(milliseconds=500)  # past the lease
LATENCY = timedelta(milliseconds=300)  # twice what `ask.midway` takes


def forms(short: list[str], long: list[str]):
    """All of `short` at once, each in a replica of its own; each of `long` alone, in one of three."""
    alone = [pytest.param(LONG, [point], marks=pytest.mark.long, id=f"long-{point}") for point in long]
    return pytest.mark.parametrize(("form", "points"), [pytest.param(SHORT, short, id="short"), *alone])


@pytest.mark.slow
@forms(ONE_OF_EACH, STEPS)
async def test_a_freeze_past_the_lease_costs_nothing_at_any_step(
    stage, form: Form, points: list[str], capsys
):
    """Frozen at a step with more in flight elsewhere, woken when the lease is over and the hold is not: no grant is
    revoked and no value presented twice, and what was claimed but not asked is given back unasked."""
    scene = await stage(latency=LATENCY, **form.refresh)
    async with others(scene, form):
        told = await froze(scene, form, points, share=form.share // len(points), adopted=False)
    with capsys.disabled():
        print(f"\nfrozen past the lease {outcome(scene, told)}")
    for point in set(NOT_ASKED) & set(points):
        assert told[point]["token.postponed too_late"] > 0
    assert {str(grant["id"]) for grant in scene.revoked()} <= scene.in_doubt()
    assert scene.presented_twice() <= scene.in_doubt()
    assert await scene.differing() == []


@pytest.mark.alone  # beside others, a busy machine may hold up the replicas that are not frozen, too
@pytest.mark.slow
@forms(
    ["claim.found", "claim.after", "ask.connected", THE_ONE_STEP], [*NOT_CLAIMED, *NOT_ASKED, THE_ONE_STEP]
)
async def test_a_freeze_past_the_hold_costs_nothing_before_the_one_step(
    stage, form: Form, points: list[str], capsys
):
    """Frozen until others have taken over and renewed: on waking nothing is presented, but where the deadline had
    been checked and the write not yet been made. That step is measured."""
    scene = await stage(**form.refresh, adopt_after="0ms")
    async with others(scene, form):
        told = await froze(scene, form, points, share=1, adopted=True)
    checks = [took / timedelta(microseconds=1) for took in scene.checks() if took < form.lease]
    with capsys.disabled():
        print(
            f"\nfrozen past the hold {outcome(scene, told)}; from check to write p50 {checks[len(checks) // 2]:.0f} "
            f"p99 {checks[len(checks) * 99 // 100]:.0f} max {checks[-1]:.0f} microseconds over {len(checks)} requests"
        )
    unanswered = scene.in_doubt()
    revoked = {str(grant["id"]) for grant in scene.revoked()} - unanswered
    assert scene.presented_twice() - unanswered == revoked
    assert len(revoked) == int(THE_ONE_STEP in points)
    assert await scene.differing() == []


async def froze(
    scene: Stage, form: Form, points: list[str], *, share: int, adopted: bool
) -> dict[str, Counter[str]]:
    """Freeze one replica at each of `points`, wake them when their leases are over (`adopted`: and others have renewed
    what they had), and see them work. Returns what each then told of its tokens, other than renewals.
    """
    places = {point: scene.install(concurrency=share) for point in points}
    async with AsyncExitStack() as running:
        victims = {
            point: await running.enter_async_context(scene.running(place, FREEZE + point, 2))
            for point, place in places.items()
        }
        await asyncio.gather(*map(frozen, victims.values()))
        before = {point: len(daemon.lines) for point, daemon in victims.items()}
        sleeping = [
            await buried(scene, instance(daemon), wall_clock.timestamp()) for daemon in victims.values()
        ]
        await asyncio.sleep((form.lease + MARGIN).total_seconds())
        if adopted:
            await taken_over(scene, *sleeping, within=form.lease)
            had = {name: claim.get("revision", 0) for each in sleeping for name, claim in each.claims.items()}
            await scene.settled(
                lambda one: one.get("revision", 0) > had.get(one["account"], -1), within=form.lease
            )
        sweeps = {point: len(daemon.seen("sweep.finished")) for point, daemon in victims.items()}
        for daemon in victims.values():
            daemon.send_signal(signal.SIGCONT)
        for point, daemon in victims.items():
            await daemon.event("sweep.finished", count=sweeps[point] + 3)
        assert [await daemon.stop() for daemon in victims.values()] == [0] * len(victims)
    return {point: troubles(daemon, since=before[point]) for point, daemon in victims.items()}


def troubles(daemon: DaemonProcess, *, since: int) -> Counter[str]:
    """What it told of its tokens after so many lines of its log, but for renewals."""
    told = (line for line in daemon.lines[since:] if str(line.get("event")).startswith("token."))
    return Counter(
        f"{line['event']} {line.get('code', '')}".strip() for line in told if line["event"] != "token.renewed"
    )


def outcome(scene: Stage, told: dict[str, Counter[str]]) -> str:
    each = "; ".join(f"{point} {dict(counted) or 'nothing'}" for point, counted in told.items())
    return (
        f"at {len(told)} steps, and woken: {len(scene.revoked())} revoked, {len(scene.presented_twice())} presented "
        f"twice, of {scene.refreshes()} refreshes; told on waking: {each}"
    )
