"""What a provider that never answers costs another one beside it: the other's time to renewal, alone and in company.

    python bench/isolation.py --pairs 5

Each pair is two runs of the same daemon with both providers configured: in one only the healthy provider has tokens
due, in the other the silent one has as many. Runs alternate, so that whatever else this machine does meets both alike.
"""

import argparse
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.processes import PROVIDER, DaemonProcess, Endpoint, Mongod, await_true
from support.report import Report, spread, table
from support.tokens import Tokens

from daemon.adapters.mongo.embedded_mongod import HOST, MongodMissing

SILENT = "silent"
LEAD = timedelta(seconds=2)


def main() -> None:
    options = _options()
    report, pairs, ratios = Report("isolation"), list[list[str]](), list[float]()
    for number in range(options.pairs):
        order = (False, True) if number % 2 else (True, False)
        p99 = {beside: _run(options.tokens, beside=beside) for beside in order}
        ratios.append(p99[True] / p99[False])
        pairs.append([f"{p99[False] * 1000:.0f}", f"{p99[True] * 1000:.0f}", f"{ratios[-1]:.2f}"])
        print(f"pair {number + 1} of {options.pairs}: {pairs[-1]}", file=sys.stderr)
    head = "time to renewal, 99th percentile, ms: alone", "beside a silent provider", "ratio"
    ratio = f"\nRatio: {spread(ratios, digits=2)} (min, **median**, max)"
    report.save({**vars(options), "pairs": pairs}, [*table(head, pairs), ratio])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what a hanging provider costs a healthy one.")
    parser.add_argument("--tokens", type=int, default=2_000, help="due at each provider (default: 2000)")
    parser.add_argument("--pairs", type=int, default=5, help="the median is over these (default: 5)")
    return parser.parse_args()


def _run(count: int, *, beside: bool) -> float:
    """The healthy provider's 99th percentile of the seconds from due to renewed."""
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        endpoint = closing.enter_context(Endpoint(directory / "nginx"))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        # It takes every connection, reads nothing and never answers: nobody accepts from its queue.
        silence = closing.enter_context(socket.create_server((HOST, 0), backlog=4096))
        healthy = Tokens(mongod.database)
        healthy.insert(count)
        if beside:
            Tokens(mongod.database, provider=SILENT, key=healthy.key).insert(count)
        urls = {PROVIDER: endpoint.url, SILENT: f"http://{HOST}:{silence.getsockname()[1]}/token"}
        with DaemonProcess(
            directory / "daemon",
            uri=mongod.uri,
            database=mongod.database.name,
            token_urls=urls,
            key=healthy.key,
            sweep_every="1s",
            concurrency=256,
            level="debug",  # each renewal has its line
        ) as daemon:
            daemon.await_ready()
            time.sleep(1)
            due_at = datetime.now(UTC) + LEAD
            healthy.make_due(due_at)
            await_true(
                lambda: daemon.count("token.renewed") >= count,
                limit=120,
                why=f"not all renewed: {daemon.tail()}",
            )
            time.sleep(1)
            delays = healthy.delays(due_at)
            daemon.process.kill()  # it would wait for the silent one
    return delays[int(0.99 * (len(delays) - 1))].total_seconds()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
