"""MongoDB goes away while replies are on their way: every one of them waits in the journal, and nothing new is asked."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from pymongo import MongoClient

from daemon.adapters.embedded_mongod import HOST, OPTIONS, REPLICA_SET, spawn_mongod
from daemon.sandbox import Sandbox, SandboxOptions
from tests.faults.stage import Stage


class Mongod:
    """A replica set of one that can be killed and come back."""

    def __init__(self, home: Path) -> None:
        (home / "db").mkdir()
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        self._home = home
        self.start()
        with MongoClient(HOST, self.port, directConnection=True) as client:
            members = [{"_id": 0, "host": f"{HOST}:{self.port}"}]
            client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
        self.uri = f"mongodb://{HOST}:{self.port}/?replicaSet={REPLICA_SET}"
        with MongoClient(self.uri) as client:
            client.admin.command("ping")

    def start(self) -> None:
        options = ["--dbpath", str(self._home / "db"), "--port", str(self.port)]
        self._child = spawn_mongod([*OPTIONS, *options], log=self._home / "mongod.log")

    def kill(self) -> None:
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()


@pytest.fixture
def own_mongod(tmp_path_factory) -> Iterator[Mongod]:
    running = Mongod(tmp_path_factory.mktemp("own-mongod"))
    yield running
    running.kill()


async def ask(daemon, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + path) as answer:
        return answer.status, await answer.text()


async def waiting(daemon) -> int:
    """How many replies the journal holds, as /metrics tells."""
    _, text = await ask(daemon, "/metrics")
    return int(
        float(
            next(line for line in text.splitlines() if line.startswith("refreshd_journal_entries ")).split()[
                1
            ]
        )
    )


@pytest.mark.parametrize("restarted", [False, True], ids=["daemon stays", "daemon killed and restarted"])
async def test_replies_that_arrive_during_an_outage_are_all_recorded_after_it(
    own_mongod: Mongod, tmp_path: Path, restarted: bool
):
    """Two hundred and fifty replies, withheld by a provider that revokes on reuse, arrive while MongoDB is dead. The loss is
    noticed within 5 s, no further request starts, the daemon stays alive and not ready, and within 30 s of MongoDB's
    return all is recorded, also when the daemon was killed in between."""
    count, concurrency = 300, 250
    async with AsyncExitStack() as closing:
        sandbox = await closing.enter_async_context(Sandbox(SandboxOptions(lifetime=timedelta(minutes=10))))
        stage = Stage(
            tmp_path,
            uri=own_mongod.uri,
            database="outage",
            sandbox=sandbox,
            request_timeout="20s",
            lease="60s",
            drain="25s",
        )
        closing.push_async_callback(stage.close)
        place = stage.install(concurrency=concurrency)
        await stage.consent(count)
        sandbox.add_fault({"kind": "withhold", "share": 1.0})

        def presented() -> int:
            return sum(len(grant["presented"]) for grant in sandbox.ledger())

        async with place.running() as daemon:
            await stage.until(lambda: presented() >= concurrency, of=daemon)
            own_mongod.kill()
            lost_at = time.monotonic()
            sandbox.clear_faults()
            await daemon.event("store.lost", within=timedelta(seconds=5))
            async with asyncio.timeout(15):
                while await waiting(daemon) < concurrency:
                    await asyncio.sleep(0.1)
            assert (await ask(daemon, "/livez"))[0] == 200
            assert (await ask(daemon, "/readyz"))[0] == 503
            await asyncio.sleep(max(0.0, lost_at + 8 - time.monotonic()))
            assert presented() == concurrency
            if not restarted:
                own_mongod.start()
                await settled(stage, daemon, count)
            else:
                await daemon.stop(signal.SIGKILL)
        if restarted:
            async with place.running() as daemon:
                await daemon.event("store.lost")
                assert await waiting(daemon) == concurrency
                own_mongod.start()
                await settled(stage, daemon, count)


async def settled(stage: Stage, daemon, count: int) -> None:
    """All recorded within 30 s; the journal is empty, nothing was presented twice, and the ledger agrees."""
    await stage.settled(lambda document: document.get("revision") == 1, within=timedelta(seconds=30))
    async with asyncio.timeout(10):
        while await waiting(daemon):
            await asyncio.sleep(0.1)
    assert stage.revoked() == []
    assert await stage.differing() == []
    assert [len(grant["presented"]) for grant in stage.sandbox.ledger()] == [1] * count
    assert await daemon.stop() == 0
