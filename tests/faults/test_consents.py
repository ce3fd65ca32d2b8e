"""A user consents again while a refresh of the old grant is on its way. Whatever comes of that, and whenever: the newer
consent is what remains.

The daemon's own sweep, refresher, journal and store on a real MongoDB; the provider is played, so that each token's
answer can be chosen. The application writes exactly what the contract tells it to. A consent comes either at a random
moment of real time, or right before one of the commands that recording takes, where a race is won or lost.
"""

import asyncio
import json
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from pymongo import AsyncMongoClient, UpdateOne

from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.pauses import MongoPauses
from daemon.adapters.mongo.store import MongoStore
from daemon.adapters.mongo.token_document import token_of
from daemon.adapters.token_endpoint.rate_limiter import LeakyBucket
from daemon.domain.claim import Claim, StoreLost
from daemon.domain.due import Timing
from daemon.domain.event import Event, InternalError, TokenSuperseded
from daemon.domain.provider import Definition, Provider
from daemon.domain.providers import Providers
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.refreshing.lane import Lane
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.spare import Spare
from daemon.refreshing.sweep import Sweeper, Tally
from daemon.runtime.clock import Clock
from tests.support import wall_clock

TOKENS = 72  # at once; with the situations and the ways below, 1,008 interleavings
ANSWERED = timedelta(milliseconds=30)  # by then the last answer has come
RECORDED = timedelta(milliseconds=200)  # by then, about, the last one is recorded
COMMANDS = (
    100  # as many as recording a round takes, about: few for the results, two for each claim given back
)
LONG_AGO = timedelta(hours=1)
FIRST = "acme:first"  # asked alone, before the others: a lane asks for many only after a grant
RING = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="a")
NEWER = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="b")
ACME = Provider(
    definition=Definition(name="acme", title="Acme", token_url="https://acme.example/token"),
    client_id="me",
    share=TOKENS + 1,
)
Fields = dict[str, Any]


# ---------------------------------------------------------------- what the provider answers

BODIES: Mapping[str, tuple[int, Fields]] = {
    "rotated": (200, {"access_token": "access-1", "refresh_token": "successor", "expires_in": 3600}),
    "kept": (200, {"access_token": "access-1", "expires_in": 3600}),
    "postponed": (429, {"error": "slow_down"}),
    "in doubt": (503, {}),
    "retired": (400, {"error": "invalid_grant"}),
    "withheld": (200, {"ok": True}),
    "withheld but for its access token": (200, {"access_token": "access-1", "refreshToken": "successor"}),
}


def reply(answer: str, *, asked_at: datetime) -> Reply:
    status, body = BODIES[answer]
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=json.dumps(body).encode(),
        whole=True,
        asked_at=asked_at,
    )


# ---------------------------------------------------------------- what happens before the consent

LEASE_OF_ANOTHER = {
    "owner": "other",
    "claim": "theirs",
    **dict.fromkeys(("since", "until", "hold"), datetime(2100, 1, 1, tzinfo=UTC)),
}
UNCONFIRMED = {"times": 2, "writeConcernError": {"code": 64, "errmsg": "timed out"}}
CUT = {"times": 2, "closeConnection": True}


def sealed_anew(name: str) -> Fields:
    """The same value under another key: what is stored no longer looks like what was spent."""
    return {"refresh_token": NEWER.seal(f"spent-{name}", token_id=name, field="refresh_token")}


SITUATIONS: Mapping[str, tuple[Callable[[str], Fields], Fields]] = {  # what is set, and what MongoDB does
    "as read": (lambda _: {"meta": {}}, {}),
    "sealed anew": (sealed_anew, {}),
    "condemned": (lambda _: {"state": "needs_reauth", "due_at": None, "lease": None}, {}),
    "paused": (lambda _: {"state": "paused", "due_at": None}, {}),
    "adopted": (lambda _: {"lease": LEASE_OF_ANOTHER}, {}),
    "unconfirmed": (lambda _: {"meta": {}}, UNCONFIRMED),
    "cut": (lambda _: {"meta": {}}, CUT),
}


# ---------------------------------------------------------------- one round


