"""The main job, measured: a number of due tokens, renewed by the real daemon, as a process, in a real MongoDB.

    python bench/main_job.py --runs 3 --idle

The parts are those of production, except the provider: an nginx that answers at once, so that the figures are ours and
not a provider's. What comes out is checked before it is reported: a fast wrong run is no result.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from parts import PROVIDER, DaemonProcess, Endpoint, Mongod, Usage, await_true
from report import OUT, Results, Sample, machine, save, versions
from tokens import Tokens

from daemon.adapters.embedded_mongod import MongodMissing

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


class Before(NamedTuple):
    """The counters when the work begins."""

    daemon: Usage
    mongod: Usage
    nginx: Usage
    commands: dict[str, int]
    requests: int


def main() -> None:
    options = _options()
    results = Results(
        machine=machine(), versions=versions(), tokens=options.tokens, concurrency=options.concurrency
    )
    for number in range(options.runs):
        print(f"run {number + 1} of {options.runs}: {options.tokens} tokens", file=sys.stderr)
        with _bench(options.tokens) as bench:
            results.runs.append(_run(bench, concurrency=options.concurrency, limit=options.limit))
    if options.idle:
        print(f"idle: {IDLE_TOKENS} tokens, none due", file=sys.stderr)
        with _bench(IDLE_TOKENS) as bench:
            results.idle.append(_idle(bench))
    print(save(results))
    print(f"written to {OUT}", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the daemon's main job on this machine.")
    parser.add_argument("--tokens", type=int, default=10_000, help="how many are due (default: 10000)")
    parser.add_argument("--runs", type=int, default=1, help="min, median and max are over these (default: 1)")
    parser.add_argument("--concurrency", type=int, default=256, help="requests in flight (default: 256)")
    parser.add_argument(
        "--idle", action="store_true", help=f"also watch the daemon idle on {IDLE_TOKENS} tokens"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds until a run has failed")
    return parser.parse_args()


@contextmanager
def _bench(count: int) -> Iterator[Bench]:
    """Everything but the daemon, in a directory of its own: fresh for each run, so that none inherits from another."""
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        endpoint = closing.enter_context(Endpoint(directory / "nginx"))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        tokens = Tokens(mongod.database)
        tokens.insert(count)
        yield Bench(mongod=mongod, endpoint=endpoint, tokens=tokens, directory=directory)


def _daemon(bench: Bench, *, sweep_every: str, concurrency: int) -> DaemonProcess:
    return DaemonProcess(
        bench.directory / "daemon",
        uri=bench.mongod.uri,
        database=bench.mongod.database.name,
        token_urls={PROVIDER: bench.endpoint.url},
        key=bench.tokens.key,
        sweep_every=sweep_every,
        concurrency=concurrency,
    )


def _run(bench: Bench, *, concurrency: int, limit: float) -> Sample:
    count = bench.tokens.count
    with _daemon(bench, sweep_every="1s", concurrency=concurrency) as daemon:
        ready = daemon.await_ready()
        time.sleep(SETTLE.total_seconds())
        due_at = datetime.now(UTC) + LEAD
        bench.tokens.make_due(due_at)
        if datetime.now(UTC) >= due_at:
            raise SystemExit("the tokens could not be made due in time: this machine is too busy")
        before = _before(bench, daemon)
        await_true(
            lambda: daemon.count("token.renewed") >= count,
            limit=limit,
            why=f"not all of {count} tokens were renewed; the daemon's log: {daemon.tail()}",
        )
        time.sleep(SETTLE.total_seconds())
        sample = _sample(bench, daemon, before, ready=ready, due_at=due_at)
        _check(bench, daemon, requests=bench.endpoint.requests() - before.requests)
        return sample


def _before(bench: Bench, daemon: DaemonProcess) -> Before:
    return Before(
        daemon=daemon.usage(),
        mongod=bench.mongod.usage(),
        nginx=bench.endpoint.usage(),
        commands=bench.mongod.commands(),
        requests=bench.endpoint.requests(),
    )


def _sample(bench: Bench, daemon: DaemonProcess, before: Before, *, ready: float, due_at: datetime) -> Sample:
    thousands = bench.tokens.count / 1000
    after = daemon.usage()
    mongod, nginx = bench.mongod.usage(), bench.endpoint.usage()
    commands = {
        name: (total - before.commands.get(name, 0)) / thousands
        for name, total in bench.mongod.commands().items()
        if total > before.commands.get(name, 0)
    }
    first, last = bench.tokens.renewed_between()
    return Sample(
        tokens_per_second=bench.tokens.count / (last - first).total_seconds(),
        seconds_from_due_to_last=(last - due_at).total_seconds(),
        daemon_cpu=(after.cpu - before.daemon.cpu) / thousands,
        mongod_cpu=(mongod.cpu - before.mongod.cpu) / thousands,
        nginx_cpu=(nginx.cpu - before.nginx.cpu) / thousands,
        daemon_peak_mb=after.peak_mb,
        mongo_commands=sum(commands.values()),
        mongo_commands_by_name=commands,
        start_to_ready=ready,
    )


def _check(bench: Bench, daemon: DaemonProcess, *, requests: int) -> None:
    """The promise, before its speed: each token renewed once, with one request, and nothing left behind."""
    count = bench.tokens.count
    metric = daemon.metric('refreshd_refreshes_total{outcome="renewed",provider="bench"}')
    found = {
        "renewed by the metric": metric,
        "requests at the provider": requests,
        "renewed in the database": bench.tokens.renewed(),
        "different refresh tokens": bench.tokens.different_successors(),
    }
    wrong = {name: number for name, number in found.items() if number != count}
    left = daemon.metric("refreshd_journal_entries")
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
