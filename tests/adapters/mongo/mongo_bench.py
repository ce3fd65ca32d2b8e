"""A bench for tests of the store: one database, the stores of several owners on it, an application, and MongoDB's faults."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build_all
from daemon.adapters.mongo.store import MongoStore
from daemon.domain.answer import Granted
from daemon.domain.change import Change, Postponed, Renewed, Retired, Scheduled, Withheld
from daemon.domain.claim import Batch, Claim
from daemon.domain.event import Event
from daemon.domain.journal_entry import Entry
from daemon.domain.provider import Definition, Provider
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure, FailureKind
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=90)
ADOPT_AFTER = timedelta(minutes=15)
RING = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="a")
NEWER = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="b")
STRANGE = KeyRing({"c": b"\x03" * 32}, active="c")
ACME = Provider(
    definition=Definition(name="acme", title="Acme", token_url="https://acme.example/token"), client_id="me"
)
Wish = dict[str, Any]


class Bench:
    """One database, the stores of several owners on it, and an application that writes into it."""

    def __init__(self, uri: str, database: str) -> None:
        self.clock = SetClock(NOON)
        self.events: list[Event] = []
        self.client: MongoClient[dict[str, Any]] = MongoClient(
            uri, tz_aware=True, datetime_conversion="DATETIME_AUTO"
        )
        self.tokens = self.client[database]["tokens"]
        self.providers = self.client[database]["tokens_providers"]
        self.database = self.client[database]
        self.mongos: list[Mongo] = []
        self._uri, self._name = f"{uri}&heartbeatFrequencyMS=500&serverMonitoringMode=poll", database
        self.ring = RING

    def store(
        self,
        owner: str = "me",
        *,
        keyring: KeyRing | None = None,
        chance: Callable[[], float] = lambda: 0.0,  # from the oldest on
    ) -> MongoStore:
        mongo = Mongo(
            uri=Secret(self._uri),
            database=self._name,
            collection="tokens",
            clock=self.clock,
            observe=self.events.append,
        )
        self.mongos.append(mongo)
        return MongoStore(
            mongo,
            owner=owner,
            keyring=lambda: keyring or self.ring,
            lease=LEASE,
            hold=lambda provider: ADOPT_AFTER,
            chance=chance,
        )

    def insert(self, number: str = "1", *, unset: tuple[str, ...] = (), **fields: Any) -> str:
        """A token that came due a minute ago."""
        name = f"acme:{number}"
        document = {
            "_id": name,
            "provider": "acme",
            "account": number,
            "state": "active",
            "access_token": seal(name, "access-0", "access_token"),
            "refresh_token": seal(name, "refresh-0"),
            "issued_at": NOON - timedelta(hours=1),
            "expires_at": NOON + timedelta(minutes=4),
            "due_at": NOON - timedelta(minutes=1),
            "revision": 7,
            "failures": 0,
            "meta": {"company": "Example Ltd"},
            **fields,
        }
        self.tokens.insert_one({key: value for key, value in document.items() if key not in unset})
        return name

    def set(self, name: str, **fields: Any) -> None:
        self.tokens.update_one({"_id": name}, {"$set": fields})

    def document(self, name: str = "acme:1") -> dict[str, Any]:
        found = self.tokens.find_one({"_id": name})
        assert found is not None
        return found

    def refresh_token(self, name: str = "acme:1") -> str:
        return NEWER.open(self.document(name)["refresh_token"], token_id=name, field="refresh_token")

    def consent(self, name: str = "acme:1") -> Wish:
        """What an application sets after its user consented again, to the letter of the contract."""
        fields: Wish = {
            "access_token": seal(name, "access-consent", "access_token"),
            "refresh_token": seal(name, "refresh-consent"),
            "expires_at": NOON.replace(microsecond=0) + timedelta(hours=2),
            "issued_at": NOON.replace(microsecond=0),
            "refresh_expires_at": None,
            "state": "active",
            "failures": 0,
            "last_failure": None,
            "due_at": NOON.replace(microsecond=0) - timedelta(seconds=1),
        }
        self.set(name, **fields)
        return fields

    @contextmanager
    def fault(self, *commands: str, times: int, **data: Any) -> Iterator[None]:
        """MongoDB misbehaves towards refreshd, and towards nobody else."""
        self._fail_command({"times": times}, failCommands=list(commands), appName="refreshd", **data)
        try:
            yield
        finally:
            self._fail_command("off")

    def _fail_command(self, mode: Any, **data: Any) -> None:
        self.client.admin.command(
            {"configureFailPoint": "failCommand", "mode": mode, **({"data": data} if data else {})}
        )


def seal(name: str, text: str, field: str = "refresh_token", ring: KeyRing = RING) -> str:
    return ring.seal(text, token_id=name, field=field)


@pytest.fixture(scope="module")
def database(mongod: str) -> Iterator[str]:
    """One for all tests of this file: to drop one takes MongoDB longer than most of them."""
    name = "test_mongo_store"
    yield name
    with MongoClient[dict[str, Any]](mongod) as client:
        client.drop_database(name)


@pytest.fixture
async def bench(mongod: str, database: str) -> AsyncIterator[Bench]:
    bench = Bench(mongod, database)
    bench.tokens.delete_many({})
    bench.providers.delete_many({})
    bench.database.drop_collection("system.profile")
    await bench.store().survey(["acme"])
    await bench.mongos[0].prepare()
    await build_all(bench.mongos[0])
    yield bench
    await asyncio.gather(*(mongo.close() for mongo in bench.mongos))
    bench.client.close()


async def claim_one(store: MongoStore, *, busy: tuple[str, ...] = ()) -> Claim:
    [item] = (await store.claim(ACME, limit=10, busy=busy)).items
    assert isinstance(item, Claim)
    return item


def names(batch: Batch) -> list[str]:
    return [item.token.id if isinstance(item, Claim) else item.token for item in batch.items]


def renewed(
    successor: str | None = "refresh-1", *, access: str = "access-1", extra: Wish | None = None
) -> Renewed:
    granted = Granted(
        access_token=Secret(access),
        refresh_token=Secret(successor) if successor else None,
        token_type="Bearer",
        scope="read",
        expires_at=NOON + timedelta(hours=1),
        extra=extra or {},
    )
    return Renewed(
        granted=granted,
        successor=Secret(successor) if successor else None,
        issued_at=NOON,
        refreshed_at=NOON,
        due_at=NOON + timedelta(minutes=55),
        refresh_expires_at=NOON + timedelta(days=60),
    )


def failure(kind: FailureKind = FailureKind.UNAVAILABLE) -> Failure:
    return Failure(kind=kind, code="http_503", message="back soon", at=NOON)


def postponed(doubt: Doubt | None = None) -> Postponed:
    return Postponed(failure=failure(), failures=1, due_at=NOON + timedelta(seconds=5), doubt=doubt)


IN_DOUBT = postponed(Doubt(since=NOON, tries=1))
RETIRED = Retired(failure=failure(FailureKind.REJECTED), failures=1)
WITHHELD = Withheld(failure=failure(FailureKind.UNPARSED), renewed=renewed(None))
CHANGES: dict[str, Change] = {
    "rotated": renewed(),
    "kept": renewed(None),
    "postponed": postponed(),
    "in doubt": IN_DOUBT,
    "retired": RETIRED,
    "withheld": WITHHELD,
    "scheduled": Scheduled(due_at=NOON + timedelta(minutes=9)),
}
LOST = {"closeConnection": True}
AMBIGUOUS = [
    pytest.param(1, {"writeConcernError": {"code": 64, "errmsg": "timed out"}}, id="applied, not confirmed"),
    pytest.param(2, LOST, id="connection closed twice"),
]


def entry_of(claim: Claim, *, spent: str | None = None) -> Entry:
    reply = Reply(
        status=200, content_type="application/json", retry_after=None, body=b"{}", whole=True, asked_at=NOON
    )
    return Entry(
        key=1,
        token=claim.token.id,
        provider="acme",
        claim=claim.id,
        spent=spent or claim.spent,
        spent_field=claim.spent_field,
        reply=reply,
    )


def adopted(bench: Bench) -> None:
    bench.set(
        "acme:1", lease={"owner": "other", "claim": "theirs", "since": NOON, "until": NOON, "hold": NOON}
    )


class Meddled:
    """The tokens collection, with something that happens right before the n-th command or right after the last."""

    def __init__(self, collection: Any, *, before: int, meddle: Callable[[], object]) -> None:
        self._collection = collection
        self._left = before
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name == "find":
            return lambda *arguments, **more: _Found(method(*arguments, **more), self._counted)
        return lambda *arguments, **more: self._counted(lambda: method(*arguments, **more))

    async def _counted(self, command: Callable[[], Awaitable[Any]]) -> Any:
        if self._left == 0:
            self._meddle()
        self._left -= 1
        return await command()


class _Found:
    def __init__(self, cursor: Any, counted: Callable[..., Awaitable[Any]]) -> None:
        self._cursor, self._counted = cursor, counted

    def to_list(self) -> Awaitable[Any]:
        return self._counted(self._cursor.to_list)