@dataclass(slots=True, kw_only=True)
class Interleaving:
    """One token's way through a round. The consent comes `after` a while, or before the command of this number."""

    name: str
    answer: str
    answered_after: timedelta
    after: timedelta | None
    before: int | None
    consent: Fields = field(default_factory=dict)  # once it is written


class Round:
    """Some tokens, all claimed and refreshed at once, and an application that writes their consents meanwhile.

    Fits `refreshing.ports.Endpoint`; stands before the daemon's collection of tokens, and counts its commands.
    """

    def __init__(self, mongo: Mongo, clock: Clock, tokens: Any, *, situation: str, replayed: bool) -> None:
        self._mongo, self._clock, self._tokens = mongo, clock, tokens
        self._situation, self._replayed = situation, replayed
        self._chance = Random(f"{situation} {replayed}")
        reads = TOKENS if replayed else 0  # a replay first reads each token
        self.ways = {f"acme:{number}": self._drawn(f"acme:{number}", reads) for number in range(TOKENS)}
        self._genuine = mongo.tokens
        self._commands = 0
        self._beginning: asyncio.Task[None] | None = None
        self._consents: list[asyncio.Task[None]] = []

    def _drawn(self, name: str, reads: int) -> Interleaving:
        chance = self._chance
        timed = chance.random() < 0.5
        before = reads + chance.randrange(8) if chance.random() < 0.4 else chance.randrange(reads + COMMANDS)
        return Interleaving(
            name=name,
            answer=chance.choice(list(BODIES)),
            answered_after=chance.random() * ANSWERED,
            after=chance.random() * RECORDED if timed else None,
            before=None if timed else before,
        )

    # ------------------------------------------------------------ the course of it

    async def insert(self) -> None:
        now = self._clock.now()
        await self._tokens.delete_many({})
        await self._mongo.providers.delete_many({})  # the rest that the round before may have led to
        await self._tokens.insert_many(
            {
                "_id": name,
                "provider": "acme",
                "account": name.removeprefix("acme:"),
                "state": "active",
                "access_token": RING.seal("access-0", token_id=name, field="access_token"),
                "refresh_token": RING.seal(f"spent-{name}", token_id=name, field="refresh_token"),
                "issued_at": now - LONG_AGO,
                "expires_at": now + timedelta(minutes=4),
                "due_at": now - timedelta(minutes=2 if name == FIRST else 1),
            }
            | ({"revision": 7, "failures": 0} if self._chance.random() < 0.7 else {})
            for name in [*self.ways, *([] if self._replayed else [FIRST])]
        )

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        del deadline
        [name] = re.findall(r"spent-(acme%3A\w+)", request.body.decode())
        asked_at = self._clock.now() - timedelta(seconds=1)
        if (name := name.replace("%3A", ":")) == FIRST:
            return reply("kept", asked_at=asked_at)
        way = self.ways[name]
        await self.begin()
        await asyncio.sleep(way.answered_after.total_seconds())
        if way.answer == "in doubt" and self._chance.random() < 0.5:
            return NoReply(code="timeout", message="no answer", sent=True, asked_at=asked_at)
        return reply(way.answer, asked_at=asked_at)

    async def begin(self) -> None:
        """What was claimed is about to be answered: from now on anything may happen to it."""
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._begin())
        await self._beginning

    async def _begin(self) -> None:
        changes, fault = SITUATIONS[self._situation]
        await self._tokens.bulk_write(
            [UpdateOne({"_id": name}, {"$set": changes(name)}) for name in self.ways], ordered=False
        )
        if fault:
            await self._fail(fault)
        self._consents = [
            asyncio.create_task(self._consent_after(way)) for way in self.ways.values() if way.after
        ]
        self._mongo.tokens = self  # type: ignore[assignment]

    async def end(self) -> int:
        """Undo what was put in the way. Returns how many consents came in time; the others are written now."""
        self._mongo.tokens = self._genuine
        await self._fail("off")
        await asyncio.gather(*self._consents)
        late = [way for way in self.ways.values() if not way.consent]
        await self._consent(late)
        return TOKENS - len(late)

    async def _fail(self, mode: Fields | str) -> None:
        command: Fields = {"configureFailPoint": "failCommand", "mode": mode}
        if not isinstance(mode, str):
            times = {"times": mode["times"]}
            data = {name: value for name, value in mode.items() if name != "times"}
            command |= {"mode": times, "data": {"failCommands": ["update"], "appName": "refreshd", **data}}
        await self._tokens.database.client.admin.command(command)

    # ------------------------------------------------------------ the application

    async def _consent_after(self, way: Interleaving) -> None:
        assert way.after is not None
        await asyncio.sleep(way.after.total_seconds())
        await self._consent([way])

    async def _consent(self, ways: list[Interleaving]) -> None:
        """To the letter of the contract."""
        now = wall_clock.now()
        now -= timedelta(microseconds=now.microsecond % 1000)  # as MongoDB gives it back
        for way in ways:
            ring = self._chance.choice([RING, NEWER])
            way.consent = {
                "access_token": ring.seal("access-consent", token_id=way.name, field="access_token"),
                "refresh_token": ring.seal("consent", token_id=way.name, field="refresh_token"),
                "expires_at": now + timedelta(hours=1),
                "issued_at": now,
                "refresh_expires_at": self._chance.choice([None, now + timedelta(days=60)]),
                "state": "active",
                "failures": 0,
                "last_failure": None,
                "due_at": now + self._chance.choice([-timedelta(seconds=5), timedelta(minutes=55)]),
            }
        if ways:
            updates = [UpdateOne({"_id": way.name}, {"$set": way.consent}) for way in ways]
            await self._tokens.bulk_write(updates, ordered=False)

    # ------------------------------------------------------------ the daemon's collection of tokens

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._genuine, name)
        if name == "find":
            return lambda *arguments, **more: _Found(method(*arguments, **more), self._counted)
        return lambda *arguments, **more: self._counted(lambda: method(*arguments, **more))

    async def _counted(self, command: Callable[[], Awaitable[Any]]) -> Any:
        number, self._commands = self._commands, self._commands + 1
        await self._consent([way for way in self.ways.values() if way.before == number])
        return await command()


