"""An owner hears of every change of their token's state, whatever dies in between: J4.

Tokens of a provider that rejects them die, an operator resumes them, and they die again. MongoDB's change stream shows each
change of a state with its revision: that is the ledger. In the end the receiver has got an event for each line of it, and no
other.
"""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_events import KEPT
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.e2e.test_hooks import OLD, hook, secret
from tests.faults.mongod import FAST_ELECTIONS, ReplicaSet
from tests.faults.stage import Stage
from tests.support import wall_clock
from tests.support.receiver import Receiver

TOKENS = 12
TYPES = {"needs_reauth": "token.needs_reauth", "active": "token.recovered"}
AHEAD = timedelta(hours=1)
FROZEN = timedelta(seconds=70)  # longer than the leases of tokens and of deliveries
SETTLING = timedelta(minutes=3)  # a delivery of a killed process waits for its lease, of a minute
RESUMABLE = {"state": "needs_reauth", f"events.{KEPT - 3}": {"$exists": False}}
SHORT, LONG = 10, 300
Line = tuple[str, str, int]  # token, type, revision


class Later(Clock):
    """An operator whose resumed tokens aren't due at once, so that their failures can be set before."""

    def now(self) -> datetime:
        return super().now() + AHEAD


class Ledger:
    """The changes of states, as MongoDB's change stream shows them."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    async def follow(self, tokens: Any, begun: asyncio.Event) -> None:
        changed = [
            {
                "$match": {
                    "operationType": "update",
                    "updateDescription.updatedFields.state": {"$exists": True},
                }
            }
        ]
        async with await tokens.watch(changed) as stream:
            begun.set()
            async for change in stream:
                fields = change["updateDescription"]["updatedFields"]
                self.lines.append((change["documentKey"]["_id"], TYPES[fields["state"]], fields["revision"]))


class Scene:
    """A stage whose tokens die whenever they are presented, and an operator who resumes them."""

    def __init__(self, stage: Stage, uri: str, database: str, receiver: Receiver) -> None:
        self.stage = stage
        self.ledger = Ledger()
        self.receiver = receiver
        self.mongo = Mongo(
            uri=Secret(uri),
            database=database,
            collection="tokens",
            clock=Later(),
            observe=lambda _event: None,
        )
        self.outbox = AsyncMongoClient[dict[str, Any]](uri)[database]["tokens_outbox"]

    def install(self) -> Installation:
        place = self.stage.install(concurrency=8)
        place.config.write_text(place.config.read_text() + hook("crm", self.receiver.url, secret(OLD)))
        return place

    @property
    def heard(self) -> Counter[Line]:
        rows = (one["data"] | {"type": one["type"]} for one in self.receiver.bodies)
        return Counter((one["id"], one["type"], one["revision"]) for one in rows)

    async def resume(self) -> None:
        """Resume the dead tokens, but none with so many waiting events that one more death would push the oldest out. A
        failure keeps the provider's circuit breaker from counting the next rejection.
        """
        admin = TokenAdmin(
            self.mongo,
            self.stage.places[0].keyring,
            Audit(self.mongo, who=Who(actor="ann@host"), log=lambda _record: None),
        )
        async for token in self.stage.tokens.find(RESUMABLE, {"_id": 1}):
            with suppress(StoreLost):
                await admin.resume(token["_id"])
        await self.stage.tokens.update_many(
            {"state": "active", "due_at": {"$gt": wall_clock.now()}},
            {"$set": {"failures": 1, "due_at": wall_clock.now()}},
        )

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """The ledger is written as long as the block lasts."""
        begun = asyncio.Event()
        following = asyncio.create_task(self.ledger.follow(self.stage.tokens, begun))
        await begun.wait()
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    @asynccontextmanager
    async def operated(self) -> AsyncIterator[None]:
        """The operator works as long as the block lasts."""
        over = asyncio.Event()

        async def work() -> None:
            while not over.is_set():
                with suppress(PyMongoError):  # while there is no primary
                    await self.resume()
                await asyncio.sleep(0.05)

        working = asyncio.create_task(work())
        try:
            yield
        finally:
            over.set()
            await working

    async def settled(self) -> None:
        """Wait until every token is dead, no event waits in a document, and none in the outbox."""
        active = {"state": "active"}
        waiting = {"$or": [active, {"events.0": {"$exists": True}}]}
        async with asyncio.timeout(SETTLING.total_seconds()):
            while (
                await self.stage.tokens.find_one(waiting)
                or await self.outbox.find_one({"state": "waiting"})
                or len(self.heard) < len(self.ledger.lines)
            ):
                due = {"failures": 1, "due_at": wall_clock.now()}
                await self.stage.tokens.update_many({**active, "lease": None}, {"$set": due})
                await asyncio.sleep(0.2)

    def judge(self, said: str, capsys: pytest.CaptureFixture[str]) -> None:
        heard, ledger = self.heard, Counter(self.ledger.lines)
        twice = sum(count - 1 for count in heard.values())
        with capsys.disabled():
            print(f"\n{said}: {len(ledger)} transitions, {len(heard)} heard, {twice} of them once more")
        assert set(ledger.values()) == {1}
        assert set(heard) == set(ledger)

    async def close(self) -> None:
        await self.mongo.close()
        await self.outbox.database.client.close()


@asynccontextmanager
async def opened(directory: Path, uri: str, database: str) -> AsyncIterator[Scene]:
    with Receiver() as receiver:
        async with Sandbox(SandboxOptions()) as sandbox:
            stage = Stage(directory, uri=uri, database=database, sandbox=sandbox, sweep_every="200ms")
            scene = Scene(stage, uri, database, receiver)
            try:
                await scene.mongo.adapt()
                yield scene
            finally:
                await scene.close()
                await stage.close()


async def dead_tokens(scene: Scene) -> None:
    """Tokens whose grants the provider has ended."""
    await scene.stage.consent(TOKENS)
    for grant in scene.stage.ledger():
        scene.stage.sandbox._grants.withdraw(grant["id"])
    await scene.stage.tokens.update_many({}, {"$set": {"failures": 1, "revision": 1}})


async def more(scene: Scene, daemon: DaemonProcess, chance: random.Random) -> None:
    """Wait for some transitions, and then for a random moment of the relay's second."""
    goal = len(scene.ledger.lines) + chance.randrange(1, TOKENS)
    await scene.stage.until(lambda: len(scene.ledger.lines) >= goal, of=daemon)
    await asyncio.sleep(chance.uniform(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "long"])
