"""A simulated day of several processes that are killed now and then, and what their audit is then worth."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from support.audited_day import EVERY, HOUR, Traffic
from support.processes import Mongod

from daemon.adapters.mongo.audit import RecordSelection, records
from daemon.adapters.mongo.connection import Mongo

BENCH = Path(__file__).parents[1]
LONGEST = 0.2  # seconds from the beginning of ten seconds to a kill
Counted = tuple[str, str | None, datetime]


class Kills(NamedTuple):
    """The ten seconds of a process whose counts may be lost."""

    process: int
    numbers: list[int]


def run(mongod: Mongod, traffic: Traffic, *, periods: int, kills: int) -> list[Kills]:
    """Let all processes answer their requests, and kill each so many times. Return when that was."""
    with ThreadPoolExecutor(traffic.processes) as threads:
        running = [
            threads.submit(_run, mongod, traffic, process, periods=periods, kills=kills)
            for process in range(traffic.processes)
        ]
        return [one.result() for one in running]


def _run(mongod: Mongod, traffic: Traffic, process: int, *, periods: int, kills: int) -> Kills:
    chance = random.Random(process)
    killed = Kills(process, [])
    first = 0
    for planned in [*sorted(chance.sample(range(periods - 1), kills)), None]:
        last = _until(mongod, traffic, process, first, periods, planned, chance.random() * LONGEST)
        if last is None:
            break
        killed.numbers.append(last)
        first = last + 1
    return killed


def _until(
    mongod: Mongod, traffic: Traffic, process: int, first: int, periods: int, planned: int | None, wait: float
) -> int | None:
    """Run the process from `first` to its end, or kill it after `wait` seconds of the `planned` period. Return the last
    period that it has begun, if it was killed.
    """
    given = {
        **traffic._asdict(),
        "database": mongod.database.name,
        "process": process,
        "first": first,
        "last": periods,
    }
    command = [sys.executable, "-m", "support.audited_day", mongod.uri, json.dumps(given)]
    last = first - 1
    with subprocess.Popen(command, cwd=BENCH, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                last = int(line)
                if planned is not None and last >= planned:
                    time.sleep(wait)
                    child.kill()
                    planned = None
        finally:
            if child.poll() is None and sys.exc_info()[0] is not None:
                child.kill()
    if child.returncode == -signal.SIGKILL:
        return last
    if child.returncode != 0:
        raise SystemExit(f"process {process} ended with {child.returncode}")
    return None


async def checked(mongo: Mongo, traffic: Traffic, killed: list[Kills], *, periods: int) -> dict[str, int]:
    """Compare what `refreshd audit` reads with what was noted. Ends the program unless they are equal but for what was
    noted within the ten seconds of each kill.
    """
    ledger: Counter[Counted] = Counter()
    at_kills: Counter[Counted] = Counter()
    for process, lost in ((one.process, set(one.numbers)) for one in killed):
        for number in range(periods):
            counted = list(traffic.counted(process, number))
            ledger.update(counted)
            if number in lost:
                at_kills.update(counted)
    found: Counter[Counted] = Counter()
    rows = 0
    async for row in records(mongo, RecordSelection(), limit=10**9):
        rows += 1
        by, at, count = row["by"], row["at"], row["count"]
        assert isinstance(by, dict)
        assert isinstance(at, datetime)
        assert isinstance(count, int)
        since = (
            at.replace(minute=0, second=0)
            if row["action"] == "refused"
            else at.replace(hour=0, minute=0, second=0)
        )
        found[by["key"], row["token"], since] += count  # type: ignore[index]
    for one in ledger.keys() | found.keys():
        if not 0 <= ledger[one] - found[one] <= at_kills[one]:
            raise SystemExit(
                f"{one}: {ledger[one]} noted, {found[one]} in the audit, {at_kills[one]} at kills"
            )
    return {
        "requests noted": ledger.total(),
        "kills": sum(len(one.numbers) for one in killed),
        "requests noted in the ten seconds of a kill": at_kills.total(),
        "of them missing from the audit": ledger.total() - found.total(),
        "documents in the audit": rows,
    }


def periods_of(hours: float) -> int:
    return int(hours * HOUR / EVERY)


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