class _Found:
    def __init__(self, cursor: Any, counted: Callable[..., Awaitable[Any]]) -> None:
        self._cursor, self._counted = cursor, counted

    def __getattr__(self, name: str) -> Any:
        """`sort`, `limit`, `batch_size`: more of the same cursor."""
        method = getattr(self._cursor, name)
        return lambda *arguments: _Found(method(*arguments), self._counted)

    def to_list(self) -> Awaitable[Any]:
        return self._counted(self._cursor.to_list)


# ---------------------------------------------------------------- the daemon


class Daemon:
    """Its sweep and all that belongs to it, put together anew for each round, as a restart does."""

    def __init__(self, mongo: Mongo, clock: Clock, journal: SqliteJournal, endpoint: Round) -> None:
        self.events: list[Event] = []
        self.journal = journal
        self.store = MongoStore(
            mongo,
            owner="me",
            keyring=lambda: RING,
            lease=timedelta(seconds=90),
            hold=lambda _: timedelta(minutes=15),
            chance=lambda: 0.0,  # the oldest first
        )
        refresher = Refresher(
            providers={"acme": ACME},
            store=self.store,
            journal=journal,
            endpoint=endpoint,
            clock=clock,
            chance=lambda: 0.5,
            timing=Timing(),
            observe=self.events.append,
        )
        lane = Lane(
            ACME,
            store=self.store,
            pauses=MongoPauses(mongo, keyring=lambda: RING),
            rate_limiter=lambda one: LeakyBucket(*one.definition.rates),
            journal=journal,
            refresher=refresher,
            clock=clock,
            observe=self.events.append,
            spare=Spare(),
        )
        self.sweeper = Sweeper(
            providers=Providers({"acme": ACME}),
            lane=lambda _: lane,
            store=self.store,
            journal=journal,
            refresher=refresher,
            clock=clock,
            tally=Tally(),
            observe=self.events.append,
            period=timedelta(minutes=1),
        )

    async def claims(self) -> list[Claim]:
        batch = await self.store.claim(ACME, limit=TOKENS + 1, busy=())
        assert all(isinstance(item, Claim) for item in batch.items)
        return [item for item in batch.items if isinstance(item, Claim)]

    async def replay(self) -> None:
        """Again and again until the journal is empty, as sweeps do."""
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.sweeper.replay()
                except StoreLost:
                    continue
                if not self.journal.tokens:
                    return


