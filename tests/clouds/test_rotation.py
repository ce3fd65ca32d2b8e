"""A client secret that changes in Secrets Manager and at the provider, while a daemon renews many tokens."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.clouds.rotation import NEXT, PATIENCE, Rotation, rotation
from tests.support.waiting import until

CLOSELY = timedelta(milliseconds=20)
TROUBLES = ("provider.paused", "token.postponed")


@pytest.fixture
async def running(owner, environment, mongod, database_name: str, tmp_path: Path) -> AsyncIterator[Rotation]:
    async with rotation(tmp_path / "installation", mongod, database_name, owner, environment) as one:
        yield one


async def test_a_client_secret_changes_under_load(running: Rotation):
    """No grant is condemned and no renewal fails: the first refusal leads to one reading, which brings the new secret. So
    the provider is never paused.
    """
    before = running.way.readings
    await running.store_has(NEXT)
    running.provider_has(NEXT)
    await running.renewed(2)
    await running.daemon.event("provider.client_changed", provider="sandbox")
    await running.nothing_lost()
    assert len(running.daemon.seen("provider.client_changed")) == 1
    assert running.way.readings == before + 1
    for trouble in TROUBLES:
        assert running.daemon.seen(trouble) == []


async def test_the_store_learns_the_secret_first(running: Rotation):
    """The old one works as long as the provider takes it: nobody has refused it, so nothing is read."""
    before = running.way.readings
    await running.store_has(NEXT)
    await running.renewed(2)
    assert running.way.readings == before
    assert running.daemon.seen("provider.client_changed") == []
    running.provider_has(NEXT)
    await running.renewed(2)
    await running.nothing_lost()
    assert running.way.readings == before + 1
    assert len(running.daemon.seen("provider.client_changed")) == 1
    for trouble in TROUBLES:
        assert running.daemon.seen(trouble) == []


@pytest.mark.parametrize("readings", [2, 3], ids=["about 6 s later", "about 16 s later"])
async def test_the_provider_learns_the_secret_first(running: Rotation, readings: int):
    """It is paused until the first reading after the store has it, and not longer. Meanwhile it is asked by few probes."""
    before = running.way.readings
    running.provider_has(NEXT)
    await until(lambda: running.way.ended == before + readings, every=CLOSELY, within=PATIENCE)
    paused = await running.daemon.event("provider.paused", provider="sandbox")
    assert paused["reason"] == "wrong_client"
    refused = len(running.daemon.seen("token.postponed"))
    await running.store_has(NEXT)
    await running.daemon.event("provider.client_changed", provider="sandbox", within=PATIENCE)
    assert running.way.readings == before + readings + 1
    await running.daemon.event("provider.resumed", provider="sandbox")
    await running.renewed(2)
    await running.nothing_lost()
    assert running.way.readings == before + readings + 1
    assert len(running.daemon.seen("provider.paused")) == 1
    assert len(running.daemon.seen("token.postponed")) <= refused + 2


@pytest.mark.parametrize("trouble", ["away", "hanging"])
async def test_the_source_is_down_while_the_secret_changes(running: Rotation, trouble: str):
    """The old secret is kept, and read again until the source answers."""
    before = running.way.readings
    if trouble == "away":
        running.way.closed = True
    else:
        running.way.hang()
    running.provider_has(NEXT)
    await running.store_has(NEXT)
    await until(lambda: running.way.readings == before + 2, every=CLOSELY, within=PATIENCE)
    kept = await running.daemon.event("secret.kept", place="providers.sandbox.client_secret")
    assert kept["source"].startswith("aws_secret ")
    running.way.open()
    await running.daemon.event("provider.client_changed", provider="sandbox", within=PATIENCE)
    assert running.way.readings <= before + 3
    await running.renewed(2)
    await running.nothing_lost()


async def test_a_provider_that_takes_its_change_back(running: Rotation):
    """It refuses for some seconds, takes the old secret again, and learns the new one for good later, before the store
    does. No grant is lost, and the readings of the first time are over with the first grant.
    """
    old, before = running.sandbox.client_secret, running.way.readings
    running.provider_has(NEXT)
    await until(lambda: running.way.readings == before + 2, every=CLOSELY, within=PATIENCE)
    running.provider_has(old)
    await running.daemon.event("provider.resumed", provider="sandbox", within=PATIENCE)
    await running.renewed(1)
    quiet = running.way.readings
    await running.store_has(NEXT)
    await running.renewed(2)
    assert running.way.readings == quiet
    assert running.daemon.seen("provider.client_changed") == []
    running.provider_has(NEXT)
    await running.daemon.event("provider.client_changed", provider="sandbox", within=PATIENCE)
    await running.renewed(2)
    await running.nothing_lost()
    assert running.way.readings == quiet + 1


async def test_two_replicas_follow_a_rotation_that_the_provider_learns_first(running: Rotation):
    """Each reads for itself. The one that is later does not hold the other up for long, and no grant is lost."""
    async with running.replica() as other:
        before = running.way.readings
        running.provider_has(NEXT)
        await until(lambda: running.way.ended >= before + 2, every=CLOSELY, within=PATIENCE)
        await running.store_has(NEXT)
        for daemon in (running.daemon, other):
            await daemon.event("provider.client_changed", provider="sandbox", within=PATIENCE)
        await running.renewed(2)
        assert await other.stop() == 0
        assert other.seen("token.needs_reauth") == []
    await running.nothing_lost()