async def test_no_kill_costs_an_event(
    mongod: str, database_name: str, tmp_path: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL between a change and its delivery, at any moment of it."""
    chance = random.Random(kills)
    async with opened(tmp_path, mongod, database_name) as scene:
        place = scene.install()
        await dead_tokens(scene)
        async with scene.followed():
            async with scene.operated():
                for _ in range(kills):
                    async with place.running() as daemon:
                        await more(scene, daemon, chance)
                        os.kill(daemon.pid, signal.SIGKILL)
            async with place.running() as daemon:
                await scene.settled()
                assert await daemon.stop() == 0
        scene.judge(f"{kills} kills", capsys)


@pytest.mark.slow
async def test_a_receiver_that_is_down_for_three_days_hears_of_everything(
    mongod: str, database_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock is moved the other way round: what is stored is three days older afterwards."""
    async with opened(tmp_path, mongod, database_name) as scene:
        place = scene.install()
        await dead_tokens(scene)
        scene.receiver.answer = lambda _body: 503
        async with scene.followed():
            async with place.running() as daemon, scene.operated():
                await scene.stage.until(lambda: len(scene.ledger.lines) >= 20 * TOKENS, of=daemon)
                assert scene.receiver.requests
            hooks = scene.outbox.database["tokens_hooks"]
            assert (await hooks.find_one({"_id": "crm"}) or {})["rests_until"] is not None
            await aged(scene.outbox, "at", "added_at", "due_at")
            await aged(hooks, "failed_at", "rests_until")
            scene.receiver.requests.clear()
            scene.receiver.answer = lambda _body: 204
            async with place.running() as daemon:
                await scene.settled()
                assert await daemon.stop() == 0
        scene.judge("three days down", capsys)


async def aged(collection: Any, *fields: str) -> None:
    """Let these instants lie three days further back."""
    for field in fields:
        earlier = {"$dateSubtract": {"startDate": f"${field}", "unit": "day", "amount": 3}}
        await collection.update_many({field: {"$type": "date"}}, [{"$set": {field: earlier}}])


@pytest.mark.long  # a freeze lasts longer than the leases, which is most of two minutes
@pytest.mark.parametrize("times", [1, 20], ids=["short", "long"])
async def test_no_freeze_past_a_lease_costs_an_event(
    mongod: str, database_name: str, tmp_path: Path, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two replicas, one stops at a random moment for longer than its leases, and goes on."""
    chance = random.Random(times)
    async with opened(tmp_path, mongod, database_name) as scene:
        places = [scene.install(), scene.install()]
        await dead_tokens(scene)
        async with scene.followed(), places[0].running() as one, places[1].running() as other:
            async with scene.operated():
                for _ in range(times):
                    await more(scene, other, chance)
                    os.kill(one.pid, signal.SIGSTOP)
                    await more(scene, other, chance)
                    await asyncio.sleep(FROZEN.total_seconds())
                    os.kill(one.pid, signal.SIGCONT)
            await scene.settled()
            assert await one.stop() == 0
            assert await other.stop() == 0
        scene.judge(f"{times} freezes", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("losses", [2, pytest.param(10, marks=pytest.mark.long)], ids=["short", "long"])
async def test_no_loss_of_a_primary_costs_an_event(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, losses: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of its writes has a majority before the next step."""
    chance = random.Random(losses)
    members = ReplicaSet(tmp_path_factory.mktemp("replica-set"), FAST_ELECTIONS)
    try:
        async with members, opened(tmp_path, members.uri, "events") as scene:
            place = scene.install()
            await dead_tokens(scene)
            async with scene.followed(), place.running() as daemon:
                async with scene.operated():
                    for _ in range(losses):
                        await more(scene, daemon, chance)
                        old = await members.primary(members.members)
                        old.kill()
                        new = await members.primary([one for one in members.members if one is not old])
                        await more(scene, daemon, chance)
                        old.start()
                        await members.caught_up(old, with_=new)
                await scene.settled()
                assert await daemon.stop() == 0
            scene.judge(f"{losses} primaries lost", capsys)
    finally:
        members.remove()