@asynccontextmanager
async def opened(mongod: str, database: str, path: Path) -> AsyncIterator[tuple[Mongo, Clock, SqliteJournal]]:
    clock, journal = Clock(), SqliteJournal(path, keyring=lambda: RING)
    uri = Secret(f"{mongod}&heartbeatFrequencyMS=500&serverMonitoringMode=poll")
    mongo = Mongo(uri=uri, database=database, collection="tokens", clock=clock, observe=lambda _: None)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(mongo.close)
        await mongo.prepare()
        await journal.open()
        stack.push_async_callback(journal.close)
        yield mongo, clock, journal


async def test_a_consent_at_any_moment_of_a_refresh_is_what_remains(mongod, database_name, tmp_path, capsys):
    """A thousand times: seven kinds of answers, seven situations, straight or through a replay, the consent at a random
    moment between claim and record. It stays whole, due when it says, in no doubt, and free to be claimed."""
    figures: Counter[str] = Counter()
    path = tmp_path / "journal.db"
    async with (
        opened(mongod, database_name, path) as (mongo, clock, journal),
        AsyncMongoClient(mongod, tz_aware=True) as client,
    ):
        tokens = client[database_name]["tokens"]
        for situation, replayed in product(SITUATIONS, (False, True)):
            course = Round(mongo, clock, tokens, situation=situation, replayed=replayed)
            daemon = Daemon(mongo, clock, journal, course)
            await course.insert()
            if replayed:
                for claim in await daemon.claims():
                    answer = course.ways[claim.token.id].answer
                    await journal.keep(claim, reply(answer, asked_at=clock.now() - timedelta(seconds=1)))
                await course.begin()
            else:
                await daemon.sweeper.sweep()
            await daemon.replay()
            assert not [event for event in daemon.events if isinstance(event, InternalError)]
            figures["before the end"] += await course.end()
            superseded = [event for event in daemon.events if isinstance(event, TokenSuperseded)]
            figures["superseded"] += len(superseded)
            figures["successors kept"] += sum(event.successor for event in superseded)
            figures["interleavings"] += TOKENS
            await check(course, daemon, tokens, situation)
    with closing(sqlite3.connect(path)) as database:
        kept = dict(database.execute("select state, count(*) from entries group by state"))
    with capsys.disabled():
        print("\n" + ", ".join(f"{count} {name}" for name, count in figures.items()))
    assert kept.get("superseded", 0) == figures["successors kept"] > 0
    assert set(kept) <= {"superseded", "unparsed"}
    assert figures["interleavings"] >= 1000
    assert figures["superseded"] > figures["interleavings"] / 4


async def check(course: Round, daemon: Daemon, tokens: Any, situation: str) -> None:
    """Each consent is there, whole; no doubt hangs on it; and what of it is due can be claimed at once."""
    async for document in tokens.find({"_id": {"$ne": FIRST}}):
        way = course.ways[document["_id"]]
        told = (situation, way, document)
        assert {name: document[name] for name in way.consent} == way.consent, told
        assert token_of(document, RING).doubt is None, told
        lease = document.get("lease")
        if situation == "adopted":
            assert lease == LEASE_OF_ANOTHER, told
        else:
            assert lease is None or (way.answer == "in doubt" and lease["claim"] is None), told
    claims = {claim.token.id: claim for claim in await daemon.claims()}
    due = {way.name for way in course.ways.values() if way.consent["due_at"] <= wall_clock.now()}
    assert set(claims) == (set() if situation == "adopted" else due)
    for claim in claims.values():
        assert (claim.token.refresh_token, claim.token.doubt) == (Secret("consent"), None), claim.token.id
