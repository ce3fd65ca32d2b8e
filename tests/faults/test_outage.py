"""MongoDB goes away while replies are on their way: each waits in the journal, and nothing new is asked."""

import asyncio
import resource
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess
from tests.faults.mongod import Mongod
from tests.faults.stage import Stage
from tests.support import wall_clock

NOTICED_WITHIN = timedelta(seconds=5)
RECORDED_WITHIN = timedelta(seconds=30)
LOOK_EVERY = timedelta(seconds=1)
FILES = 10_000  # a socket at either end of each request, and then some


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """How much is on its way when MongoDB dies, and how long it stays dead."""

    tokens: int  # more than can be asked at once: the rest must not be asked while MongoDB is dead
    concurrency: int
    lasts: timedelta
    request_timeout: str
    lease: str
    drain: str
    sweep_every: str


SHORT = Outage(
    tokens=300,
    concurrency=250,
    lasts=timedelta(seconds=8),
    request_timeout="20s",
    lease="60s",
    drain="25s",
    sweep_every="1s",
)
LONG = Outage(
    tokens=2_500,
    concurrency=2_000,
    lasts=timedelta(minutes=2),
    request_timeout="60s",
    lease="140s",
    drain="65s",
    sweep_every="15s",  # as shipped
)


@pytest.fixture
def own_mongod(tmp_path_factory) -> Iterator[Mongod]:
    running = Mongod(tmp_path_factory.mktemp("own-mongod"))
    yield running
    running.remove()


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the machine allows, up to FILES; the daemon inherits that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("outage", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
@pytest.mark.parametrize("restarted", [False, True], ids=["daemon stays", "daemon killed and restarted"])
async def test_replies_that_arrive_during_an_outage_are_all_recorded_after_it(
    own_mongod: Mongod, tmp_path: Path, restarted: bool, outage: Outage, capsys
):
    """Hundreds of replies, withheld by a provider that revokes on reuse, arrive while MongoDB is dead. The loss is noticed
    within 5 s, no further request starts, the daemon stays alive and not ready, and within 30 s of MongoDB's return all
    is recorded, what waited before anything new is asked; also when the daemon was killed in between."""
    async with AsyncExitStack() as closing:
        sandbox = await closing.enter_async_context(Sandbox(SandboxOptions(lifetime=timedelta(minutes=10))))
        stage = Stage(
            tmp_path,
            uri=own_mongod.uri,
            database="outage",
            sandbox=sandbox,
            concurrency=outage.concurrency,
            request_timeout=outage.request_timeout,
            lease=outage.lease,
            drain=outage.drain,
            sweep_every=outage.sweep_every,
        )
        closing.push_async_callback(stage.close)
        place = stage.install(concurrency=outage.concurrency)
        await stage.consent(outage.tokens)
        sandbox.add_fault({"kind": "withhold", "share": 1.0})
        async with place.running() as daemon:
            await stage.until(lambda: stage.refreshes() >= outage.concurrency, of=daemon)
            killed = wall_clock.timestamp()
            own_mongod.kill()
            sandbox.clear_faults()
            noticed = await loss_noticed(daemon, killed)
            await all_waiting(daemon, outage.concurrency)
            if restarted:
                await daemon.stop(signal.SIGKILL)
            else:
                await idle(stage, daemon, outage, until=killed + outage.lasts.total_seconds())
                figures = await recorded(stage, daemon, own_mongod, outage)
        if restarted:
            assert len(stage.journal(place)) == outage.concurrency
            async with place.running() as daemon:
                await daemon.event("store.lost")
                await all_waiting(daemon, outage.concurrency)
                await idle(stage, daemon, outage, until=killed + outage.lasts.total_seconds())
                figures = await recorded(stage, daemon, own_mongod, outage)
        assert stage.journal(place) == set()
        with capsys.disabled():
            print(f"\n{outage.concurrency} replies: loss noticed after {noticed:.1f} s, {figures}")


def presented(stage: Stage) -> int:
    return sum(len(grant["presented"]) for grant in stage.ledger())


async def loss_noticed(daemon: DaemonProcess, killed: float) -> float:
    """How many seconds after the kill the daemon knew."""
    lost = await daemon.event("store.lost", within=2 * NOTICED_WITHIN)  # the time that counts is its own
    after = _instant(lost) - killed
    assert after < NOTICED_WITHIN.total_seconds()
    return after


async def all_waiting(daemon: DaemonProcess, count: int) -> None:
    """Wait until the journal holds so many replies."""
    async with asyncio.timeout(15):
        while await waiting(daemon) != count:
            await asyncio.sleep(0.1)


async def idle(stage: Stage, daemon: DaemonProcess, outage: Outage, *, until: float) -> None:
    """For as long as MongoDB is dead: the daemon is alive and not ready, and asks nothing."""
    while wall_clock.timestamp() < until:
        assert (await ask(daemon, "/livez"))[0] == 200
        assert (await ask(daemon, "/readyz"))[0] == 503
        assert presented(stage) == outage.concurrency
        await asyncio.sleep(LOOK_EVERY.total_seconds())
    assert await waiting(daemon) == outage.concurrency


async def recorded(stage: Stage, daemon: DaemonProcess, mongod: Mongod, outage: Outage) -> str:
    """MongoDB returns. Within 30 s all is recorded and the journal empty, what waited was dealt with first, nothing was
    presented twice, and the ledger agrees. Returns the figures."""
    back = wall_clock.timestamp()
    mongod.start()
    async with asyncio.timeout(RECORDED_WITHIN.total_seconds()):
        while await stage.tokens.count_documents({"revision": {"$ne": 1}}) or await waiting(daemon):
            await asyncio.sleep(0.1)
    took = wall_clock.timestamp() - back
    replayed = [_instant(line) for line in daemon.seen("journal.replayed")]
    last = max(replayed, default=back)
    asked = [grant["presented"][0]["at"] for grant in stage.ledger()]
    new = [at for at in asked if at > back]
    assert len(new) == outage.tokens - outage.concurrency
    assert min(new) >= last
    assert stage.revoked() == []
    assert await stage.differing() == []
    assert [len(grant["presented"]) for grant in stage.ledger()] == [1] * outage.tokens
    assert await daemon.stop() == 0
    return (
        f"{len(replayed)} replayed by {last - back:.1f} s after MongoDB's start, all recorded by {took:.1f} s"
    )


async def waiting(daemon: DaemonProcess) -> int | None:
    """How many replies the journal holds, as /metrics tells. None: the daemon has not opened it yet."""
    _, text = await ask(daemon, "/metrics")
    lines = [line for line in text.splitlines() if line.startswith("refreshd_journal_entries ")]
    return int(float(lines[0].split()[1])) if lines else None


async def ask(daemon: DaemonProcess, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + path) as answer:
        return answer.status, await answer.text()


def _instant(line: dict[str, str]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
