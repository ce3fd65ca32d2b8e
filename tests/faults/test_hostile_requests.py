"""Strangers at the health server: whatever they send, probes are answered, tokens are renewed, and nothing grows.

The measured form, with 10,000 requests in each of five pairs of runs, is bench/hostile.py.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from bench.attack import attack
from daemon.runtime.web.client_limits import LIMITS
from tests.e2e.daemon_process import DaemonProcess
from tests.faults.stage import Stage

MakeStage = Callable[..., Awaitable[Stage]]

REQUESTS = 600
TOKENS = 40
TOKEN = "let-me-in-1234567890"
REFUSALS = {"400", "401", "404", "405", "421", "431"}
GROWTH_MB = 60
OTHERS = 12  # descriptors that come and go meanwhile: to MongoDB, to the provider, the journal's


def descriptors(daemon: DaemonProcess) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


def resident_mb(daemon: DaemonProcess) -> float:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


@pytest.mark.slow
async def test_a_daemon_under_attack_goes_on(stage: MakeStage) -> None:
    """Nothing but clean refusals; another address gets its answers; descriptors and memory stay bounded; what falls due
    meanwhile is renewed, and no sweep fails.
    """
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    made = await stage(lifetime=timedelta(minutes=10))
    place = made.install(concurrency=8)
    place.configure({**place.tables, "server": {"port": 0, "bearer_token": TOKEN}})
    async with place.running() as daemon:
        url = await daemon.ready()
        before, memory = descriptors(daemon), resident_mb(daemon)
        attacking = asyncio.create_task(attack(int(url.rpartition(":")[2]), requests=REQUESTS, seed=seed))
        most, probes = before, []
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
            await made.consent(TOKENS)
            while not attacking.done():
                most = max(most, descriptors(daemon))
                async with session.get(url + ("/readyz", "/metrics", "/livez")[len(probes) % 3]) as answer:
                    probes.append(answer.status)
                await asyncio.wait({attacking}, timeout=0.2)
        tally = await attacking
        await daemon.event("token.renewed", count=TOKENS)
        assert (tally.sent, tally.hung) == (REQUESTS, [])
        assert set(tally.answers) <= REFUSALS | {"200"}, tally
        assert tally.answers["400"] > REQUESTS / 20
        assert not [told for told in tally.told if b"refreshd_" in told or b"detail" in told]
        assert set(probes) == {200}
        assert most <= before + LIMITS.connections + OTHERS
        assert resident_mb(daemon) < memory + GROWTH_MB
        assert not daemon.seen("sweep.failed")
        assert {line["level"] for line in daemon.lines} <= {"info"}, daemon.logs[-2000:]
        assert await daemon.stop() == 0
