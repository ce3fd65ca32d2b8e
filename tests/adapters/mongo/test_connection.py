"""The connection: what it says when it can't be made or is lost, and that it says it once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from daemon.adapters.mongo.connection import EPOCH, LoginRefused, Mongo, StoreUriInvalid, due
from daemon.domain.claim import StoreLost
from daemon.domain.event import Event
from daemon.domain.secret import Secret
from daemon.domain.store_event import StoreLost as StoreLostEvent
from daemon.runtime.clock import Clock
from tests.faults.mongod import Mongod

PASSWORD = "s3c/r3t"
FAST = "serverSelectionTimeoutMS=200&connectTimeoutMS=200&heartbeatFrequencyMS=500"


class Watch:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.clock = Clock()
        self.connected: list[Mongo] = []

    def __call__(self, uri: str, database: str = "nothing") -> Mongo:
        # Polled: PyMongo leaves a socket open when it is closed while its second monitor connects.
        calm = f"{uri}&serverMonitoringMode=poll" if "replicaSet" in uri else uri
        mongo = Mongo(
            uri=Secret(calm),
            database=database,
            collection="tokens",
            clock=self.clock,
            observe=self.events.append,
        )
        self.connected.append(mongo)
        return mongo

    @property
    def told(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    watch = Watch()
    yield watch
    await asyncio.gather(*(mongo.close() for mongo in watch.connected))


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://user:{PASSWORD}@host:1/",
        "mongodb://user:s3c",
        "mongodb://user:s3:c@host/",
        "mongodb://user:s3c@host:port/",
        "mongodb://user:s3c@/tokens",
        "mongodb://user:s3c@[::1/",
        "mongodb://user:s3c@host/?tls=s3c",
        "mongodb://user:s3c@host/?nonsense",
        "mongo://user:s3c@host",
        "user:s3c@host",
        "",
    ],
)
async def test_a_uri_that_makes_no_sense_is_refused_without_its_password(watch, uri):
    """One sentence, at once, from wherever PyMongo finds it; no part of the password is in it."""
    with pytest.raises(StoreUriInvalid) as refused:
        watch(uri)
    assert str(refused.value)
    for piece in ("s3c", "r3t", "user"):
        assert piece not in str(refused.value).replace("username", "").replace("Username", "")


async def test_a_file_that_the_uri_names_and_that_is_not_there_is_named(watch):
    """A missing certificate is a sentence with its path, and no traceback."""
    with pytest.raises(StoreUriInvalid, match="/no/such/ca"):
        watch("mongodb://host/?tls=true&tlsCAFile=/no/such/ca.pem")


async def test_a_name_service_that_is_away_is_no_error_of_the_uri(watch):
    """An `srv` address asks the DNS later, and again: nothing is asked before the daemon is up."""
    assert not watch(f"mongodb+srv://user:s3c@cluster.invalid/?{FAST}&srvMaxHosts=1").up


async def test_what_the_uri_states_is_not_overruled(watch, mongod):
    """Our own timeouts are for those that say nothing."""
    stated = watch(f"{mongod}&serverselectionTimeoutMS=1234")
    silent = watch(mongod)
    assert stated._client.options.server_selection_timeout == pytest.approx(1.234)
    assert silent._client.options.server_selection_timeout == pytest.approx(2)


async def test_a_loss_is_told_once_and_so_is_the_return(watch, mongod):
    """The first failure and the first success after it; nothing for those in between."""
    mongo = watch(mongod)
    await mongo.hello()
    for _ in range(2):
        with pytest.raises(StoreLost, match="operation failed: auto reconnect"):
            await mongo.guarded(_failing())
    assert watch.told == ["StoreLost"]
    assert not mongo.up
    for _ in range(2):
        await mongo.hello()
    assert watch.told == ["StoreLost", "StoreBack"]
    assert mongo.up


async def _failing() -> None:
    raise AutoReconnect("connection closed")


@pytest.mark.parametrize("asking", [Mongo.guarded, Mongo.tried], ids=["guarded", "tried"])
async def test_a_cancellation_that_a_command_swallows_is_raised_after_it(watch, mongod, asking):
    """PyMongo waits with asyncio.wait_for, which swallows one up to Python 3.11. A time limit would be lost with it."""
    mongo = watch(mongod)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asking(mongo, _swallowing())


async def test_a_cancelled_task_can_still_ask_while_it_ends(watch, mongod):
    """Only a cancellation that came during the command is raised after it, so clean-up commands run."""
    mongo = watch(mongod)
    asked = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            asked.append(await mongo.guarded(_answering()))

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (asked, task.cancelled()) == ([1], True)


async def _swallowing() -> int:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    return 1


async def _answering() -> int:
    await asyncio.sleep(0)
    return 1


async def test_a_store_that_was_there_from_the_start_is_no_news(watch, mongod):
    """The first answer is what everybody expects."""
    await watch(mongod).hello()
    assert watch.told == []


async def test_the_clock_follows_the_store(watch, mongod):
    """Unknown before the first answer, and then within its round trip of MongoDB's own."""
    with pytest.raises(StoreLost, match="clock"):
        watch.clock.now()
    await watch(mongod).hello()
    with MongoClient[dict[str, Any]](mongod, tz_aware=True) as client:
        theirs = client.admin.command("hello")["localTime"].replace(tzinfo=UTC)
    assert abs(watch.clock.now() - theirs) < timedelta(seconds=2)
    assert watch.clock.skew is not None
    assert abs(watch.clock.skew) < timedelta(seconds=2)


