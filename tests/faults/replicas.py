"""Replicas under pressure: what the tests that kill, freeze and clone one of them stand on.

All the while everything is made due again and again, so that whoever may take a token does. A *claim* is a lease that
the victim had when it was struck.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.faults.stage import POLL_EVERY, Document, Stage
from tests.support import wall_clock

AFTERLIFE = timedelta(milliseconds=500)  # a process that was killed may be heard of this long
IN_TRANSIT = timedelta(milliseconds=200)  # what a frozen process had sent takes no longer
SETTLING = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How large a test is. `again`: how often everything is made due anew; `away`: how long one is gone."""

    tokens: int
    share: int  # requests in flight, of each replica
    again: timedelta
    lease: timedelta
    sweep: timedelta
    request: timedelta
    away: timedelta

    @property
    def refresh(self) -> dict[str, str]:
        """As the configuration has it."""
        spans = {"lease": self.lease, "sweep_every": self.sweep, "request_timeout": self.request}
        return {key: f"{span // timedelta(milliseconds=1)}ms" for key, span in spans.items()} | {
            "drain": "35s"
        }


SHORT = Form(
    tokens=200,
    share=16,
    again=timedelta(milliseconds=700),
    lease=timedelta(seconds=6),
    sweep=timedelta(milliseconds=500),
    request=timedelta(seconds=3),
    away=timedelta(seconds=2),
)
LONG = Form(
    tokens=5_000,
    share=64,
    again=timedelta(seconds=5),
    lease=timedelta(seconds=45),
    sweep=timedelta(seconds=1),
    request=timedelta(seconds=10),
    away=timedelta(minutes=3),
)
USUAL = Form(  # as configured when nothing is
    tokens=5_000,
    share=64,
    again=timedelta(seconds=5),
    lease=timedelta(seconds=90),
    sweep=timedelta(seconds=15),
    request=timedelta(seconds=30),
    away=timedelta(minutes=3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A replica that was killed: when, what it had claimed, and of which of that the provider had spent the value."""

    owner: str
    at: float
    claims: dict[str, Document]  # by account
    spent: set[str]  # accounts

    def __str__(self) -> str:
        return f"{len(self.claims)} claimed by the dead, {len(self.spent)} of them presented and not recorded"


@asynccontextmanager
async def others(scene: Stage, form: Form, **definition: str) -> AsyncIterator[list[DaemonProcess]]:
    """Two replicas at work on `form.tokens` new grants, all of them due again and again while the block lasts; then
    both are stopped, once nothing is claimed any more.
    """
    places = [scene.install(concurrency=form.share, **definition) for _ in range(2)]
    async with AsyncExitStack() as running:
        starting = [running.enter_async_context(scene.running(place)) for place in places]
        daemons = await asyncio.gather(*starting)
        await asyncio.gather(*(daemon.ready() for daemon in daemons))
        await scene.consent(form.tokens)
        async with scene.pressed(form.again):
            yield daemons
        await unclaimed(scene)
        assert [await daemon.stop() for daemon in daemons] == [0, 0]


async def killed(scene: Stage, place: Installation, *, after: int) -> Dead:
    """Run `place`, and kill it at some moment when it has renewed `after` tokens and has claimed others. To be sure of
    the latter it is frozen for a moment: what it had sent arrives, and then nothing changes any more.
    """
    async with scene.running(place) as daemon:
        await daemon.event("token.renewed", count=after)
        while True:
            await asyncio.sleep(random.uniform(0, 0.1))
            daemon.send_signal(signal.SIGSTOP)
            await asyncio.sleep(IN_TRANSIT.total_seconds())
            if await scene.leased(instance(daemon)):
                break
            daemon.send_signal(signal.SIGCONT)
        at = wall_clock.timestamp()
        os.kill(daemon.pid, signal.SIGKILL)
        await daemon.ended()
    await asyncio.sleep(AFTERLIFE.total_seconds())
    return await buried(scene, instance(daemon), at)


async def buried(scene: Stage, owner: str, at: float) -> Dead:
    """What `owner` left behind, `at` its end."""
    claims = {claim["account"]: claim for claim in await scene.leased(owner)}
    return Dead(owner=owner, at=at, claims=claims, spent=claims.keys() & set(await scene.differing()))


async def taken_over(scene: Stage, *dead: Dead, within: timedelta) -> float:
    """Wait until none of these claims is there any more. Returns the time."""
    claims = {
        "lease.claim": {"$in": [one["lease"]["claim"] for each in dead for one in each.claims.values()]}
    }
    limit = time.monotonic() + within.total_seconds()
    while left := await scene.tokens.count_documents(claims):
        assert time.monotonic() < limit, f"{left} claims are still there"
        await asyncio.sleep(POLL_EVERY.total_seconds())
    return wall_clock.timestamp()


async def left(scene: Stage, owner: str) -> None:
    """Wait until `owner` holds nothing. What it holds at its end, even in doubt, is its own until the hold is over."""
    await scene.settled(lambda one: (one["lease"] or {}).get("owner") != owner, within=SETTLING)


async def unclaimed(scene: Stage) -> None:
    """Wait until nothing is claimed or due."""
    await scene.settled(lambda one: one.get("revision", 0) > 0 and one["lease"] is None, within=SETTLING)


def presented(scene: Stage, dead: Dead, *, until: float) -> set[str]:
    """Which of the claims were presented from the kill to `until`."""
    since = dead.at + AFTERLIFE.total_seconds()
    return {
        str(grant["id"])
        for grant in scene.ledger()
        if grant["id"] in dead.claims and any(since < one["at"] < until for one in grant["presented"])
    }


def instance(daemon: DaemonProcess) -> str:
    return str(daemon.seen("daemon.started")[0]["instance"])
