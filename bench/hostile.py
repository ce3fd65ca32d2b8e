"""What hostile HTTP costs the tokens: their time to renewal, with the attack and without.

    python bench/hostile.py --pairs 5                # 10,000 requests to the health server
    python bench/hostile.py --pairs 5 --by replies   # the endless replies of another provider, of all kinds

Each pair is two runs of the same daemon: herds of tokens fall due one after another, and in one of the runs it is under
attack all the while. Runs alternate, so that whatever else this machine does meets both alike.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple

from support.processes import PROVIDER, DaemonProcess, Endpoint, Mongod, await_true, get
from support.report import Report, spread, table
from support.tokens import Tokens

from daemon.adapters.mongo.embedded_mongod import HOST, MongodMissing

ATTACK = Path(__file__).with_name("attack.py")
FLOOD = Path(__file__).parents[1] / "tests/adapters/token_endpoint/flood.py"
EVIL = "evil"
FLOODS = 32  # endless replies with each herd
EVERY = timedelta(seconds=5)  # a herd falls due
LEAD = timedelta(seconds=3)


class Run(NamedTuple):
    median_ms: float
    p99_ms: float
    probes: list[int]  # what /readyz said meanwhile
    descriptors: int  # the most that were open
    peak_mb: float
    cpu: float  # seconds of the daemon's
    attack: dict[str, object]


# what it says, and how to see it in a run
_ROWS: tuple[tuple[str, Callable[[Run], float]], ...] = (
    ("time to renewal, ms", lambda run: run.median_ms),
    ("time to renewal, 99th percentile, ms", lambda run: run.p99_ms),
    ("answers of /readyz that were not 200", lambda run: sum(probe != 200 for probe in run.probes)),
    ("most open descriptors", lambda run: run.descriptors),
    ("daemon: peak resident memory, MB", lambda run: run.peak_mb),
    ("daemon: CPU seconds", lambda run: run.cpu),
)


def main() -> None:
    options = _options()
    report, alone, under = Report("hostile"), list[Run](), list[Run]()
    for number in range(options.pairs):
        order = (False, True) if number % 2 else (True, False)
        print(f"pair {number + 1} of {options.pairs}", file=sys.stderr)
        for attacked in order:
            run = _run(options, seed=options.seed + number, attacked=attacked)
            (under if attacked else alone).append(run)
    figures = {"alone": [run._asdict() for run in alone], "under": [run._asdict() for run in under]}
    report.save({**vars(options), **figures}, _lines(alone, under))


def _lines(alone: Sequence[Run], under: Sequence[Run]) -> Iterator[str]:
    head = "min, **median**, max", "alone", "under attack"
    yield from table(
        head,
        (
            [said, *(spread([show(run) for run in runs], digits=1) for runs in (alone, under))]
            for said, show in _ROWS
        ),
    )
    for said, show in _ROWS[:2]:
        ratios = [show(attacked) / show(free) for free, attacked in zip(alone, under, strict=True)]
        yield f"\n{said}: ratio {spread(ratios, digits=2)}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what hostile requests cost the tokens.")
    parser.add_argument("--herds", type=int, default=16, help="fall due, one every 5 s (default: 16)")
    parser.add_argument("--tokens", type=int, default=500, help="of each herd (default: 500)")
    parser.add_argument("--requests", type=int, default=10_000, help="hostile ones (default: 10000)")
    parser.add_argument(
        "--by", choices=["requests", "replies"], default="requests", help="what the attack is"
    )
    parser.add_argument("--pairs", type=int, default=5, help="the median is over these (default: 5)")
    parser.add_argument("--seed", type=int, default=1, help="of the first attack (default: 1)")
    return parser.parse_args()


def _run(options: argparse.Namespace, *, seed: int, attacked: bool) -> Run:
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-bench-")))
        endpoint = closing.enter_context(Endpoint(directory / "nginx"))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        tokens = Tokens(mongod.database)
        tokens.insert(options.herds * options.tokens)
        urls, replies = {PROVIDER: endpoint.url}, options.by == "replies"
        if replies:
            urls[EVIL] = closing.enter_context(_flood())
            Tokens(mongod.database, provider=EVIL, key=tokens.key).insert(FLOODS)
        daemon = closing.enter_context(
            DaemonProcess(
                directory / "daemon",
                uri=mongod.uri,
                database=mongod.database.name,
                token_urls=urls,
                key=tokens.key,
                sweep_every="1s",
                concurrency=256,
                level="debug",  # each renewal has its line
            )
        )
        daemon.await_ready()
        time.sleep(1)
        port = daemon._port  # noqa: SLF001
        due = [datetime.now(UTC) + LEAD + number * EVERY for number in range(options.herds)]
        _make_due(mongod, due, options.tokens)
        attacker = _attacker(port, options.requests, seed) if attacked and not replies else None
        probes, most = [], 0
        try:
            while datetime.now(UTC) < due[-1] + EVERY or (attacker and attacker.poll() is None):
                probes.append(get(port, "/readyz")[0])
                most = max(most, len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())))
                if attacked and replies:
                    mongod.database["tokens"].update_many(
                        {"provider": EVIL, "lease": None}, {"$set": {"due_at": datetime.now(UTC)}}
                    )
                time.sleep(0.5)
            said = attacker.communicate()[0] if attacker else b"{}"
        finally:
            if attacker and attacker.poll() is None:
                attacker.kill()
        count = options.herds * options.tokens
        await_true(
            lambda: daemon.count("token.renewed") >= count, limit=120, why=f"not all renewed: {daemon.tail()}"
        )
        time.sleep(1)
        delays = _delays(mongod, due, options.tokens)
        used = daemon.usage()
    p99 = delays[int(0.99 * (len(delays) - 1))]
    return Run(median(delays), p99, probes, most, used.peak_mb, used.cpu, json.loads(said))


def _attacker(port: int, requests: int, seed: int) -> "subprocess.Popen[bytes]":
    numbers = {"--port": port, "--requests": requests, "--seed": seed}
    arguments = [text for name, value in numbers.items() for text in (name, str(value))]
    # At the lowest priority: a real attacker has a machine of its own, and takes no core from us.
    command = ["nice", "-n", "19", sys.executable, str(ATTACK), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@contextmanager
def _flood() -> Iterator[str]:
    """The URL of a provider whose replies never end."""
    command = ["nice", "-n", "19", sys.executable, str(FLOOD), "all", "fast"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            port = int(process.stdout.readline()) if process.stdout else 0
            yield f"http://{HOST}:{port}/token"
        finally:
            process.kill()


def _herd(number: int, size: int) -> dict[str, object]:
    first, beyond = f"{PROVIDER}:company-{number * size:06}", f"{PROVIDER}:company-{(number + 1) * size:06}"
    return {"_id": {"$gte": first, "$lt": beyond}}


def _make_due(mongod: Mongod, due: list[datetime], size: int) -> None:
    for number, at in enumerate(due):
        mongod.database["tokens"].update_many(
            _herd(number, size), {"$set": {"due_at": at, "expires_at": at + timedelta(minutes=5)}}
        )


def _delays(mongod: Mongod, due: list[datetime], size: int) -> list[float]:
    """Milliseconds from due to renewed, shortest first."""
    return sorted(
        (document["refreshed_at"] - at) / timedelta(milliseconds=1)
        for number, at in enumerate(due)
        for document in mongod.database["tokens"].find(_herd(number, size), {"refreshed_at": 1})
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