async def test_the_first_contact_makes_the_index_once(watch, mongod, database_name):
    """A replica set is no standalone; preparing again changes nothing."""
    mongo = watch(mongod, database_name)
    assert await mongo.prepare() is False
    assert await mongo.prepare() is False
    indexes = await mongo.tokens.index_information()
    assert indexes["due"]["key"] == [("provider", 1), ("due_at", 1)]
    assert indexes["due"]["partialFilterExpression"] == {"due_at": {"$gt": EPOCH.replace(tzinfo=None)}}
    assert mongo.retryable_writes


async def test_everything_is_written_and_read_with_majority(watch, mongod):
    """What was seen or confirmed survives a failover: on each of the three collections."""
    mongo = watch(mongod)
    for collection in (mongo.tokens, mongo.providers, mongo.audit):
        assert collection.write_concern.document == {"w": "majority", "j": True, "wtimeout": 10000}
        assert collection.read_concern.document == {"level": "majority"}
        assert collection.read_preference.mode == 0
    assert [mongo.tokens.name, mongo.providers.name, mongo.audit.name] == [
        "tokens",
        "tokens_providers",
        "tokens_audit",
    ]


async def test_a_date_that_has_come_is_due_and_nothing_else(watch, mongod, database_name):
    """Not null, text, a number, the year 1, or tomorrow."""
    mongo = watch(mongod, database_name)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    values = [now, now + timedelta(days=1), None, "2026-11-20", 5, datetime(1, 1, 1, tzinfo=UTC), EPOCH]
    await mongo.tokens.insert_many([{"_id": n, "due_at": value} for n, value in enumerate(values)])
    found = await mongo.tokens.find({"due_at": due(now)}).to_list()
    assert [document["_id"] for document in found] == [0]


async def test_what_mongodb_says_is_told_without_what_it_quotes(watch, mongod):
    """It quotes values of documents (a duplicate key, a failed validation) and may quote the URI."""
    mongo, value = watch(mongod), "cAnArY0refresh1token2value3xYz"
    lost = str(mongo.lost(OperationFailure(f'dup key: {{ x: "{value}" }} at {mongo._uri.reveal()}', 11000)))
    assert "dup key" in lost
    assert value not in lost
    assert mongo._uri.reveal() not in lost


async def test_a_refused_login_is_named_without_its_password(watch, mongod):
    """Where, who, and by which database; nothing of the driver's own words."""
    mongo = watch(mongod.replace("mongodb://", "mongodb://user:s3c@") + f"&authSource=admin&{FAST}")
    with pytest.raises(LoginRefused) as lost:
        await mongo.guarded(mongo.tokens.find_one({}))
    host = mongod.partition("://")[2].partition("/")[0]
    assert str(lost.value) == f"MongoDB at {host} rejected the credentials of user (authSource admin)"


@pytest.fixture
def own_mongod(tmp_path: Path) -> Iterator[Mongod]:
    own = Mongod(tmp_path / "own")
    yield own
    own.thaw()
    own.remove()


async def test_a_mongodb_that_stops_answering_is_named_as_the_cause(watch, own_mongod):
    """PyMongo gives up the commands that wait when a heartbeat fails, with the words of an inner error. An operator needs
    the server and what the heartbeat met.
    """
    mongo = watch(f"{own_mongod.uri}&{FAST}")
    await mongo.hello()
    own_mongod.freeze()
    with pytest.raises(StoreLost) as lost:
        await mongo.guarded(mongo.tokens.find_one({}))
    [event] = [event for event in watch.events if isinstance(event, StoreLostEvent)]
    for said in (str(lost.value), event.message):
        assert said.startswith(f"MongoDB at {own_mongod.address} does not answer: a heartbeat failed (")
        assert "timed out" in said
        assert "cancelled" not in said
