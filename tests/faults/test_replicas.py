"""Two replicas on one database: they share the work, and no refresh token is ever presented twice."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

TOKENS = 300
ROUNDS = 8
AGAIN = timedelta(milliseconds=120)  # everything is made due anew this often, in flight or not


@pytest.mark.slow
async def test_two_replicas_share_the_work_and_present_nothing_twice(stage, capsys):
    """300 tokens, made due again and again while both replicas work on them, at a provider that revokes on reuse."""
    scene = await stage(sweep_every="500ms")
    places = [scene.install(concurrency=32), scene.install(concurrency=32)]
    await scene.consent(TOKENS)
    async with scene.running(places[0]) as one, scene.running(places[1]) as other:
        await asyncio.gather(one.ready(), other.ready())
        while scene.refreshes() < TOKENS * ROUNDS:
            await scene.tokens.update_many({}, {"$set": {"due_at": datetime.now(UTC)}})
            await asyncio.sleep(AGAIN.total_seconds())
        await scene.settled(lambda token: token["lease"] is None, within=timedelta(seconds=30))
        assert [await one.stop(), await other.stop()] == [0, 0]
        shares = [len(daemon.seen("token.renewed")) for daemon in (one, other)]
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
