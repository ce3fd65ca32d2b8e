"""The audit of a busy day: 1,000 access keys read 50,000 tokens, a million times an hour.

    python bench/audit_day.py --hours 1

The counting itself and MongoDB are measured, without HTTP: requests are noted as the routes of the service note them,
with a clock that is moved, and stored every ten seconds of it. At the end, every count must be what was noted.
"""

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.processes import Mongod
from support.report import Report, table
from support.tokens import Tokens

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build_all
from daemon.adapters.mongo.served_lists import ServedLists
from daemon.adapters.mongo.served_uses import ServedUses
from daemon.domain.access_key import AccessKey, Verb
from daemon.domain.audit_position import Position
from daemon.domain.secret import Secret
from daemon.domain.selection import RecordSelection
from daemon.serving.doorkeeper import Caller
from daemon.serving.usage import Usage

EVERY = timedelta(seconds=10)  # as the service stores its counts
HOUR = timedelta(hours=1)
REFUSED = 0.01  # of the requests
Row = list[str]


class MovedClock:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 21, tzinfo=UTC)
        self.skew = None

    def boot(self) -> timedelta:
        return timedelta(seconds=time.monotonic())

    def now(self) -> datetime:
        return self.at

    def set_store_time(self, *_: object, **__: object) -> None:
        pass


class Day:
    """The requests of a day, and what they cost."""

    def __init__(self, options: argparse.Namespace, mongo: Mongo, clock: MovedClock) -> None:
        self._options = options
        self._clock = clock
        self._mongo = mongo
        self._chance = random.Random(3)
        self._callers = [_caller(number) for number in range(options.keys)]
        self._ledger: Counter[tuple[str, str | None]] = Counter()
        self.usage = Usage(ServedUses(mongo, retention=timedelta(days=30)), clock)
        self.noting = self.storing = 0.0

    async def run(self) -> None:
        """Note the requests of each ten seconds, then store them."""
        for _ in range(int(self._options.hours * HOUR / EVERY)):
            self._note(round(self._options.rate * (EVERY / HOUR)))
            began = time.monotonic()
            await self.usage.store()
            self.storing += time.monotonic() - began
            self._clock.at += EVERY

    def _note(self, count: int) -> None:
        """Each token is read by the key of its tenant, and some requests are refused."""
        chance, tokens, keys = self._chance, self._options.tokens, self._options.keys
        drawn = [(chance.randrange(tokens), chance.random() < REFUSED) for _ in range(count)]
        began = time.process_time()
        for number, is_refused in drawn:
            caller = self._callers[number % keys]
            if is_refused:
                self.usage.note(caller, None, "not-found")
            else:
                self.usage.note(caller, f"bench:company-{number:06}", "read")
        self.noting += time.process_time() - began
        for number, is_refused in drawn:
            token = None if is_refused else f"bench:company-{number:06}"
            self._ledger[self._callers[number % keys].key.id, token] += 1

    @property
    def noted(self) -> int:
        return self._ledger.total()

    async def check(self) -> None:
        """End the program unless the stored counts are those that were noted."""
        found: Counter[tuple[str, str | None]] = Counter()
        async for row in self._mongo.access_use.find({"kind": "access"}):
            found[row["by"]["key"], row["token"]] += row["count"]
        if found != self._ledger:
            raise SystemExit("the audit's counts are not what was noted")


def main() -> None:
    options = _options()
    report = Report("audit_day")
    with (
        tempfile.TemporaryDirectory(prefix="refreshd-bench-") as home,
        Mongod(Path(home) / "mongod") as mongod,
    ):
        figures, rows = asyncio.run(_measured(options, mongod))
    report.save(figures, [*table(("", "figure"), rows)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the audit of access keys on this machine.")
    parser.add_argument("--keys", type=int, default=1_000, help="access keys (default: 1000)")
    parser.add_argument("--tokens", type=int, default=50_000, help="stored ones (default: 50000)")
    parser.add_argument("--rate", type=int, default=1_000_000, help="requests an hour (default: 1000000)")
    parser.add_argument("--hours", type=float, default=1, help="of the moved clock (default: 1)")
    parser.add_argument(
        "--unindexed", action="store_true", help="without the index of times, to see its cost"
    )
    return parser.parse_args()


async def _measured(options: argparse.Namespace, mongod: Mongod) -> tuple[dict[str, object], list[Row]]:
    Tokens(mongod.database).insert(options.tokens)
    clock = MovedClock()
    mongo = Mongo(
        uri=Secret(mongod.uri),
        database=mongod.database.name,
        collection="tokens",
        clock=clock,
        observe=lambda _: None,
    )
    await mongo.prepare()
    await build_all(mongo)
    if options.unindexed:
        await mongo.access_use.drop_index("at")
    day = Day(options, mongo, clock)
    store, own, began = mongod.usage().cpu, _own_cpu(), time.monotonic()
    await day.run()
    seconds, store, own = time.monotonic() - began, mongod.usage().cpu - store, _own_cpu() - own
    await day.check()
    rows = await mongo.access_use.count_documents({"kind": "access"})
    hours = options.hours
    figures: dict[str, object] = {
        "keys": options.keys,
        "tokens": options.tokens,
        "requests noted": day.noted,
        "documents in the audit": rows,
        "CPU, noting one request (us)": round(day.noting / day.noted * 1e6, 2),
        "CPU of the process, storing, s an hour": round((own - day.noting) / hours, 1),
        "CPU of MongoDB, s an hour": round(store / hours, 1),
        "requests stored a second": round(day.noted / day.storing),
        "share of ten seconds that storing takes (%)": round(day.storing / (hours * 3600) * 100, 1),
        "seconds of the run": round(seconds, 1),
    }
    if not options.unindexed:
        figures |= {f"page: {name} (ms)": value async for name, value in _pages(mongo)}
    await mongo.close()
    return figures, [
        [name, f"{value:,}"] for name, value in figures.items() if isinstance(value, int | float)
    ]


async def _pages(mongo: Mongo):
    """Five pages of each kind. The middle one's time."""
    wide = {"key": "other", "selectors": ("*",)}
    wishes = {
        "the newest 100": RecordSelection(**wide),
        "one token": RecordSelection(**wide, token="bench:company-000007"),
        "one key, as far as a page looks": RecordSelection(**wide, actor="key 7"),
        "a key with a condition that no token fulfils": RecordSelection(**wide, limits={"subject": "nobody"}),
        "far back": RecordSelection(
            **wide, after=Position(datetime(2026, 11, 21, 0, 30, tzinfo=UTC), "u", None)
        ),
    }
    for name, selection in wishes.items():
        times = []
        for _ in range(5):
            began = time.monotonic()
            await ServedLists(mongo).records(selection, limit=100)
            times.append(time.monotonic() - began)
        yield name, round(statistics.median(times) * 1000, 1)


def _caller(number: int) -> Caller:
    key = AccessKey(
        id=f"key{number:017}",
        name=f"key {number}",
        secret_hash="",
        tokens=("bench:*",),
        can=frozenset({Verb.READ}),
    )
    return Caller(key=key, address="10.0.0.1")


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
