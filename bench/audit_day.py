"""The audit of a busy day: 1,000 access keys and workloads read 50,000 tokens, a million times an hour.

    python bench/audit_day.py --hours 1
    python bench/audit_day.py --day

The counting itself and MongoDB are measured, without HTTP: requests are noted as the routes of the service note them,
with a clock that is moved, and stored every ten seconds of it. At the end, every count must be what was noted.

With --day, two processes answer a day with its night, and each is killed now and then while it stores its counts. Then the
audit may lack only what was noted in the ten seconds of a kill, and may have nothing twice.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.audited_day import EVERY, RETENTION, MovedClock, Traffic, connected, note
from support.killed_day import Kills, checked, children_cpu, periods_of, run
from support.processes import Mongod
from support.report import Report, table
from support.tokens import Tokens

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build_all
from daemon.adapters.mongo.serving.lists import ServedLists
from daemon.adapters.mongo.serving.uses import ServedUses
from daemon.domain.audit_position import Position
from daemon.domain.selection import RecordSelection
from daemon.serving.usage import Usage

AN_HOUR, A_DAY = 1.0, 24.0
RATE, DAY_RATE = 1_000_000, 300_000
PROCESSES, KILLS = 2, 6
Figures = dict[str, object]
Row = list[str]


class Day:
    """The requests of some hours to one process, and what they cost."""

    def __init__(self, traffic: Traffic, mongo: Mongo, clock: MovedClock) -> None:
        self._traffic = traffic
        self._clock = clock
        self._mongo = mongo
        self.usage = Usage(ServedUses(mongo, retention=RETENTION), clock)
        self.noted = 0
        self.noting = self.storing = self.drawing = 0.0

    async def run(self, periods: int) -> None:
        """Note the requests of each ten seconds, then store them."""
        callers = self._traffic.callers()
        for number in range(periods):
            began = time.process_time()
            requests = self._traffic.requests(0, number)
            self.noted += len(requests)
            self._clock.at = self._traffic.begins + number * EVERY
            drawn = time.process_time()
            note(self.usage, callers, requests)
            self.drawing, self.noting = (
                self.drawing + drawn - began,
                self.noting + time.process_time() - drawn,
            )
            stored = time.monotonic()
            await self.usage.store()
            self.storing += time.monotonic() - stored


def main() -> None:
    options = _options()
    report = Report("audit_day")
    with (
        tempfile.TemporaryDirectory(prefix="refreshd-bench-") as home,
        Mongod(Path(home) / "mongod") as mongod,
    ):
        Tokens(mongod.database).insert(options.tokens)
        figures = asyncio.run((_killed if options.day else _measured)(options, mongod))
    rows = [[name, f"{value:,}"] for name, value in figures.items() if isinstance(value, int | float)]
    report.save(figures, [*table(("", "figure"), rows)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the audit of access keys on this machine.")
    parser.add_argument("--keys", type=int, default=1_000, help="access keys and workloads (default: 1000)")
    parser.add_argument("--tokens", type=int, default=50_000, help="stored ones (default: 50000)")
    parser.add_argument(
        "--rate",
        type=int,
        help=f"requests an hour, with --day at noon (default: {RATE}, with --day {DAY_RATE})",
    )
    parser.add_argument("--hours", type=float, help="of the moved clock (default: 1, with --day 24)")
    parser.add_argument("--day", action="store_true", help="two processes, day and night, and kills")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"of each process (default: {KILLS})")
    parser.add_argument(
        "--unindexed", action="store_true", help="without the index of times, to see its cost"
    )
    return parser.parse_args()


def _traffic(options: argparse.Namespace, *, processes: int = 1) -> Traffic:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    rate = options.rate or (DAY_RATE if options.day else RATE)
    return Traffic(
        today.isoformat(), rate, options.keys, options.tokens, processes=processes, night=options.day
    )


async def _measured(options: argparse.Namespace, mongod: Mongod) -> Figures:
    traffic = _traffic(options)
    clock = MovedClock(traffic.begins)
    mongo = connected(mongod.uri, mongod.database.name, clock)
    await mongo.prepare()
    await build_all(mongo)
    if options.unindexed:
        await mongo.access_use.drop_index("at")
    day, hours = Day(traffic, mongo, clock), options.hours or AN_HOUR
    store, own, began = mongod.usage().cpu, _own_cpu(), time.monotonic()
    await day.run(periods_of(hours))
    seconds, store, own = time.monotonic() - began, mongod.usage().cpu - store, _own_cpu() - own
    compared = await checked(mongo, traffic, [Kills(0, [])], periods=periods_of(hours))
    figures: Figures = {
        "keys": options.keys,
        "tokens": options.tokens,
        "requests noted": day.noted,
        "documents in the audit": compared["documents in the audit"],
        "CPU, noting one request (us)": round(day.noting / day.noted * 1e6, 2),
        "CPU of the process, storing, s an hour": round((own - day.noting - day.drawing) / hours, 1),
        "CPU of MongoDB, s an hour": round(store / hours, 1),
        "requests stored a second": round(day.noted / day.storing),
        "share of ten seconds that storing takes (%)": round(day.storing / (hours * 3600) * 100, 1),
        "seconds of the run": round(seconds, 1),
    }
    if not options.unindexed:
        figures |= {f"page: {name} (ms)": value async for name, value in _pages(mongo, traffic)}
    await mongo.close()
    return figures


async def _killed(options: argparse.Namespace, mongod: Mongod) -> Figures:
    traffic, hours = _traffic(options, processes=PROCESSES), options.hours or A_DAY
    mongo = connected(mongod.uri, mongod.database.name, MovedClock(traffic.begins))
    await mongo.prepare()
    store, began = mongod.usage().cpu, time.monotonic()
    own = children_cpu()
    killed = await asyncio.to_thread(run, mongod, traffic, periods=periods_of(hours), kills=options.kills)
    seconds, store, own = time.monotonic() - began, mongod.usage().cpu - store, children_cpu() - own
    figures: Figures = {"keys": options.keys, "tokens": options.tokens, "processes": PROCESSES}
    figures |= await checked(mongo, traffic, killed, periods=periods_of(hours))
    await mongo.close()
    return figures | {
        "CPU of both processes, s an hour": round(own / hours, 1),
        "CPU of MongoDB, s an hour": round(store / hours, 1),
        "seconds of the run": round(seconds, 1),
    }


async def _pages(mongo: Mongo, traffic: Traffic) -> AsyncIterator[tuple[str, float]]:
    """Five pages of each kind. The middle one's time."""

    def wide(**wish: Any) -> RecordSelection:
        return RecordSelection(key="other", selectors=("*",), **wish)

    wishes = {
        "the newest 100": wide(),
        "one token": wide(token="bench:company-000007"),
        "one key, as far as a page looks": wide(actor="key 7"),
        "a key with a condition that no token fulfils": wide(limits={"subject": "nobody"}),
        "far back": wide(after=Position(traffic.begins + timedelta(minutes=30), "u", None)),
    }
    for name, selection in wishes.items():
        times = []
        for _ in range(5):
            began = time.monotonic()
            await ServedLists(mongo).records(selection, limit=100)
            times.append(time.monotonic() - began)
        yield name, round(statistics.median(times) * 1000, 1)


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
