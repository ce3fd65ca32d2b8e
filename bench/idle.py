"""What it costs to have many providers with nothing due: commands to MongoDB, connections, CPU; and how long the event
loop stands still at a reload and at the start.

    python bench/idle.py --providers 20 500

A fresh MongoDB and one daemon for each number. After a warm-up all is counted for four sweeps of 15 s. Then the daemon
is sent SIGHUP, three times, while /livez is asked over and over: the longest answer is the longest stall.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from support.processes import PROVIDER, DaemonProcess, Mongod
from support.report import Report, table
from support.tokens import Tokens

from daemon.adapters.mongo.embedded_mongod import MongodMissing

START = WARM_UP = timedelta(seconds=15)
COUNTED = timedelta(seconds=60)
RELOADS = 3
PER_PROVIDER = 2  # tokens, none of them due

# key, what it says, digits
_ROWS = (
    ("commands", "MongoDB commands per second", 1),
    ("connections", "connections of the daemon, most", 0),
    ("mongod_percent", "mongod's CPU, percent of one core", 2),
    ("daemon_percent", "daemon's CPU, percent of one core", 2),
    ("start_to_ready", "start of the process to ready, seconds", 2),
    ("start_stall_ms", "longest answer of /livez in the first 15 s of readiness, ms", 0),
    ("reload_ms", "a reload, SIGHUP to done, ms (longest of 3)", 0),
    ("reload_stall_ms", "longest answer of /livez meanwhile, ms", 0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the daemon at rest, with many providers.")
    parser.add_argument("--providers", type=int, nargs="+", default=[20, 500])
    options = parser.parse_args()
    report, found = Report("idle"), dict[int, dict[str, float]]()
    for count in options.providers:
        print(f"{count} providers", file=sys.stderr)
        found[count] = _of(count)
    head = ["providers", *(f"{count}" for count in found)]
    rows = ([said, *(f"{one[key]:,.{digits}f}" for one in found.values())] for key, said, digits in _ROWS)
    report.save({"found": found}, table(head, rows))


def _of(providers: int) -> dict[str, float]:
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        key = os.urandom(32)
        names = [f"{PROVIDER}-{number}" for number in range(providers)]
        for name in names:
            Tokens(mongod.database, provider=name, key=key).insert(PER_PROVIDER)
        daemon = closing.enter_context(
            DaemonProcess(
                directory / "daemon",
                uri=mongod.uri,
                database=mongod.database.name,
                token_urls={name: f"https://{name}.example/token" for name in names},
                key=key,
                sweep_every="15s",
                concurrency=256,
            )
        )
        own = mongod.connections()
        start_to_ready = daemon.await_ready()
        listens = time.monotonic()
        start_stall = _longest_answer(daemon, lambda: time.monotonic() < listens + START.total_seconds())
        time.sleep(WARM_UP.total_seconds())
        before, mongod_before, commands = daemon.usage(), mongod.usage(), sum(mongod.commands().values())
        until, most = time.monotonic() + COUNTED.total_seconds(), 0
        while time.monotonic() < until:
            most = max(most, mongod.connections() - own)
            time.sleep(1)
        after, mongod_after = daemon.usage(), mongod.usage()
        commands = sum(mongod.commands().values()) - commands
        took, stalls = zip(*(_reload(daemon) for _ in range(RELOADS)), strict=True)
        seconds = COUNTED.total_seconds()
        return {
            "commands": commands / seconds,
            "connections": most,
            "mongod_percent": 100 * (mongod_after.cpu - mongod_before.cpu) / seconds,
            "daemon_percent": 100 * (after.cpu - before.cpu) / seconds,
            "start_to_ready": start_to_ready,
            "start_stall_ms": start_stall,
            "reload_ms": max(took),
            "reload_stall_ms": max(stalls),
        }


def _reload(daemon: DaemonProcess) -> tuple[float, float]:
    """How long a reload takes, and the longest answer of /livez until a second after it. Milliseconds."""
    done, begun = daemon.count("reload.done"), time.monotonic()
    ended: list[float] = []

    def goes_on() -> bool:
        if not ended and daemon.count("reload.done") > done:
            ended.append(time.monotonic())
        return not ended or time.monotonic() < ended[0] + 1

    os.kill(daemon.process.pid, signal.SIGHUP)
    stall = _longest_answer(daemon, goes_on)
    return 1000 * (ended[0] - begun), stall


def _longest_answer(daemon: DaemonProcess, goes_on: Callable[[], bool]) -> float:
    longest = 0.0
    while goes_on():
        begun = time.monotonic()
        daemon.is_alive()
        longest = max(longest, time.monotonic() - begun)
        time.sleep(0.005)
    return 1000 * longest


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
