"""The writing half of the access service on a real MongoDB: its use cases, its adapters, and a look at what is stored."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.door_keys import DoorKeys
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.audit import Record
from daemon.adapters.mongo.connecting.unfinished_consents import UnfinishedConsents
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build_all
from daemon.adapters.mongo.serving.access_audit import AccessDeeds
from daemon.adapters.mongo.serving.lists import ServedLists
from daemon.adapters.mongo.serving.writes import ServedWrites
from daemon.domain.access_key import AccessKey, Verb
from daemon.domain.due import Timing
from daemon.domain.provider import Definition, Provider, Variable
from daemon.domain.secret import Secret
from daemon.domain.token import State
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import Offer, read_patch
from daemon.serving.listing import Listing
from daemon.serving.problems import Problem
from daemon.serving.writing import Stored, Writing
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RING = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="a")
KEYS = DoorKeys.of_ring(RING)
ACME = Provider(
    definition=Definition(name="acme", title="Acme", token_url="https://acme.example/token"), client_id=""
)
SHOP = Provider(
    definition=Definition(
        name="shop",
        title="Shop",
        token_url="https://${shop}.shop.example/token",
        revoke_url="https://${shop}.shop.example/revoke",
        domains=("shop.example",),
        variables={"shop": Variable(pattern=re.compile("[a-z0-9-]+"))},
    ),
    client_id="",
)
EVERY = tuple(Verb)
Document = dict[str, Any]


def response(number: int = 1, **fields: object) -> dict[str, object]:
    """A provider's token response."""
    return {
        "access_token": f"access-{number}",
        "refresh_token": f"refresh-{number}",
        "expires_in": 3600,
        "token_type": "Bearer",
        "scope": "a b",
        **fields,
    }


class AccessBench:
    def __init__(self, uri: str, database: str, *, keys: DoorKeys = KEYS) -> None:
        self.clock = SetClock(NOON)
        self.client: MongoClient[Document] = MongoClient(uri, tz_aware=True)
        self.database = self.client[database]
        self.tokens = self.database["tokens"]
        self.audit = self.database["tokens_audit"]
        self.logged: list[Record] = []
        self.changed: list[str] = []
        self.mongo = Mongo(
            uri=Secret(uri), database=database, collection="tokens", clock=self.clock, observe=lambda _: None
        )
        self.writes = ServedWrites(self.mongo, keys, log=self.logged.append, changed=self.changed.append)
        self.writing = Writing(
            self.writes,
            self.clock,
            providers=lambda: {"acme": ACME, "shop": SHOP},
            timing=Timing(),
            can_seal=keys.writer is not None,
            chance=lambda: 0.0,
        )
        self.lists = ServedLists(self.mongo)
        deeds = AccessDeeds(self.mongo, log=self.logged.append)
        self.listing = Listing(self.lists, self.writing, UnfinishedConsents(self.mongo), deeds)

    async def close(self) -> None:
        await self.mongo.close()
        self.client.close()

    def pass_time(self, span: timedelta) -> None:
        self.clock.passed += span

    def insert(self, name: str = "acme:1", **fields: object) -> str:
        """Store an active token, as `add` does."""
        provider, _, account = name.partition(":")
        number = account
        document = {
            "_id": name,
            "provider": provider,
            "account": account,
            "state": "active",
            "grant": "refresh_token",
            "access_token": RING.seal(f"access-{number}", token_id=name, field="access_token"),
            "refresh_token": RING.seal(f"refresh-{number}", token_id=name, field="refresh_token"),
            "grant_fingerprint": RING.fingerprint(f"refresh-{number}"),
            "issued_at": NOON - MINUTE,
            "expires_at": NOON + 59 * MINUTE,
            "due_at": NOON + 54 * MINUTE,
            "lease": None,
            "failures": 0,
            "last_failure": None,
            "revision": 7,
            "vars": {},
            "extra": {},
            "meta": {},
            **fields,
        }
        self.tokens.insert_one(document)
        return name

    def document(self, name: str = "acme:1") -> Document:
        found = self.tokens.find_one({"_id": name})
        assert found is not None, name
        return found

    def opened(self, name: str = "acme:1") -> tuple[str, str]:
        """The access token and the refresh token that are stored, opened with the ring."""
        document = self.document(name)
        texts = [
            RING.open(document[one], token_id=name, field=one) for one in ("access_token", "refresh_token")
        ]
        return texts[0], texts[1]

    def records(self) -> list[Document]:
        return list(self.audit.find({}, {"_id": 0}).sort("_id", 1))

    @contextmanager
    def fault(self, command: str, *, after: int = 0, **data: object) -> Iterator[None]:
        """MongoDB fails this command, after some that it obeys."""
        mode = {"skip": after} if after else "alwaysOn"
        fault = {"failCommands": [command], "appName": "refreshd", **data}
        self.client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": fault})
        try:
            yield
        finally:
            self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    # ---------------------------------------------------------------- requests

    async def put(self, who: Caller, name: str = "acme:1", number: int = 2, **fields: Any) -> Stored:
        offer = Offer(response=fields.pop("response", response(number)), **fields)
        return await self.writing.put(who, name, offer)

    async def patch(self, who: Caller, name: str = "acme:1", **body: object) -> Stored:
        return await self.writing.patch(who, name, read_patch(body))

    async def problem(self, work: Any) -> Problem:
        with pytest.raises(Problem) as caught:
            await work
        return caught.value


def caller(
    *tokens: str, can: tuple[Verb, ...] = EVERY, where: Mapping[str, str] | None = None, **fields: Any
) -> Caller:
    key = AccessKey(
        id="k" * 20,
        name="billing",
        secret_hash="",
        tokens=tokens or ("acme:*", "shop:*"),
        can=frozenset(can),
        where=dict(where or {}),
    )
    return Caller(key=replace(key, **fields), address="10.0.0.1")


@pytest.fixture
async def bench(mongod: str, database_name: str) -> AsyncIterator[AccessBench]:
    bench = AccessBench(mongod, database_name)
    await bench.mongo.prepare()
    await build_all(bench.mongo)
    yield bench
    await bench.close()


PAUSED = State.PAUSED.value
