"""Where the daemon's CPU time for one token goes: each stage of its path apart, and beside them the bare minimum.

    python bench/stages.py --rounds 5

Every stage is the daemon's own code on real parts (nginx, mongod, a disk), run alone in this process with what the
stages before it made. `bare POST` is the same HTTP library as it is usually called, and nothing of ours around it.
"""

import argparse
import asyncio
import io
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import aiohttp
from support.processes import KEY_ID, PROVIDER, Endpoint, Mongod
from support.report import Report, spread, table
from support.tokens import Tokens

from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build_all
from daemon.adapters.mongo.store import MongoStore
from daemon.adapters.telemetry import event_log
from daemon.adapters.telemetry.metrics import Metrics
from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.change import Change
from daemon.domain.claim import Claim, Recorded
from daemon.domain.dialect import read
from daemon.domain.due import Moment, Timing, first_look
from daemon.domain.policy import decide
from daemon.domain.provider import Provider
from daemon.domain.reply import Reply
from daemon.domain.request import Request, refresh_request
from daemon.domain.secret import Secret
from daemon.refreshing.reporting import event_for
from daemon.runtime.clock import Clock
from daemon.runtime.config.providers.definitions import read_definition

IN_FLIGHT = 256
T = TypeVar("T")
STAGES = ("claim", "request", "bare POST", "ask", "keep and forget", "read and decide", "record", "tell")


class Stages:
    """The daemon's parts, each put together as the daemon does it, and what each stage leaves to the next."""

    def __init__(self, *, tokens: Tokens, mongod: Mongod, endpoint: Endpoint, directory: Path) -> None:
        self._clock = Clock()
        ring = KeyRing({KEY_ID: tokens.key}, active=KEY_ID)
        definition = read_definition(PROVIDER, {"token_url": endpoint.url, "client_auth": "basic"})
        self._provider = Provider(
            definition=definition, client_id="bench", client_secret=Secret("s3cret/+"), share=IN_FLIGHT
        )
        self.mongo = Mongo(
            uri=Secret(mongod.uri),
            database=mongod.database.name,
            collection="tokens",
            clock=self._clock,
            observe=lambda _: None,
        )
        self._store = MongoStore(
            self.mongo,
            owner="bench",
            keyring=lambda: ring,
            lease=timedelta(minutes=10),
            hold=lambda _: timedelta(0),
        )
        self.journal = SqliteJournal(directory / "journal.db", keyring=lambda: ring, in_flight=IN_FLIGHT)
        self.endpoint = TokenEndpoint(
            clock=self._clock,
            timeout=timedelta(seconds=30),
            connections=IN_FLIGHT,
            may_start=lambda: self.journal.writable,
        )
        self.bare = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT))
        self._metrics = Metrics(providers={PROVIDER: self._provider}, version="bench")
        self._log = event_log.configure(format="json", level="info", stream=io.StringIO())
        self._claims: list[Claim] = []
        self._requests: list[Request] = []
        self._replies: list[Reply] = []
        self._changes: list[Change] = []

    async def run(self, count: int) -> dict[str, float]:
        """CPU microseconds per token, by stage, over at least `count` tokens that are due."""
        works: Sequence[Callable[[], Awaitable[None]]] = (
            self._claim,
            self._request,
            self._bare,
            self._ask,
            self._keep,
            self._decide,
            self._record,
            self._tell,
        )
        costs, done = dict.fromkeys(STAGES, 0.0), 0
        await self._store.survey([PROVIDER])
        while done < count:
            for name, work in zip(STAGES, works, strict=True):
                before = time.process_time()
                await work()
                costs[name] += time.process_time() - before
            done += len(self._claims)
        return {name: cost / done * 1e6 for name, cost in costs.items()}

    async def _claim(self) -> None:
        batch = await self._store.claim(self._provider, limit=IN_FLIGHT, busy=())
        self._claims = [item for item in batch.items if isinstance(item, Claim)]

    async def _request(self) -> None:
        timing, now = Timing(), self._clock.now()
        for claim in self._claims:
            assert first_look(self._provider, claim.token, moment=Moment(now, 0.5, timing)) is None
        self._requests = [refresh_request(self._provider, claim.token, now=now) for claim in self._claims]

    async def _bare(self) -> None:
        async def post(request: Request) -> None:
            async with self.bare.post(request.url, data=request.body, headers=request.headers) as response:
                await response.read()

        await _each(self._requests, post)

    async def _ask(self) -> None:
        self._replies = []

        async def ask(request: Request) -> None:
            reply = await self.endpoint.send(request, deadline=self._clock.boot() + timedelta(minutes=5))
            assert isinstance(reply, Reply), reply
            self._replies.append(reply)

        await _each(self._requests, ask)

    async def _keep(self) -> None:
        async def keep(pair: tuple[Claim, Reply]) -> None:
            self.journal.forget(await self.journal.keep(*pair))

        await _each(list(zip(self._claims, self._replies, strict=True)), keep)

    async def _decide(self) -> None:
        timing, now = Timing(), self._clock.now()
        self._changes = [
            decide(
                self._provider,
                claim.token,
                read(self._provider, claim.token, reply),
                asked_at=reply.asked_at,
                moment=Moment(now, random.random(), timing),
            )
            for claim, reply in zip(self._claims, self._replies, strict=True)
        ]

    async def _record(self) -> None:
        async def record(pair: tuple[Claim, Change]) -> None:
            assert await self._store.record(*pair) is Recorded.STORED

        await _each(list(zip(self._claims, self._changes, strict=True)), record)

    async def _tell(self) -> None:
        now = self._clock.now()
        for claim, change in zip(self._claims, self._changes, strict=True):
            event = event_for(
                claim.token, change, Recorded.STORED, asked_at=now, now=now, window=timedelta(minutes=5)
            )
            self._metrics(event)
            self._log(event)


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    """`work` on each, IN_FLIGHT at a time."""
    left = iter(items)

    async def some() -> None:
        for item in left:
            await work(item)

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Measures each stage of a token's path.")
    parser.add_argument("--tokens", type=int, default=4_000, help="in each round (default: 4000)")
    parser.add_argument("--rounds", type=int, default=5, help="the median is over these (default: 5)")
    options = parser.parse_args()
    report = Report("stages")
    async with AsyncExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        endpoint = closing.enter_context(Endpoint(directory / "nginx"))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        tokens = Tokens(mongod.database)
        tokens.insert(options.tokens)
        stages = Stages(tokens=tokens, mongod=mongod, endpoint=endpoint, directory=directory)
        closing.push_async_callback(stages.mongo.close)
        closing.push_async_callback(stages.endpoint.close)
        closing.push_async_callback(stages.bare.close)
        await stages.journal.open()
        closing.push_async_callback(stages.journal.close)
        await stages.mongo.prepare()
        await build_all(stages.mongo)
        rounds = []
        for _ in range(options.rounds + 1):  # the first one warms up
            tokens.make_due(datetime.now(UTC) - timedelta(seconds=1))
            rounds.append(await stages.run(options.tokens))
        del rounds[0]
    for one in rounds:
        one["all of ours"] = sum(one.values()) - one["bare POST"]
        one["in bare POSTs"] = one["all of ours"] / one["bare POST"]
    head = "CPU microseconds per token", f"min, **median**, max of {options.rounds}"
    rows = (
        [name, spread([one[name] for one in rounds], digits=2 if name == "in bare POSTs" else 1)]
        for name in rounds[0]
    )
    report.save({"tokens": options.tokens, "rounds": rounds}, table(head, rows))


if __name__ == "__main__":
    asyncio.run(_main())
