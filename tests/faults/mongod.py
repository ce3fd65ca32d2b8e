"""MongoDB servers that a fault test may kill: one alone, or three that go on without one of them."""

import asyncio
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.embedded_mongod import HOST, OPTIONS, REPLICA_SET, spawn_mongod
from tests.support.ports import free_port

# A new primary one second after the old one's death; MongoDB's own settings take ten.
FAST_ELECTIONS = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 500, "heartbeatTimeoutSecs": 1}
ASK_EVERY = timedelta(milliseconds=10)
PATIENCE = timedelta(seconds=30)

Hello = dict[str, Any]


class Member:
    """A mongod process on a port and a directory of its own."""

    def __init__(self, home: Path) -> None:
        (home / "db").mkdir(parents=True)
        self.port = free_port()
        self._home = home
        self.start()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Spawn it; it answers half a second later, or a little more after a crash."""
        options = ["--dbpath", str(self._home / "db"), "--port", str(self.port)]
        self._child = spawn_mongod([*OPTIONS, *options], log=self._home / "mongod.log")

    def kill(self) -> None:
        self._child.send_signal(signal.SIGKILL)
        self._child.wait()

    def freeze(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """For good, with its 300 MB."""
        self.kill()
        shutil.rmtree(self._home)


class Mongod(Member):
    """A replica set of one."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.uri = _initiated([self], {})


class ReplicaSet:
    """Three members, any of which may be killed and started again. Use it as an asynchronous context.

    `settings` are the replica set's own, of its configuration.
    """

    def __init__(self, home: Path, settings: Mapping[str, int]) -> None:
        self.members = [Member(home / f"member-{number}") for number in range(3)]
        self.uri = _initiated(self.members, settings)
        self._clients: dict[Member, AsyncMongoClient[Hello]] = {}

    async def __aenter__(self) -> Self:
        quick = {"directConnection": True, "serverSelectionTimeoutMS": 200, "heartbeatFrequencyMS": 500}
        self._clients = {member: AsyncMongoClient(HOST, member.port, **quick) for member in self.members}
        primary = await self.primary(self.members)
        await asyncio.gather(*(self.caught_up(one, with_=primary) for one in self.members))
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients.values():
            await client.close()

    def remove(self) -> None:
        for member in self.members:
            member.remove()

    async def primary(self, among: Sequence[Member], *, within: timedelta = PATIENCE) -> Member:
        """The one of them that calls itself a writable primary, as soon as one does."""
        async with asyncio.timeout(within.total_seconds()):
            while True:
                for member in among:
                    if (await self._hello(member)).get("isWritablePrimary"):
                        return member
                await asyncio.sleep(ASK_EVERY.total_seconds())

    async def caught_up(self, member: Member, *, with_: Member, within: timedelta = PATIENCE) -> None:
        """Wait until `member` serves, and holds all that `with_` holds now."""
        goal = (await self._hello(with_))["lastWrite"]["opTime"]["ts"]
        async with asyncio.timeout(within.total_seconds()):
            while True:
                said = await self._hello(member)
                serves = said.get("secondary") or said.get("isWritablePrimary")
                if serves and said["lastWrite"]["opTime"]["ts"] >= goal:
                    return
                await asyncio.sleep(ASK_EVERY.total_seconds())

    async def _hello(self, member: Member) -> Hello:
        with suppress(PyMongoError):
            return await self._clients[member].admin.command("hello")
        return {}


def _initiated(members: Sequence[Member], settings: Mapping[str, int]) -> str:
    """Make one replica set of running members. Returns its URI, once it has a primary."""
    hosts = [{"_id": number, "host": member.address} for number, member in enumerate(members)]
    wanted = {"_id": REPLICA_SET, "members": hosts, "settings": dict(settings)}
    for member in reversed(members):  # all of them answer before the first is told of the others
        with MongoClient[Hello](HOST, member.port, directConnection=True) as client:
            client.admin.command("ping")
            if member is members[0]:
                client.admin.command({"replSetInitiate": wanted})
    uri = f"mongodb://{','.join(member.address for member in members)}/?replicaSet={REPLICA_SET}"
    with MongoClient[Hello](uri) as client:
        client.admin.command("ping")  # goes to the primary, so waits for it
    return uri
