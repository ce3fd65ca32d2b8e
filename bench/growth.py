"""What stays the same while the store grows: what a sweep looks at, what the daemon holds, how long it takes to start,
what it costs when nothing is due, and how soon one token is renewed.

    python bench/growth.py --stored 10000 100000 1000000 --rounds 5

For each size a fresh MongoDB is filled once. Then, in turns: a hundred tokens fall due and MongoDB's own profiler says
what the daemon's look at them examined; one token falls due, and the sweep that renews it is timed.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from support.processes import PROVIDER, DaemonProcess, Endpoint, Mongod, await_true
from support.report import Report, table
from support.tokens import WINDOW, Tokens

from daemon.adapters.mongo.embedded_mongod import MongodMissing

DUE = 100
TIMED = 200
SOON = timedelta(milliseconds=700)  # after the order: the order itself is over by then
IDLE = timedelta(seconds=45)  # three sweeps at the default period
_SERIES = f'refreshd_tokens{{provider="{PROVIDER}",state="active"}}'

# key, what it says, digits
_ROWS = (
    ("keys", "sweep with 100 due: index keys examined", 0),
    ("documents", "sweep with 100 due: documents examined", 0),
    ("milliseconds", "sweep with 100 due: the look, ms (median of 200)", 2),
    ("one_token_ms", "one due token, sweep to stored, ms (median)", 1),
    ("one_token_ms_max", "one due token, sweep to stored, ms (maximum)", 1),
    ("start_to_ready", "start of the process to ready, seconds", 2),
    ("resident_mb", "daemon: resident memory, MB", 1),
    ("peak_mb", "daemon: peak resident memory, MB", 1),
    ("idle_cpu_percent", "idle: daemon's CPU, percent of one core", 2),
    ("idle_mongod_percent", "idle: mongod's CPU, percent of one core", 2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the daemon on stores of different sizes.")
    parser.add_argument("--stored", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5, help="medians are over these (default: 5)")
    options = parser.parse_args()
    report, found = Report("growth"), dict[int, dict[str, float]]()
    for stored in options.stored:
        print(f"{stored:,} stored", file=sys.stderr)
        found[stored] = _of(stored, rounds=options.rounds)
    head = ["stored", *(f"{stored:,}" for stored in found)]
    rows = ([said, *(f"{one[key]:,.{digits}f}" for one in found.values())] for key, said, digits in _ROWS)
    report.save({"rounds": options.rounds, "found": found}, table(head, rows))


def _of(stored: int, *, rounds: int) -> dict[str, float]:
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        endpoint = closing.enter_context(Endpoint(directory / "nginx"))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        tokens = Tokens(mongod.database)
        tokens.insert(stored)

        def daemon(name: str, sweep_every: str) -> DaemonProcess:
            return DaemonProcess(
                directory / name,
                uri=mongod.uri,
                database=mongod.database.name,
                token_urls={PROVIDER: endpoint.url},
                key=tokens.key,
                sweep_every=sweep_every,
                concurrency=256,
                level="debug",  # each renewal has its line
            )

        with daemon("idle", "15s") as idle:
            start_to_ready = idle.await_ready()
            await_true(lambda: idle.metric(_SERIES) == stored, limit=120, why="the daemon did not count")
            time.sleep(5)
            before, mongod_before = idle.usage(), mongod.usage()
            time.sleep(IDLE.total_seconds())
            after, mongod_after = idle.usage(), mongod.usage()
        with daemon("working", "1s") as working:
            working.await_ready()
            await_true(lambda: working.metric(_SERIES) == stored, limit=120, why="the daemon did not count")
            ways = [_way(mongod, working, number) for number in range(rounds + 1)][
                1:
            ]  # the first: connections
            looks = [_look(mongod, working, number) for number in range(rounds)]
        share = 100 / IDLE.total_seconds()
        return {
            "keys": max(one["keys"] for one in looks),
            "documents": max(one["documents"] for one in looks),
            "milliseconds": median(_looks_timed(mongod)),
            "one_token_ms": median(ways),
            "one_token_ms_max": max(ways),
            "start_to_ready": start_to_ready,
            "resident_mb": after.resident_mb,
            "peak_mb": after.peak_mb,
            "idle_cpu_percent": (after.cpu - before.cpu) * share,
            "idle_mongod_percent": (mongod_after.cpu - mongod_before.cpu) * share,
        }


def _look(mongod: Mongod, daemon: DaemonProcess, number: int) -> dict[str, float]:
    """The query that found a hundred due tokens: what MongoDB says of it, and how long the same one takes from here."""
    database, renewed = mongod.database, daemon.count("token.renewed")
    _fall_due(mongod, range(1000 + number * DUE, 1000 + (number + 1) * DUE))
    database.command("profile", 2)
    await_true(lambda: daemon.count("token.renewed") >= renewed + DUE, limit=30, why=daemon.tail())
    database.command("profile", 0)
    rows = list(database["system.profile"].find({"op": "query", "command.sort": {"due_at": 1}}))
    database["system.profile"].drop()
    found = max(rows, key=lambda row: row["nreturned"])
    assert found["nreturned"] == DUE, found["nreturned"]
    return {"keys": found["keysExamined"], "documents": found["docsExamined"]}


def _looks_timed(mongod: Mongod) -> list[float]:
    """Milliseconds of the same query, asked from here, with a hundred due and no daemon to renew them."""
    at = datetime.now(UTC) - SOON
    names = [f"{PROVIDER}:company-{number:06}" for number in range(DUE)]
    tokens = mongod.database["tokens"]
    tokens.update_many({"_id": {"$in": names}}, {"$set": {"due_at": at, "lease": None}})
    due = {"$gt": datetime(1970, 1, 1, tzinfo=UTC), "$lte": datetime.now(UTC)}
    free = [{"lease": None}, {"lease.owner": "bench"}, {"lease.hold": {"$lte": datetime.now(UTC)}}]
    query = {"provider": PROVIDER, "due_at": due, "$or": free}
    took = []
    for _ in range(TIMED):
        begun = time.perf_counter()
        found = list(
            tokens.find(query, {"lease": 1, "doubt": 1}).sort("due_at", 1).limit(1024).batch_size(1025)
        )
        took.append((time.perf_counter() - begun) * 1000)
        assert len(found) == DUE
    return took


def _way(mongod: Mongod, daemon: DaemonProcess, number: int) -> float:
    """How long the sweep took that found one due token, in milliseconds: it ends when the token is stored."""
    swept = daemon.durations("sweep.finished")
    _fall_due(mongod, range(number, number + 1))
    await_true(lambda: len(daemon.durations("sweep.finished")) > len(swept), limit=30, why=daemon.tail())
    return daemon.durations("sweep.finished")[-1]


def _fall_due(mongod: Mongod, numbers: Sequence[int]) -> None:
    at = datetime.now(UTC) + SOON
    names = [f"{PROVIDER}:company-{number:06}" for number in numbers]
    mongod.database["tokens"].update_many(
        {"_id": {"$in": names}}, {"$set": {"due_at": at, "expires_at": at + WINDOW}}
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
