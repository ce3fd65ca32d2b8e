"""The main job, measured: a number of due tokens, renewed by the real daemon, as a process, in a real MongoDB.

    python bench/main_job.py --runs 5 --latency 0 50 200 --idle

The parts are those of production, except the provider: an nginx that answers at once, so that the figures are ours and
not a provider's. What comes out is checked before it is reported: a fast wrong run is no result.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from support.main_job_table import Sample, of_rest, of_runs
from support.processes import PROVIDER, DaemonProcess, Endpoint, Mongod, Usage, await_true
from support.report import Report
from support.tokens import WINDOW, Tokens

from daemon.adapters.mongo.embedded_mongod import MongodMissing

LEAD = timedelta(seconds=2)  # from the order "due then" to the moment: the order is not part of the job
SETTLE = timedelta(seconds=1)  # the first count of the store is over, the last journal entry forgotten
IDLE_TOKENS = 100_000
IDLE_SETTLE = timedelta(seconds=5)  # a count of 100,000 documents takes less than a second
IDLE_WATCHED = timedelta(seconds=30)  # two sweeps at the default period


class Bench(NamedTuple):
    """What a run needs, started and torn down with it."""

    mongod: Mongod
    endpoint: Endpoint
    tokens: Tokens
    directory: Path


class Variant(NamedTuple):
    """What the runs that take turns differ in."""

    latency: int  # milliseconds
    daemons: int

    def __str__(self) -> str:
        beside = f", {self.daemons} daemons" if self.daemons > 1 else ""
        return f"provider latency {self.latency} ms{beside}"


class Before(NamedTuple):
    """The counters when the work begins."""

    daemon_cpu: float
    mongod: Usage
    nginx: Usage
    commands: dict[str, int]
    requests: int


def main() -> None:
    options = _options()
    variants = [Variant(latency, daemons) for latency in options.latency for daemons in options.daemons]
    report, runs = Report("main_job"), {variant: list[Sample]() for variant in variants}
    for number in range(options.runs):
        for variant in variants:
            print(f"run {number + 1} of {options.runs}: {options.tokens} tokens, {variant}", file=sys.stderr)
            with _bench(options.tokens, latency=variant.latency) as bench:
                sample = _run(bench, variant, concurrency=options.concurrency, limit=options.limit)
            runs[variant].append(sample)
    common = {"tokens": options.tokens, "concurrency": options.concurrency}
    found = {str(variant): [asdict(sample) for sample in samples] for variant, samples in runs.items()}
    lines = [
        line
        for variant, samples in runs.items()
        for line in of_runs(
            f"{options.tokens:,} due tokens, {variant}, {options.concurrency} in flight", samples
        )
    ]
    rest: dict[str, float] = {}
    if options.idle:
        print(f"idle: {IDLE_TOKENS} tokens, none due", file=sys.stderr)
        with _bench(IDLE_TOKENS) as bench:
            rest = _idle(bench)
        lines += of_rest(f"Idle, {IDLE_TOKENS:,} stored tokens, none due, a sweep every 15 s", rest)
    report.save({**common, "runs": found, "idle": rest}, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the daemon's main job on this machine.")
    parser.add_argument("--tokens", type=int, default=10_000, help="how many are due (default: 10000)")
    parser.add_argument("--runs", type=int, default=1, help="min, median and max are over these (default: 1)")
    parser.add_argument("--concurrency", type=int, default=256, help="requests in flight (default: 256)")
    parser.add_argument(
        "--latency",
        type=int,
        nargs="+",
        default=[0],
        help="of the provider, ms; several take turns (default: 0)",
    )
    parser.add_argument(
        "--daemons",
        type=int,
        nargs="+",
        default=[1],
        help="beside each other; several take turns (default: 1)",
    )
    parser.add_argument(
        "--idle", action="store_true", help=f"also watch the daemon idle on {IDLE_TOKENS} tokens"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds until a run has failed")
    return parser.parse_args()


@contextmanager
def _bench(count: int, *, latency: int = 0) -> Iterator[Bench]:
    """Everything but the daemon, in a directory of its own: fresh for each run, so that none inherits from another."""
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        delay = timedelta(milliseconds=latency)
        endpoint = closing.enter_context(Endpoint(directory / "nginx", latency=delay))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        tokens = Tokens(mongod.database)
        tokens.insert(count)
        yield Bench(mongod=mongod, endpoint=endpoint, tokens=tokens, directory=directory)


def _daemon(bench: Bench, *, sweep_every: str, concurrency: int, number: int = 0) -> DaemonProcess:
    return DaemonProcess(
        bench.directory / f"daemon-{number}",
        uri=bench.mongod.uri,
        database=bench.mongod.database.name,
        token_urls={PROVIDER: bench.endpoint.url},
        key=bench.tokens.key,
        sweep_every=sweep_every,
        concurrency=concurrency,
    )


def _run(bench: Bench, variant: Variant, *, concurrency: int, limit: float) -> Sample:
    count = bench.tokens.count
    with ExitStack() as running:
        daemons = [
            running.enter_context(_daemon(bench, sweep_every="1s", concurrency=concurrency, number=number))
            for number in range(variant.daemons)
        ]
        ready = max(daemon.await_ready() for daemon in daemons)
        time.sleep(SETTLE.total_seconds())
        due_at = datetime.now(UTC) + LEAD + timedelta(seconds=count / 20_000)
        bench.tokens.make_due(due_at)
        if datetime.now(UTC) >= due_at:
            raise SystemExit("the tokens could not be made due in time: this machine is too busy")
        before = _before(bench, daemons)
        await_true(
            lambda: bench.endpoint.requests() - before.requests >= count and bench.tokens.renewed() >= count,
            limit=limit,
            why=f"not all of {count} tokens were renewed; the daemon's log: {daemons[0].tail()}",
        )
        time.sleep(SETTLE.total_seconds())
        sample = _sample(bench, daemons, before, ready=ready, due_at=due_at)
        _check(bench, daemons, requests=bench.endpoint.requests() - before.requests)
        return sample


def _before(bench: Bench, daemons: Sequence[DaemonProcess]) -> Before:
    return Before(
        daemon_cpu=sum(daemon.usage().cpu for daemon in daemons),
        mongod=bench.mongod.usage(),
        nginx=bench.endpoint.usage(),
        commands=bench.mongod.commands(),
        requests=bench.endpoint.requests(),
    )


def _sample(
    bench: Bench, daemons: Sequence[DaemonProcess], before: Before, *, ready: float, due_at: datetime
) -> Sample:
    thousands = bench.tokens.count / 1000
    after = [daemon.usage() for daemon in daemons]
    mongod, nginx = bench.mongod.usage(), bench.endpoint.usage()
    commands = {
        name: (total - before.commands.get(name, 0)) / thousands
        for name, total in bench.mongod.commands().items()
        if total > before.commands.get(name, 0)
    }
    first, last = bench.tokens.renewed_between()
    speed = bench.tokens.count / (last - first).total_seconds()
    cpu = {
        "daemon_cpu": (sum(one.cpu for one in after) - before.daemon_cpu) / thousands,
        "mongod_cpu": (mongod.cpu - before.mongod.cpu) / thousands,
        "nginx_cpu": (nginx.cpu - before.nginx.cpu) / thousands,
    }
    leads = bench.tokens.leads(due_at + WINDOW)
    return Sample(
        tokens_per_second=speed,
        seconds_from_due_to_last=(last - due_at).total_seconds(),
        **cpu,
        share_of_cores=speed * sum(cpu.values()) / 1000 / len(os.sched_getaffinity(0)),
        daemon_peak_mb=max(one.peak_mb for one in after),
        mongo_commands=sum(commands.values()),
        mongo_commands_by_name=commands,
        lead_first_percentile=leads[len(leads) // 100].total_seconds(),
        start_to_ready=ready,
    )


def _check(bench: Bench, daemons: Sequence[DaemonProcess], *, requests: int) -> None:
    """The promise, before its speed: each token renewed once, with one request, and nothing left behind."""
    count = bench.tokens.count
    series = 'refreshd_refreshes_total{outcome="renewed",provider="bench"}'
    metric = sum(daemon.metric(series) for daemon in daemons)
    found = {
        "renewed by the metric": metric,
        "requests at the provider": requests,
        "renewed in the database": bench.tokens.renewed(),
        "different refresh tokens": bench.tokens.different_successors(),
    }
    wrong = {name: number for name, number in found.items() if number != count}
    left = sum(daemon.metric("refreshd_journal_entries") for daemon in daemons)
    if wrong or left or not bench.tokens.one_opens():
        raise SystemExit(
            f"wrong result, not measured: {wrong} instead of {count}; {left} journal entries left"
        )


def _idle(bench: Bench) -> dict[str, float]:
    with _daemon(bench, sweep_every="15s", concurrency=256) as daemon:
        ready = daemon.await_ready()
        await_true(
            lambda: daemon.metric('refreshd_tokens{provider="bench",state="active"}') == IDLE_TOKENS,
            limit=60,
            why="the daemon did not count the store",
        )
        time.sleep(IDLE_SETTLE.total_seconds())
        before, commands = daemon.usage(), sum(bench.mongod.commands().values())
        time.sleep(IDLE_WATCHED.total_seconds())
        after = daemon.usage()
        minutes = IDLE_WATCHED.total_seconds() / 60
        return {
            "resident_mb": after.resident_mb,
            "peak_mb": after.peak_mb,
            "cpu_percent": 100 * (after.cpu - before.cpu) / IDLE_WATCHED.total_seconds(),
            "mongo_commands_per_minute": (sum(bench.mongod.commands().values()) - commands) / minutes,
            "start_to_ready": ready,
        }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
