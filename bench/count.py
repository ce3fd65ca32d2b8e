"""What the count of a large store takes, and whether it is right: gauges against what was seeded, on two replicas.

    python bench/count.py --stored 10000 10000000

For each size a fresh MongoDB is filled by itself ($out), with tokens of 40 providers, none of which is due but for a few
that another instance holds; some are dead, stuck, set aside, ending, watched or without a date. Two daemons run on it. Ten
million take about 4 GB of memory's disk cache and disk, and a quarter of an hour.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.processes import DaemonProcess, Mongod, await_true
from support.report import Report, table

from daemon.adapters.mongo.connection import DUE_INDEX, Mongo
from daemon.adapters.mongo.counting.statistics import repair_undated
from daemon.adapters.mongo.embedded_mongod import MongodMissing
from daemon.adapters.mongo.indexes import TOKEN_INDEXES
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock

PROVIDERS = 40
AT_ONCE = 1000  # documents that are made of one
IDLE = timedelta(seconds=60)
PATIENCE = timedelta(minutes=15)

# key, what it says, digits
_ROWS = (
    ("megabytes", "data, MB", 0),
    ("index_megabytes", "indexes, MB", 0),
    ("first_count", "start to the first count of the whole store, seconds", 1),
    ("took", "MongoDB's time for it, seconds", 1),
    ("mongod_cpu", "mongod's CPU until then, seconds", 1),
    ("wrong", "gauges that differ from what was seeded", 0),
    ("other_wrong", "... on the replica that does not count", 0),
    ("undated", "tokens without a date, found by the hourly repair", 0),
    ("repair", "the repair, seconds", 1),
    ("idle_cpu_percent", "idle: daemon's CPU, percent of one core", 2),
    ("other_cpu_percent", "idle: the other daemon's", 2),
    ("idle_mongod_percent", "idle, counting goes on: mongod's CPU, percent of one core", 2),
    ("resident_mb", "daemon: resident memory, MB", 1),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the count of a large store, and checks it.")
    parser.add_argument("--stored", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    options = parser.parse_args()
    report, found = Report("count"), dict[int, dict[str, float]]()
    for stored in options.stored:
        print(f"{stored:,} stored", file=sys.stderr)
        found[stored] = _of(stored)
    head = ["stored", *(f"{stored:,}" for stored in found)]
    rows = ([said, *(f"{one[key]:,.{digits}f}" for one in found.values())] for key, said, digits in _ROWS)
    report.save({"found": found}, table(head, rows))


def _of(stored: int) -> dict[str, float]:
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        now = datetime.now(UTC)
        _seed(mongod, stored, now)
        expected = _expected(mongod)
        stats = mongod.database.command("collstats", "tokens")
        before, key = mongod.usage(), os.urandom(32)
        one = closing.enter_context(_daemon(directory / "one", mongod, key))
        one.await_ready()
        begun = time.monotonic()
        await_true(lambda: _counted(one) > 0, limit=PATIENCE.total_seconds(), why=one.tail())
        first_count, after = time.monotonic() - begun, mongod.usage()
        wrong = _wrong(one, expected)
        other = closing.enter_context(_daemon(directory / "other", mongod, key))
        other.await_ready()
        await_true(lambda: _counted(other) > 0, limit=60, why=other.tail())
        other_wrong = _wrong(other, expected)
        repaired = _repair(mongod)
        time.sleep(20)
        usages = [part.usage() for part in (mongod, one, other)]
        time.sleep(IDLE.total_seconds())
        used = [
            100 * (part.usage().cpu - was.cpu) / IDLE.total_seconds()
            for part, was in zip((mongod, one, other), usages, strict=True)
        ]
        return {
            "megabytes": stats["size"] / 1e6,
            "index_megabytes": stats["totalIndexSize"] / 1e6,
            "first_count": first_count,
            "took": one.metrics()["refreshd_count_duration_seconds"],
            "mongod_cpu": after.cpu - before.cpu,
            "wrong": len(wrong),
            "other_wrong": len(other_wrong),
            "undated": repaired[0],
            "repair": repaired[1],
            "idle_mongod_percent": used[0],
            "idle_cpu_percent": used[1],
            "other_cpu_percent": used[2],
            "resident_mb": one.usage().resident_mb,
        }


def _daemon(home: Path, mongod: Mongod, key: bytes) -> DaemonProcess:
    return DaemonProcess(
        home,
        uri=mongod.uri,
        database=mongod.database.name,
        token_urls={f"p{n:02}": f"https://p{n}.example/token" for n in range(PROVIDERS)},
        key=key,
        sweep_every="15s",
        concurrency=256,
    )


def _seed(mongod: Mongod, stored: int, now: datetime) -> None:
    """MongoDB makes them of a few: number `n` decides what becomes of each."""
    database, each = mongod.database, min(AT_ONCE, stored)
    database["seed"].insert_many([{"first": first} for first in range(0, stored, each)])
    n, hour, day = "$n", timedelta(hours=1), timedelta(days=1)

    def every(count: int, then: object, otherwise: object) -> dict[str, Any]:
        """`then` for one of so many numbers."""
        return {"$cond": [{"$eq": [{"$mod": [n, count]}, count - 1]}, then, otherwise]}

    def failure(kind: str) -> dict[str, object]:
        return {"kind": kind, "code": kind, "message": "as the bench wants it", "at": now}

    later = {"$add": [now + 2 * hour, {"$multiply": [{"$mod": [{"$multiply": [n, 7919]}, 72_000]}, 1000]}]}
    account = {"$concat": ["account-", {"$toString": n}]}
    provider = {
        "$concat": ["p", {"$substrBytes": [{"$toString": {"$add": [100, {"$mod": [n, PROVIDERS]}]}}, 1, 2]}]
    }
    sealed = "v1.elsewhere." + "A" * 100
    held = {
        "owner": "gone",
        "claim": "c",
        "since": now - hour,
        "until": now - hour / 2,
        "hold": now + 10 * hour,
    }
    document = {
        "_id": {"$concat": [provider, ":", account]},
        "provider": provider,
        "account": account,
        "state": every(53, "needs_reauth", every(211, "paused", "active")),
        "access_token": sealed,
        "refresh_token": every(4999, None, sealed),
        "expires_at": every(9973, now - hour, every(4999, now - hour, {"$add": [later, 300_000]})),
        "refresh_expires_at": every(307, {"$add": [now + 20 * day, {"$multiply": [n, 100]}]}, None),
        "consent_ends_at": every(2503, now + 3 * day, None),
        "due_at": every(9973, now - hour, every(4999, None, every(99_991, None, later))),
        "lease": every(9973, held, None),
        "failures": 0,
        "last_failure": every(
            53, failure("rejected"), every(7001, failure("stuck"), every(6007, failure("unreadable"), None))
        ),
        "revision": 1,
    }
    database["seed"].aggregate(
        [
            {"$set": {"n": {"$range": ["$first", {"$min": [stored, {"$add": ["$first", each]}]}]}}},
            {"$unwind": "$n"},
            {"$replaceWith": document},
            {"$out": "tokens"},
        ],
        allowDiskUse=True,
    )
    database["seed"].drop()
    # Those of a store that has had a daemon. A first start builds all but `due` beside its work.
    database["tokens"].create_indexes([DUE_INDEX, *TOKEN_INDEXES])


def _expected(mongod: Mongod) -> dict[str, int]:
    """The gauges as MongoDB itself counts them, by plain questions."""
    tokens, now = mongod.database["tokens"], datetime.now(UTC)
    active: dict[str, object] = {"state": "active"}
    not_stuck = {"last_failure.kind": {"$ne": "stuck"}}
    asked: dict[str, dict[str, object]] = {
        "expired_tokens": {**active, "expires_at": {"$lt": now}, **not_stuck},
        "stuck_tokens": {**active, "last_failure.kind": "stuck"},
        "set_aside_tokens": {"last_failure.kind": "unreadable"},
        "held_tokens": {"due_at": {"$lt": now}, "lease.hold": {"$gt": now}},
        "ending_tokens": {
            **active,
            "$or": [
                {"consent_ends_at": {"$lt": now + timedelta(days=7)}},
                {"refresh_token": None, "due_at": None, "expires_at": {"$lt": now + timedelta(days=7)}},
            ],
        },
    }
    counts: dict[str, int] = {}
    for gauge, query in asked.items():
        for row in tokens.aggregate([{"$match": query}, {"$group": {"_id": "$provider", "n": {"$sum": 1}}}]):
            counts[f'refreshd_{gauge}{{provider="{row["_id"]}"}}'] = row["n"]
    group = {"_id": {"provider": "$provider", "state": "$state"}, "n": {"$sum": 1}}
    for row in tokens.aggregate([{"$group": group}]):
        counts[f'refreshd_tokens{{provider="{row["_id"]["provider"]}",state="{row["_id"]["state"]}"}}'] = row[
            "n"
        ]
    return counts


def _wrong(daemon: DaemonProcess, expected: dict[str, int]) -> list[str]:
    shown = daemon.metrics()
    wrong = [
        f"{name}: {shown.get(name)}, not {count}"
        for name, count in expected.items()
        if shown.get(name) != count
    ]
    _say(wrong)
    return wrong


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _counted(daemon: DaemonProcess) -> float:
    return float(daemon.metrics().get("refreshd_counted_timestamp_seconds", 0))


def _repair(mongod: Mongod) -> tuple[int, float]:
    """As the daemon does it once an hour."""

    async def repair() -> int:
        mongo = Mongo(
            uri=Secret(mongod.uri),
            database=mongod.database.name,
            collection="tokens",
            clock=Clock(),
            observe=lambda event: _say([f"{event}"]),
        )
        await mongo.hello()
        found = await repair_undated(mongo)
        await mongo.close()
        return len(found)

    begun = time.monotonic()
    return asyncio.run(repair()), time.monotonic() - begun


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
