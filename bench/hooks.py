"""What a dead receiver with many events costs a living one: the time from an event to its arrival, and the memory.

    python bench/hooks.py --backlog 100000 --pairs 3

Each pair is two runs of the couriers of the daemon, in a process of their own, with the real MongoDB and real HTTP. In one
of them a second hook has so many events, and its receiver accepts connections and never answers. Events for the living
one are stored at a steady rate, by the same process, as the relay of the daemon does it. Runs alternate.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

from support.processes import HOST, Mongod
from support.report import Report, spread, table

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.index_build import build_all
from daemon.adapters.mongo.notifying.outbox import delivery_document
from daemon.adapters.telemetry.hook_metrics import HookMetrics
from daemon.domain.event import HookCounted
from daemon.domain.hook import Format, Outcome, Route
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from daemon.runtime.config.hooks import HookSettings
from daemon.runtime.jobs.notifying import Notifying

SECRET = Secret("whsec_" + "c2VjcmV0" * 4)
WARM = timedelta(seconds=5)  # the first count of the backlog, and the first requests to the dead receiver
AT = datetime(2026, 11, 2, 12, tzinfo=UTC)
_ROWS = (
    ("event to arrival, median, ms", "median_ms", 1),
    ("event to arrival, 99th percentile, ms", "p99_ms", 1),
    ("events that did not arrive", "missing", 0),
    ("peak resident memory, MB", "peak_mb", 1),
    ("CPU seconds of the couriers", "cpu", 2),
    ("requests to the dead receiver", "dead_requests", 0),
)


class Run(NamedTuple):
    median_ms: float
    p99_ms: float
    missing: int
    peak_mb: float
    cpu: float
    dead_requests: int


def main() -> None:
    options = _options()
    if options.child:
        print(json.dumps(asyncio.run(_child(json.loads(options.child)))))
        return
    report = Report("hooks")
    runs: dict[bool, list[Run]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as home, Mongod(Path(home)) as mongod:
        for pair in range(options.pairs):
            for beside in (False, True) if pair % 2 else (True, False):
                runs[beside].append(_run(mongod, options, beside=beside, number=2 * pair + beside))
                print(f"pair {pair + 1}, dead receiver: {beside}: {runs[beside][-1]}", file=sys.stderr)
    rows = [
        [
            what,
            *(
                spread([float(getattr(run, name)) for run in runs[one]], digits=digits)
                for one in (False, True)
            ),
        ]
        for what, name, digits in _ROWS
    ]
    ratios = [with_.p99_ms / alone.p99_ms for alone, with_ in zip(runs[False], runs[True], strict=True)]
    report.save(
        {
            "options": vars(options),
            "runs": {str(one): [run._asdict() for run in all_] for one, all_ in runs.items()},
        },
        [
            *table(("", "alone", f"beside a dead receiver with {options.backlog:,} events"), rows),
            "",
            f"99th percentile beside it, against alone: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        ],
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=20, help="events a second for the living receiver")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(mongod: Mongod, options: argparse.Namespace, *, beside: bool, number: int) -> Run:
    with _living() as (living, arrived), _dead() as (dead, requests):
        given = {
            "uri": mongod.uri,
            "collection": f"tokens{number}",
            "living": living,
            "dead": dead if beside else None,
            "backlog": options.backlog if beside else 0,
            "rate": options.rate,
            "seconds": options.seconds,
        }
        command = [sys.executable, __file__, "--child", json.dumps(given)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        child: dict[str, Any] = json.loads(done.stdout)
        mongod.database.client.drop_database("bench")
        times = sorted(arrived[name] - at for name, at in child["stored"].items() if name in arrived)
        return Run(
            median_ms=1000 * median(times),
            p99_ms=1000 * times[int(0.99 * (len(times) - 1))],
            missing=len(child["stored"]) - len(times),
            peak_mb=child["peak_mb"],
            cpu=child["cpu"],
            dead_requests=len(requests),
        )


@contextmanager
def _living() -> Iterator[tuple[str, dict[str, float]]]:
    """A receiver that notes when each event arrived first."""
    arrived: dict[str, float] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            at = time.monotonic()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            arrived.setdefault(body["data"]["code"], at)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with _served(ThreadingHTTPServer((HOST, 0), Handler)) as url:
        yield url, arrived


@contextmanager
def _dead() -> Iterator[tuple[str, list[float]]]:
    """A receiver that reads what comes and never answers."""
    requests: list[float] = []

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65_536):
                requests.extend([time.monotonic()] * data.count(b"POST "))

    with _served(ThreadingTCPServer((HOST, 0), Handler)) as url:
        yield url, requests


@contextmanager
def _served(server: ThreadingTCPServer) -> Iterator[str]:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


# ---------------------------------------------------------------- the process that is measured


async def _child(given: dict[str, Any]) -> dict[str, object]:
    clock = Clock()
    mongo = Mongo(
        uri=Secret(given["uri"]),
        database="bench",
        collection=given["collection"],
        clock=clock,
        observe=lambda _event: None,
    )
    await mongo.prepare()
    await build_all(mongo)
    await _fill(mongo, given["backlog"])
    delivered = 0

    def observe(event: object) -> None:
        nonlocal delivered
        delivered += isinstance(event, HookCounted) and event.outcome is Outcome.DELIVERED

    parts: Any = SimpleNamespace(
        mongo=mongo, clock=clock, observe=observe, metrics=SimpleNamespace(hooks=HookMetrics())
    )
    log: Any = SimpleNamespace(log=lambda *_arguments, **_fields: None)
    notifying = Notifying(parts, log=log, ready=lambda: True)
    hooks = [_hook("living", given["living"])]
    if given["dead"]:
        hooks.append(_hook("dead", given["dead"]))
    notifying.configure(hooks)
    await asyncio.sleep(WARM.total_seconds())
    before = time.process_time()
    stored: dict[str, float] = {}
    began = time.monotonic()
    while (now := time.monotonic()) < began + given["seconds"]:
        name = f"e{len(stored)}"
        stored[name] = now
        await notifying.add([_event(name)])
        await asyncio.sleep(max(0.0, began + len(stored) / given["rate"] - time.monotonic()))
    over = time.monotonic() + 30
    while delivered < len(stored) and time.monotonic() < over:
        await asyncio.sleep(0.05)
    await notifying.close()
    await mongo.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stored": stored, "peak_mb": peak, "cpu": time.process_time() - before}


async def _fill(mongo: Mongo, backlog: int) -> None:
    """Events of the dead hook, stored before."""
    due_at = mongo.clock.now() - timedelta(seconds=1)
    for start in range(0, backlog, 5_000):
        documents = [
            delivery_document(_event(f"old{number}"), "dead", due_at)
            for number in range(start, min(start + 5_000, backlog))
        ]
        await mongo.outbox.insert_many(documents, ordered=False)


def _hook(name: str, url: str) -> HookSettings:
    types: Sequence[str] = ("token.*",) if name == "living" else ("provider.*",)
    route = Route(name=name, events=tuple(types))
    return HookSettings(route=route, url=url, secrets=(SECRET,), format=Format.STANDARD, allow_private=True)


def _event(name: str) -> OwnerEvent:
    return OwnerEvent(
        id=name,
        type=OwnerEventType.NEEDS_REAUTH,
        at=AT,
        who_acts=Actor.OWNER,
        provider="xero",
        token=f"xero:{name}",
        account=name,
        code=name,
        revision=7,
    )


if __name__ == "__main__":
    main()
