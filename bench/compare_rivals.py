"""The daemon against what a user would build instead, in turn, on the same tokens, endpoint, sealing and durability.

    python bench/compare_rivals.py --runs 5

Each run has a MongoDB and an endpoint of its own, and what it leaves in the database is checked before it counts.
"""

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from support.contenders import CONTENDERS, Contender
from support.installed import install_node, install_venv, need, rival_versions
from support.processes import KEY_ID, Endpoint, Mongod, Usage, await_true
from support.report import Report
from support.rivals_table import Run, tables
from support.running import Place, Running
from support.tokens import Tokens

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.embedded_mongod import MongodMissing

LEAD = timedelta(
    seconds=2
)  # from the order "due then" to the moment, and more for many: the order is not measured
ORDERED_IN_A_SECOND = 10_000
SETTLE = timedelta(seconds=1)
PAUSE = timedelta(milliseconds=100)  # between two looks: they are not to be felt
_GIVEN = re.compile(
    r"1//0g/([0-9a-f]{32})\+AAB/\1-L9Ir ya29\.a0/\1\+\1/\1\+\1/\1_AbCdEf"
)  # one reply of the endpoint


class Before(NamedTuple):
    """The counters when the work begins."""

    client: Usage
    broker: Usage | None
    mongod: Usage
    nginx: Usage
    requests: int


def main() -> None:
    options = _options()
    contenders = [CONTENDERS[number] for number in options.only] if options.only else list(CONTENDERS)
    _install(contenders)
    report, runs = Report("rivals", used=rival_versions()), list[Run]()
    for number in range(options.runs):
        for contender in _turned(contenders, number):
            count = options.tokens or contender.tokens
            in_flight = options.in_flight or contender.in_flight
            run = _run(contender, count=count, in_flight=in_flight, limit=options.limit, number=number)
            print(
                f"round {number + 1} of {options.runs}: {contender.name}: {count} tokens, {in_flight} in flight:"
                f" {run.tokens_per_second:.0f}/s, {run.client_cpu:.3f} CPU s per 1,000",
                file=sys.stderr,
            )
            runs.append(run)
    report.save({"runs": [asdict(run) for run in runs]}, tables(runs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The daemon against what a user would build instead.")
    named = ", ".join(f"{number} {contender.name}" for number, contender in enumerate(CONTENDERS))
    parser.add_argument("--runs", type=int, default=1, help="of each, in turn (default: 1)")
    parser.add_argument(
        "--tokens",
        type=int,
        help="the same number for all (default: each as many as take it 5 to 15 seconds)",
    )
    parser.add_argument("--in-flight", type=int, help="the same for all (default: each what is best for it)")
    parser.add_argument(
        "--only", type=int, nargs="+", choices=range(len(CONTENDERS)), metavar="N", help=f"of: {named}"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds until a run has failed")
    return parser.parse_args()


def _install(contenders: Sequence[Contender]) -> None:
    needed = {program for contender in contenders for program in contender.needs}
    need(sorted(needed))
    install_venv()
    if "node" in needed:
        install_node()


def _turned(contenders: Sequence[Contender], by: int) -> list[Contender]:
    """Each begins a round once, so that nobody is always behind the same one."""
    start = by % len(contenders)
    return [*contenders[start:], *contenders[:start]]


def _run(contender: Contender, *, count: int, in_flight: int, limit: float, number: int) -> Run:
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        endpoint = closing.enter_context(Endpoint(directory / "nginx"))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        place = Place(directory, mongod, endpoint, Tokens(mongod.database))
        place.tokens.insert(count)
        running = closing.enter_context(contender.start(place, in_flight))
        running.await_ready()
        time.sleep(SETTLE.total_seconds())
        before = _herd(place, running)
        _await_renewed(place, running, limit=limit)
        time.sleep(SETTLE.total_seconds())
        _check(place, requests=endpoint.requests() - before.requests)
        return _measured(contender, place, running, before, in_flight=in_flight, number=number)


def _herd(place: Place, running: Running) -> Before:
    """All tokens are due."""
    due_at = datetime.now(UTC) + LEAD + timedelta(seconds=place.tokens.count / ORDERED_IN_A_SECOND)
    place.tokens.make_due(due_at)
    left = (due_at - datetime.now(UTC)).total_seconds()
    if left < 0:
        raise SystemExit("the tokens could not be made due in time: this machine is too busy")
    before = Before(
        client=running.usage(),
        broker=running.broker(),
        mongod=place.mongod.usage(),
        nginx=place.endpoint.usage(),
        requests=place.endpoint.requests(),
    )
    time.sleep(left)
    running.begin()
    return before


def _await_renewed(place: Place, running: Running, *, limit: float) -> None:
    """Asks the endpoint, which costs next to nothing, until it has granted all; only then the database."""
    count, endpoint = place.tokens.count, place.endpoint
    why = f"not all of {count} tokens were renewed in {limit:.0f} s"

    def slowly(counted: Callable[[], int]) -> bool:
        time.sleep(PAUSE.total_seconds())
        return counted() >= count

    try:
        await_true(lambda: slowly(endpoint.requests), limit=limit, why=why)
        await_true(lambda: slowly(place.tokens.renewed), limit=limit, why=why)
    except SystemExit:
        print(running.tail(), file=sys.stderr)
        raise


def _check(place: Place, *, requests: int) -> None:
    """A fast wrong run is no result: each renewed once, with one request, into what one reply gave."""
    count, ring = place.tokens.count, KeyRing({KEY_ID: place.tokens.key}, active=KEY_ID)
    given = set()
    for stored in place.mongod.database["tokens"].find({}, {"refresh_token": 1, "access_token": 1}):
        refresh, access = (
            ring.open(stored[field], token_id=stored["_id"], field=field)
            for field in ("refresh_token", "access_token")
        )
        if _GIVEN.fullmatch(f"{refresh} {access}"):
            given.add(refresh)
    found = {
        "requests at the provider": requests,
        "renewed once": place.tokens.renewed(),
        "different refresh tokens, each stored with its access token": len(given),
    }
    wrong = {what: number for what, number in found.items() if number != count}
    if wrong:
        raise SystemExit(f"wrong result, not measured: {wrong} instead of {count}")


def _measured(
    contender: Contender, place: Place, running: Running, before: Before, *, in_flight: int, number: int
) -> Run:
    count = place.tokens.count
    first, last = place.tokens.renewed_between()
    after, broker = running.usage(), running.broker()
    seconds = (last - first).total_seconds()

    def cpu(now: Usage | None, then: Usage | None) -> float | None:
        return (now.cpu - then.cpu) * 1000 / count if now and then else None

    return Run(
        contender=contender.name,
        round=number,
        tokens=count,
        in_flight=in_flight,
        seconds=seconds,
        tokens_per_second=count / seconds,
        client_cpu=(after.cpu - before.client.cpu) * 1000 / count,
        broker_cpu=cpu(broker, before.broker),
        mongod_cpu=(place.mongod.usage().cpu - before.mongod.cpu) * 1000 / count,
        nginx_cpu=(place.endpoint.usage().cpu - before.nginx.cpu) * 1000 / count,
        peak_mb=after.peak_mb,
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
