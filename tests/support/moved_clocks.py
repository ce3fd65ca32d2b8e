"""Runs tests while the wall clock shows another day: `python -m tests.support.moved_clocks CLOCK... [-- PYTEST OPTIONS]`.

libfaketime moves it, in every process that the tests start; monotonic time and boot time stay true. Two things it can't
do alone. mongod is started with an empty environment: a program of its name puts libfaketime back. And `time.sleep` of
CPython fails under it (0.9.10 takes the monotonic end of a sleep for a date), so it waits by `select` instead.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

from daemon.adapters.mongo.embedded_mongod import find_mongod
from tests.support import wall_clock

LIBRARY = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
CLOCKS: Mapping[str, Callable[[datetime], datetime]] = {
    "week": lambda now: now + timedelta(days=7),
    "month": lambda now: now + timedelta(days=31),
    "400-days": lambda now: now + timedelta(days=400),
    "decade": lambda now: now + timedelta(days=3653),
    "leap-day": lambda _: datetime(2028, 2, 29, 12, tzinfo=UTC),
    "month-end": lambda _: datetime(2027, 3, 31, 23, 59, tzinfo=UTC),
    "year-end": lambda _: datetime(2027, 12, 31, 23, 59, tzinfo=UTC),
    "summer-time": lambda _: datetime(2027, 3, 28, 0, 59, tzinfo=UTC),  # a minute before Berlin's begins
}
ZONE = {"TZ": "Europe/Berlin"}  # a machine's own; refreshd knows UTC alone

# mongod has libfaketime in its environment, which must be empty; and a daemon can have one moved clock only.
IMPOSSIBLE = (
    "tests/adapters/mongo/test_embedded_mongod.py::test_its_secrets_are_only_in_private_files",
    "tests/faults/test_clock.py",
)

SLEEP = """
import select, time

def sleep(seconds):
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)

time.sleep = sleep
"""


def moved(by: timedelta, home: Path) -> dict[str, str]:
    """The environment in which the clock is ahead by so much, for everything that finds its parts in `home`."""
    faked = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": f"{by.total_seconds():+.0f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # mongod would wait ten times as long
    }
    mongod = home / "fiftyone" / "db" / "bin" / "mongod"  # where the daemon looks first
    mongod.parent.mkdir(parents=True)
    settings = " ".join(f"{name}={quote(value)}" for name, value in faked.items())
    mongod.write_text(f'#!/bin/sh\nexec env {settings} {quote(str(find_mongod()))} "$@"\n')
    mongod.chmod(0o755)
    (home / "sitecustomize.py").write_text(SLEEP)
    return {**os.environ, **faked, **ZONE, "PYTHONPATH": str(home)}


def run(clock: str, options: list[str]) -> int:
    """pytest's exit code, after all tests of `options` under this clock."""
    now = wall_clock.now()
    then = CLOCKS[clock](now)
    print(f"{clock}: the tests begin on {then:%A, %Y-%m-%d at %H:%M:%S} UTC", flush=True)
    without = (f"--deselect={test}" for test in IMPOSSIBLE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *without, *options]
    with TemporaryDirectory() as home:
        return subprocess.run(command, env=moved(then - now, Path(home)), check=False).returncode


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    clocks, options = arguments[:split] or list(CLOCKS), arguments[split + 1 :]
    if unknown := set(clocks) - set(CLOCKS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}. The clocks are {', '.join(CLOCKS)}.")
    if not LIBRARY.exists():
        sys.exit(f"{LIBRARY} is missing (Debian: faketime)")
    failed = [clock for clock in clocks if run(clock, options)]
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
