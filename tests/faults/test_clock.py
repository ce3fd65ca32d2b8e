"""The daemon's wall clock jumps by an hour while MongoDB and the provider keep the true time; and the process sleeps.

libfaketime, preloaded into the daemon alone, moves its wall clock while it runs. Boot time and monotonic time stay true
under it, as they do on a machine whose clock is set.
"""

import asyncio
import json
import signal
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest
from pymongo import UpdateOne

from daemon.runtime.schedule import SPREAD
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.faults.crashing import FREEZE
from tests.faults.stage import Stage, frozen
from tests.support import wall_clock

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

SWEEP_EVERY = timedelta(seconds=1)
LIFETIME = timedelta(seconds=24)
EARLIEST = LIFETIME * (
    1 - 1 / 3 - 1 / 10
)  # after its issue a token is due: by the window, and by the largest jitter
LATEST = LIFETIME * (1 - 1 / 3)
ON_ITS_WAY = timedelta(
    seconds=2
)  # a request, at most: lifetimes count from the asking, the ledger from the arrival
TOKENS = 48
IN_FLIGHT = 16
LATENCY = timedelta(milliseconds=500)  # of the provider; more than `ask.midway` takes
JUMPED_FOR = timedelta(seconds=3.5)
NO_STALL = timedelta(
    seconds=6
)  # the schedule's heartbeat and two sweeps take 2 s; the rest is for a busy machine

pytestmark = pytest.mark.alone
SLEPT_FOR = timedelta(seconds=5)
BACKOFF = timedelta(seconds=5)  # at most, after a first failure


