"""A crash before and after each step of the path of one token, at a provider that forgives nothing.

claim -> ask -> keep -> record -> forget. The one window in which a crash can cost a grant is named here *in doubt*: it
opens when the provider takes the request and closes when its reply is durable in our journal. Its second part, from
the reply's leaving the provider to our fsync ("received, not kept"), is ours, and is measured.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.faults.crashing import CRASHED
from tests.faults.stage import Stage, quantiles

TOKENS = 20
SECOND = 7  # the second crash comes at this occurrence, well before the last
LATENCY = timedelta(milliseconds=300)  # of the provider's reply, where the crash comes before it

SAFE = [
    "claim.before",
    "claim.taken",
    "claim.after",
    "ask.before",
    "keep.durable",
    "keep.after",
    "record.before",
    "record.slow",  # MongoDB takes its time: what was queued meanwhile is on disk
    "record.after",
    "forget.before",
    "forget.after",
]
JOURNALED = {"keep.durable", "keep.after", "record.before", "record.slow", "record.after", "forget.before"}
IN_DOUBT = ["ask.midway", "ask.after", "keep.before"]


@pytest.mark.slow
@pytest.mark.parametrize("point", [*SAFE, *IN_DOUBT])
async def test_a_crash_costs_a_grant_only_in_the_window_in_doubt(stage, point, capsys):
    """The daemon dies at the first occurrence of a step, is started again, dies at the seventh, and recovers: where
    nothing had been asked yet, or the reply was in the journal, no grant is lost; else exactly the one in the window."""
    scene = await stage(latency=LATENCY if point == "ask.midway" else timedelta())
    place = scene.install(concurrency=1)
    await scene.consent(TOKENS)
    journaled = set()
    for occurrence in (1, SECOND):
        async with _crashing(scene, place, point, occurrence) as daemon:
            assert await daemon.ended(within=timedelta(seconds=30)) in (CRASHED, -signal.SIGKILL), daemon.logs
        journaled |= scene.journal(place)
    async with scene.running(place) as daemon:
        await scene.settled(
            lambda one: one.get("revision", 0) > 0 and one["lease"] is None, within=timedelta(seconds=30)
        )
        assert await daemon.stop() == 0
    assert scene.journal(place) == set()
    assert await scene.differing() == []
    lost = scene.revoked()
    assert len(lost) == (2 if point in IN_DOUBT else 0)
    spent = {one["sha256"] for grant in lost for one in grant["presented"]}
    assert not spent & (journaled | scene.kept().keys()), "a reply that was durable did not save its grant"
    if point in JOURNALED:
        assert len(journaled) == 2, "the crash came elsewhere than it was meant to"
    presented = [[one["sha256"] for one in grant["presented"]] for grant in scene.ledger()]
    twice = [values for values in presented if len(values) != len(set(values))]
    assert len(twice) == len(lost)
    with capsys.disabled():
        print(
            f"\ncrash at {point}: 2 crashes, {TOKENS} tokens, {len(lost)} lost; {quantiles(scene.windows())}"
        )


@asynccontextmanager
async def _crashing(
    scene: Stage, place: Installation, point: str, occurrence: int
) -> AsyncIterator[DaemonProcess]:
    """It dies of itself; but only the provider knows when it has taken a request, so `ask.midway` is a kill from here."""
    if point != "ask.midway":
        async with scene.running(place, point, occurrence) as daemon:
            yield daemon
        return
    taken = scene.refreshes() + occurrence
    async with scene.running(place) as daemon:
        await scene.until(lambda: scene.refreshes() >= taken, of=daemon)
        os.kill(daemon.pid, signal.SIGKILL)
        yield daemon
