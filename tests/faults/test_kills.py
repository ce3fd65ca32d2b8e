"""SIGKILL at random moments under load, and what it costs; the short form in every run, the long one on demand.

A grant can only be lost at a provider without a grace window, and only by a reply that no journal could hold yet:
`excused`      it had left the provider, and the kill came less than EXCUSED later ("received, not kept")
`unanswered`   it had not left the provider when the kill came: nobody could have received it
`lost`         anything else, so there must be none
"""

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.faults.stage import Document, Stage, quantiles
from tests.support import wall_clock

EXCUSED = timedelta(milliseconds=50)
AFTERLIFE = timedelta(
    milliseconds=500
)  # a process that was killed may be heard of this long; a new one only later

pytestmark = pytest.mark.alone
TOKENS = 200
LIFETIME = timedelta(seconds=1)  # so that there is always more due than can be done


@dataclass(slots=True, kw_only=True)
class Toll:
    """What a number of kills came to."""

    kills: list[float] = field(default_factory=list)  # when
    refreshes: int = 0
    losses: Counter[str] = field(default_factory=Counter)
    windows: list[timedelta] = field(default_factory=list)
    gaps: list[timedelta] = field(
        default_factory=list
    )  # from the provider's reply to the kill, for each excused

    def __str__(self) -> str:
        counted = " ".join(f"{kind} {self.losses[kind]}" for kind in ("lost", "excused", "unanswered"))
        longest = max(self.gaps, default=timedelta()) / timedelta(milliseconds=1)
        return (
            f"{len(self.kills)} kills, {self.refreshes} refreshes: {counted}; longest excused gap {longest:.1f} ms; "
            f"{quantiles(self.windows)}"
        )


async def killed(scene: Stage, *, kills: int, refreshes: int, seed: int) -> Toll:
    """Kill the daemon `kills` times while it works, then let it recover, and count what was lost."""
    chance = random.Random(seed)
    toll = Toll()
    place = scene.install(concurrency=32)
    await scene.consent(TOKENS)
    replaced = 0
    for _ in range(kills):
        goal = scene.refreshes() + chance.uniform(0.5, 1.7) * refreshes / kills
        async with scene.running(place) as daemon:
            await daemon.event("daemon.started")
            await scene.until(lambda goal=goal: scene.refreshes() >= goal, of=daemon)
            await asyncio.sleep(chance.uniform(0, 0.1))  # else it would come just when a reply has left
            toll.kills.append(wall_clock.timestamp())
            os.kill(daemon.pid, signal.SIGKILL)
        dead = len(scene.revoked())
        if dead > replaced:
            await scene.consent(dead - replaced)
            replaced = dead
    back = wall_clock.timestamp()
    async with scene.running(place) as daemon:
        await scene.settled(
            lambda one: one.get("refreshed_at") is not None and one["refreshed_at"].timestamp() > back,
            within=timedelta(seconds=30),
        )
        assert await daemon.stop() == 0
    assert scene.journal(place) == set()
    assert await scene.differing() == []
    toll.refreshes, toll.windows = scene.refreshes(), scene.windows()
    kept = scene.kept()
    for grant in scene.revoked():
        toll.losses[_judged(grant, toll, kept)] += 1
    return toll


def _judged(grant: Document, toll: Toll, kept: dict[str, float]) -> str:
    """Whose fault it is that this grant was revoked. The culprit: the refresh whose successor we never used."""
    presented = grant["presented"]
    reused = next(one for one in presented if one["outcome"] == "reused")
    culprit = [one for one in presented if one["outcome"] == "granted" and one["sha256"] == reused["sha256"]][
        -1
    ]
    if culprit["sha256"] in kept:
        return "lost"  # its reply was durable
    left = culprit["replied_at"]
    kill = next((at for at in toll.kills if at + AFTERLIFE.total_seconds() > culprit["at"]), None)
    if kill is None or kill - culprit["at"] > AFTERLIFE.total_seconds():
        return "lost"
    if left is None or left > kill:
        return "unanswered"
    gap = timedelta(seconds=kill - left)
    toll.gaps.append(gap)
    return "excused" if gap < EXCUSED else "lost"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "refreshes"),
    [(5, 500), pytest.param(300, 20_000, marks=pytest.mark.long)],
    ids=["short", "long"],
)
@pytest.mark.parametrize("grace", [timedelta(), timedelta(seconds=60)], ids=["no-grace", "grace-60s"])
async def test_kills_under_load_cost_no_grant_outside_the_window(stage, grace, kills, refreshes, capsys):
    """With a grace window no kill costs a grant at all; without one, only replies that no journal could hold yet."""
    scene = await stage(grace=grace, lifetime=LIFETIME, sweep_every="500ms")
    toll = await killed(scene, kills=kills, refreshes=refreshes, seed=kills)
    with capsys.disabled():
        print(f"\ngrace {grace.total_seconds():.0f} s: {toll}")
    assert toll.losses["lost"] == 0
    assert toll.refreshes >= refreshes
    if grace:
        assert not toll.losses
