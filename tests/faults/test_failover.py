"""The primary of three members is lost while the daemon works: the next one knows all that was guarded."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess
from tests.faults.mongod import FAST_ELECTIONS, ReplicaSet
from tests.faults.stage import Stage
from tests.support import wall_clock

TOKENS = 1_000
CONCURRENCY = 64
AT_WORK = 32  # requests in flight when a primary is lost, at least
LIFETIME = timedelta(seconds=1)  # each is due again after half of it: more than can be done
LATENCY = timedelta(milliseconds=50)  # of the provider, so that most of a request's time is spent in flight
BETWEEN = 200  # refreshes between two losses, at least
RESUMED_WITHIN = timedelta(seconds=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How often a primary is lost, and how. A frozen one (SIGSTOP) wakes up and takes itself for the primary still."""

    losses: int
    frozen: bool = False
    settings: Mapping[str, int] = field(default_factory=lambda: FAST_ELECTIONS)
    sweep_every: str = "500ms"


SHORT = Trial(losses=2)
LONG = [Trial(losses=10), Trial(losses=10, settings={}, sweep_every="15s"), Trial(losses=10, frozen=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """When a primary was lost, and when the next one was elected and used: seconds of the epoch."""

    lost: float
    elected: float
    renewed: float  # recorded: the first token that was claimed after the election
    in_flight: int  # at the loss

    def __str__(self) -> str:
        return (
            f"{self.in_flight} in flight, loss -> election {self.elected - self.lost:.2f} s, "
            f"election -> first renewal {self.renewed - self.elected:.2f} s"
        )


@pytest.fixture
async def replica_set(tmp_path_factory, trial: Trial) -> AsyncIterator[ReplicaSet]:
    members = ReplicaSet(tmp_path_factory.mktemp("replica-set"), trial.settings)
    try:
        async with members:
            yield members
    finally:
        members.remove()


@pytest.mark.slow
@pytest.mark.parametrize(
    "trial",
    [SHORT, *(pytest.param(trial, marks=pytest.mark.long) for trial in LONG)],
    ids=["short", "killed", "killed, settings as MongoDB and we ship them", "frozen"],
)
async def test_a_lost_primary_costs_no_grant_and_the_next_one_is_used_within_15_s(
    replica_set: ReplicaSet, tmp_path: Path, trial: Trial, capsys
):
    """With 32 requests and more in flight at a provider without grace, the primary goes, again and again: every grant
    is as the provider's ledger has it, and tokens are renewed again within 15 s of each election."""
    chance = random.Random(trial.losses)
    async with AsyncExitStack() as closing:
        options = SandboxOptions(lifetime=LIFETIME, latency=LATENCY)
        sandbox = await closing.enter_async_context(Sandbox(options))
        uri = replica_set.uri
        stage = Stage(tmp_path, uri=uri, database="failover", sandbox=sandbox, sweep_every=trial.sweep_every)
        closing.push_async_callback(stage.close)
        place = stage.install(concurrency=CONCURRENCY)
        place.configure(
            place.tables | {"log": {"format": "json", "level": "debug"}}
        )  # a line for each renewal
        await stage.consent(TOKENS)
        failovers = []
        async with place.running() as daemon:
            for _ in range(trial.losses):
                await refreshed(BETWEEN, stage, daemon)
                await asyncio.sleep(chance.uniform(0, 0.1))  # not always just when a request has arrived
                failovers.append(await failover(replica_set, stage, daemon, frozen=trial.frozen))
            await refreshed(BETWEEN, stage, daemon)
            assert await daemon.stop() == 0
        with capsys.disabled():
            print(f"\n{trial.losses} primaries lost, {stage.refreshes()} refreshes: {told(daemon)}")
            print("\n".join(map(str, failovers)))
        assert stage.revoked() == []
        assert await stage.differing() == []
        assert stage.journal(place) == set()
        assert max(one.renewed - one.elected for one in failovers) < RESUMED_WITHIN.total_seconds()


async def failover(members: ReplicaSet, stage: Stage, daemon: DaemonProcess, *, frozen: bool) -> Failover:
    """Take the primary away, wait until tokens are renewed again, then give it back and wait until it has caught up."""
    old = await members.primary(members.members)
    others = [member for member in members.members if member is not old]
    while (at_work := await in_flight(daemon)) < AT_WORK:
        pass  # between two claims there may be few
    lost = wall_clock.timestamp()
    if frozen:
        old.freeze()
    else:
        old.kill()
    new = await members.primary(others)
    elected, before = wall_clock.timestamp(), stage.refreshes()
    # What was claimed before the loss has been asked long ago: whatever is asked now was claimed now.
    await stage.until(lambda: stage.refreshes() > before, of=daemon)
    renewed = await first_renewal(stage, daemon, asked_after=elected)
    if frozen:
        old.thaw()
    else:
        old.start()
    await members.caught_up(old, with_=new)
    return Failover(lost=lost, elected=elected, renewed=renewed, in_flight=at_work)


async def first_renewal(stage: Stage, daemon: DaemonProcess, *, asked_after: float) -> float:
    """When the first token was recorded that the provider was asked for after that instant."""
    asked = {
        f"sandbox:{grant['id']}": grant["presented"][-1]["at"]
        for grant in stage.ledger()
        if grant["presented"] and grant["presented"][-1]["at"] >= asked_after
    }
    while True:
        lines = daemon.seen("token.renewed")
        for line in lines:
            at = datetime.fromisoformat(line["timestamp"]).timestamp()
            if at >= asked.get(line["token"], at + 1):
                return at
        await daemon.event("token.renewed", count=len(lines) + 1)


async def refreshed(count: int, stage: Stage, daemon: DaemonProcess) -> None:
    """Wait for this many more."""
    goal = stage.refreshes() + count
    await stage.until(lambda: stage.refreshes() >= goal, of=daemon)


async def in_flight(daemon: DaemonProcess) -> int:
    """As /metrics tells."""
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + "/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return next(int(family.samples[0].value) for family in families if family.name == "refreshd_in_flight")


def told(daemon: DaemonProcess) -> str:
    counts = {
        what: len(daemon.seen(event))
        for what, event in (
            ("in doubt", "token.in_doubt"),
            ("replayed", "journal.replayed"),
            ("superseded", "token.superseded"),
        )
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items())