class WallClock:
    """The daemon's, by a file that libfaketime reads each time it is asked."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    def set(self, offset: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self._file)

    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
        }


@pytest.mark.slow
@pytest.mark.skipif(not FAKETIME.exists(), reason=f"needs {FAKETIME} (Debian: faketime)")
async def test_a_jump_of_the_wall_clock_brings_no_storm_and_no_stall(stage, tmp_path, capsys):
    """An hour ahead, back, an hour behind, back: tokens are renewed when they are due by MongoDB's clock, never early
    and never late; the skew is on /metrics, and beyond the bound /readyz says no until the jump is taken back."""
    scene: Stage = await stage(lifetime=LIFETIME, sweep_every="1s", jitter="30s")
    place = installed(scene)
    wall = WallClock(tmp_path / "wall-clock")
    await scene.consent(TOKENS)
    await spread(scene)
    said = []
    async with place.running(**wall.environment()) as daemon:
        await daemon.ready()
        await asyncio.sleep(3)
        for offset, hours in (("+3600", 1), ("+0", 0), ("-3600", -1), ("+0", 0)):
            swept, renewed = len(daemon.seen("sweep.finished")), len(daemon.seen("token.renewed"))
            jumped_at = time.monotonic()
            wall.set(offset)
            await daemon.event("sweep.finished", count=swept + 2, within=NO_STALL)
            noticed = time.monotonic() - jumped_at
            await agrees(daemon, skew=timedelta(hours=hours))
            await asyncio.sleep(max(0.0, jumped_at + JUMPED_FOR.total_seconds() - time.monotonic()))
            passed = timedelta(seconds=time.monotonic() - jumped_at)
            sweeps = len(daemon.seen("sweep.finished")) - swept
            said.append(
                f"{offset}: two sweeps within {noticed:.1f} s, {sweeps} sweeps and"
                f" {len(daemon.seen('token.renewed')) - renewed} renewals in {passed.total_seconds():.1f} s"
            )
            assert sweeps <= passed / SWEEP_EVERY + 2, said
        at = wall_clock.now()
        assert await daemon.stop() == 0
        assert daemon.seen("token.postponed") == daemon.seen("token.superseded") == []
    await well_kept(scene, at=at)
    gaps = waits(scene)
    said.append(f"renewed {min(gaps):.1f} to {max(gaps):.1f} s after their issue, of {LIFETIME.seconds} s")
    with capsys.disabled():
        print("", *said, sep="\n")
    assert min(gaps) >= (EARLIEST - ON_ITS_WAY).total_seconds()
    assert max(gaps) <= (LATEST + NO_STALL).total_seconds()


@pytest.mark.slow
async def test_a_process_that_slept_presents_nothing_under_a_claim_that_ran_out(stage, capsys):
    """Frozen between claim and request for longer than the lease, and woken: sweeps go on at once and not five together,
    nothing is presented under the old claims, and each token is renewed once."""
    scene: Stage = await stage(
        lifetime=LIFETIME, sweep_every="1s", jitter="30s", request_timeout="2s", lease="4s"
    )
    place = installed(scene)
    await scene.consent(TOKENS)
    async with scene.running(place, f"{FREEZE}ask.connected") as daemon:
        await frozen(daemon)
        claims = await scene.tokens.count_documents({"lease.claim": {"$ne": None}})
        await asyncio.sleep(SLEPT_FOR.total_seconds())
        daemon.send_signal(signal.SIGCONT)
        woken = time.monotonic()
        await daemon.event("token.postponed", code="too_late", count=claims, within=NO_STALL)
        await daemon.event("sweep.finished", count=3, within=NO_STALL)
        took = time.monotonic() - woken
        await scene.settled(lambda token: token.get("refreshed_at") is not None, within=NO_STALL + BACKOFF)
        shortest = SWEEP_EVERY.total_seconds() * (1 - SPREAD)
        assert len(daemon.seen("sweep.finished")) <= (time.monotonic() - woken) / shortest + 2
        at = wall_clock.now()
        assert await daemon.stop() == 0
    await well_kept(scene, at=at)
    with capsys.disabled():
        print(
            f"\nslept {SLEPT_FOR.seconds} s: {claims} claims had run out, three sweeps within {took:.1f} s of waking"
        )
    assert claims
    assert min(waits(scene), default=LIFETIME.total_seconds()) >= (EARLIEST - ON_ITS_WAY).total_seconds()


@pytest.mark.slow
async def test_a_process_that_slept_reads_the_replies_that_came_meanwhile(stage):
    """Frozen with requests on their way, for longer than their timeout: the replies wait in the sockets, each the only
    copy of a successor. They are read, and nothing is in doubt."""
    scene: Stage = await stage(lifetime=LIFETIME, latency=LATENCY, sweep_every="1s", request_timeout="2s")
    place = installed(scene)
    await scene.consent(IN_FLIGHT)
    async with scene.running(place, f"{FREEZE}ask.midway") as daemon:
        await frozen(daemon)
        await asyncio.sleep(3)
        assert scene.refreshes() > 0
        daemon.send_signal(signal.SIGCONT)
        await scene.settled(lambda token: token.get("refreshed_at") is not None, within=NO_STALL + BACKOFF)
        assert daemon.seen("token.in_doubt") == []
        at = wall_clock.now()
        assert await daemon.stop() == 0
    await well_kept(scene, at=at)


# ---------------------------------------------------------------- what is looked at


def installed(scene: Stage) -> Installation:
    """One daemon that tells of every sweep, also of those that found nothing due."""
    place = scene.install(concurrency=IN_FLIGHT)
    place.configure(place.tables | {"log": {"format": "json", "level": "debug"}})
    return place


async def spread(scene: Stage) -> None:
    """A steady load: the tokens come due one after the other, as they will again and again."""
    now, names = wall_clock.now(), [token["_id"] async for token in scene.tokens.find({}, {"_id": 1})]
    dues = [now + EARLIEST * place / len(names) for place in range(len(names))]
    await scene.tokens.bulk_write(
        [UpdateOne({"_id": name}, {"$set": {"due_at": due}}) for name, due in zip(names, dues, strict=True)]
    )


async def agrees(daemon: DaemonProcess, *, skew: timedelta) -> None:
    """/metrics and /readyz tell of this skew; an hour is beyond the bound."""
    url = await daemon.url()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/readyz") as answer:
            status, checks = answer.status, (await answer.json())["checks"]
        async with session.get(f"{url}/metrics") as answer:
            metrics = await answer.text()
    [told] = [line for line in metrics.splitlines() if line.startswith("refreshd_clock_skew_seconds ")]
    assert abs(float(told.split()[1]) - skew.total_seconds()) < 5
    failing = {name for name, check in checks.items() if not check["ok"]}
    assert (status, failing) == ((503, {"clock"}) if skew else (200, set())), json.dumps(checks)


def waits(scene: Stage) -> list[float]:
    """How long each generation was in use: from one presentation of a grant to its next, by the provider's clock."""
    return [
        later["at"] - earlier["at"]
        for grant in scene.ledger()
        for earlier, later in pairwise(grant["presented"])
    ]


async def well_kept(scene: Stage, *, at: datetime) -> None:
    """Nothing was presented twice, refused or lost; nothing that is stored is off by the jump, seen from `at`: when the
    daemon was told to stop."""
    presented = [one for grant in scene.ledger() for one in grant["presented"]]
    assert len({one["sha256"] for one in presented}) == len(presented)
    assert scene.revoked() == []
    assert await scene.differing() == []
    now = wall_clock.now()
    async for token in scene.tokens.find({}):
        assert token["state"] == "active"
        assert at < token["expires_at"] <= now + LIFETIME
        assert at - NO_STALL < token["due_at"] <= now + LIFETIME
        assert token["refreshed_at"] <= now
