"""Replicas, measured: how several daemons on one MongoDB share a herd of tokens that fall due at the same moment.

    python bench/replicas.py --replicas 1 2 3 5 --runs 3

The worst case on purpose. All replicas are held back (SIGSTOP) until all tokens are due, and are let go together: each
sweeps at the same instant and finds the same oldest tokens. What a replica found and did not get, because another one
was faster, is work for nothing; MongoDB's profiler counts it. The provider is nginx, which answers at once; without
nginx, or with --latency, it is the sandbox, which also proves that nothing was presented twice.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol, Self

from pymongo import UpdateOne
from pymongo.database import Database
from support.processes import KEY_ID, PROVIDER, DaemonProcess, Endpoint, Mongod, await_true
from support.report import Report, table
from support.tokens import Tokens

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.embedded_mongod import MongodMissing
from daemon.sandbox import Sandbox, SandboxOptions

SWEEP = timedelta(seconds=1)
HELD_BACK = SWEEP + timedelta(milliseconds=300)  # by then the next sweep of each has come, and waits
SETTLE = timedelta(seconds=1)  # the first count of the store is over, the last journal entry forgotten
LIMIT = timedelta(minutes=5)
PROFILE_BYTES = 256 * 1024 * 1024

# key, what it says, digits
_COLUMNS = (
    ("tokens_per_second", "tokens/s", 0),
    ("least", "least share, %", 0),
    ("most", "greatest share, %", 0),
    ("claims", "claims / 1,000", 1),
    ("empty", "of them for nothing", 1),
    ("lost", "tokens tried in vain, %", 0),
    ("commands", "commands / 1,000", 1),
    ("conflicts", "write conflicts / 1,000", 1),
    ("mongod_cpu", "mongod CPU s / 1,000", 3),
    ("daemon_cpu", "daemons CPU s / 1,000", 3),
)


class Provider(Protocol):
    """Who renews: either of the two below."""

    url: str

    def requests(self) -> int: ...


class SandboxProvider:
    """The strict sandbox, in a thread of ours: no grace, and reuse revokes."""

    def __init__(self, latency: timedelta) -> None:
        self._sandbox = Sandbox(
            SandboxOptions(
                client_id="bench", client_secret="s3cret/+", latency=latency, lifetime=timedelta(hours=1)
            )
        )
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        self.url = self._sandbox.token_url
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        async with self._sandbox:
            self._ready.set()
            await self._over.wait()

    def requests(self) -> int:
        return sum(len(list(_presented(grant))) for grant in self._sandbox.ledger())

    def give(self, tokens: Tokens, database: Database[dict[str, Any]]) -> None:
        """Put a refresh token that the sandbox knows into each stored token."""
        ring = KeyRing({KEY_ID: tokens.key}, active=KEY_ID)
        names = [row["_id"] for row in database["tokens"].find({}, {"_id": 1})]
        writes = [
            UpdateOne({"_id": name}, {"$set": {"refresh_token": sealed}})
            for name, consent in zip(names, self._sandbox.consent(len(names)), strict=True)
            if (sealed := ring.seal(str(consent["refresh_token"]), token_id=name, field="refresh_token"))
        ]
        database["tokens"].bulk_write(writes, ordered=False)


def _presented(grant: Mapping[str, object]) -> Iterator[object]:
    presented = grant["presented"]
    assert isinstance(presented, list)
    yield from presented


class Claims(NamedTuple):
    """What the claims of all replicas came to."""

    made: int
    empty: int  # those that got nothing of what they tried to take
    tried: int  # tokens
    got: int


class Profile:
    """MongoDB's own record of every reading of tokens, from `start` on."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database

    def start(self) -> None:
        self._database.create_collection("system.profile", capped=True, size=PROFILE_BYTES)
        reads = {"ns": f"{self._database.name}.tokens", "op": {"$in": ["query", "getmore"]}}
        self._database.command("profile", 1, filter=reads)

    def claims(self) -> Claims:
        """A claim ends with reading which of the tokens that it tried to take bear its id."""
        tried, got = [], []
        for row in self._database["system.profile"].find():
            asked = row.get("originatingCommand") or row["command"]
            if "lease.claim" in asked.get("filter", {}):
                got.append(row["nreturned"])
                if row["op"] == "query":  # else more of the same
                    tried.append(len(asked["filter"]["_id"]["$in"]))
        return Claims(made=len(tried), empty=got.count(0), tried=sum(tried), got=sum(got))


def main() -> None:
    options = _options()
    report = Report("replicas")
    samples: dict[int, list[dict[str, float]]] = {replicas: [] for replicas in options.replicas}
    for number in range(options.runs):
        for replicas in options.replicas:  # in turn: what else the machine does strikes all of them
            print(f"run {number + 1} of {options.runs}: {replicas} replicas", file=sys.stderr)
            samples[replicas].append(_run(replicas, options))
    report.save({**vars(options), "found": samples}, _lines(samples, options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures how replicas share what is due at one moment.")
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 3, 5], help="default: 1 2 3 5")
    parser.add_argument("--tokens", type=int, default=3_000, help="how many are due (default: 3000)")
    parser.add_argument("--runs", type=int, default=1, help="the table shows medians of these (default: 1)")
    parser.add_argument("--concurrency", type=int, default=256, help="of each replica (default: 256)")
    parser.add_argument("--latency", type=float, default=0, help="the provider's, in ms: by the sandbox")
    return parser.parse_args()


def _run(replicas: int, options: argparse.Namespace) -> dict[str, float]:
    with ExitStack() as closing:
        directory = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="refreshd-replicas-")))
        mongod = closing.enter_context(Mongod(directory / "mongod"))
        tokens = Tokens(mongod.database)
        tokens.insert(options.tokens)
        provider = closing.enter_context(_provider(directory, options.latency, tokens, mongod.database))
        daemons = [
            closing.enter_context(_daemon(directory / f"replica-{n}", mongod, provider, tokens, options))
            for n in range(replicas)
        ]
        for daemon in daemons:
            daemon.await_ready()
        time.sleep(SETTLE.total_seconds())
        return _measured(daemons, mongod, provider, tokens)


@contextmanager
def _provider(
    home: Path, latency: float, tokens: Tokens, database: Database[dict[str, Any]]
) -> Iterator[Provider]:
    if not latency and shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        with Endpoint(home / "nginx") as endpoint:
            yield endpoint
    else:
        with SandboxProvider(timedelta(milliseconds=latency)) as sandbox:
            sandbox.give(tokens, database)
            yield sandbox


def _daemon(
    home: Path, mongod: Mongod, provider: Provider, tokens: Tokens, options: argparse.Namespace
) -> DaemonProcess:
    return DaemonProcess(
        home,
        uri=mongod.uri,
        database=mongod.database.name,
        token_urls={PROVIDER: provider.url},
        key=tokens.key,
        sweep_every=f"{SWEEP.seconds}s",
        concurrency=options.concurrency,
        level="debug",  # each renewal has its line
    )


@contextmanager
def _held_back(daemons: Sequence[DaemonProcess]) -> Iterator[None]:
    """None of them moves in this block; then all do, at once."""
    for daemon in daemons:
        daemon.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for daemon in daemons:
            daemon.process.send_signal(signal.SIGCONT)


def _measured(
    daemons: Sequence[DaemonProcess], mongod: Mongod, provider: Provider, tokens: Tokens
) -> dict[str, float]:
    profile = Profile(mongod.database)
    with _held_back(daemons):
        held = time.monotonic()
        tokens.make_due(datetime.now(UTC))
        profile.start()
        time.sleep(max(0.0, HELD_BACK.total_seconds() - (time.monotonic() - held)))
        asked, before = provider.requests(), _counters(daemons, mongod)
    await_true(
        lambda: sum(daemon.count("token.renewed") for daemon in daemons) >= tokens.count,
        limit=LIMIT.total_seconds(),
        why=f"not all of {tokens.count} tokens were renewed; a daemon's log: {daemons[0].tail()}",
    )
    time.sleep(SETTLE.total_seconds())
    spent = {name: value - before[name] for name, value in _counters(daemons, mongod).items()}
    _check(tokens, requests=provider.requests() - asked)
    first, last = tokens.renewed_between()
    shares = [100 * daemon.count("token.renewed") / tokens.count for daemon in daemons]
    claims, thousands = profile.claims(), tokens.count / 1000
    return {
        "tokens_per_second": tokens.count / (last - first).total_seconds(),
        "least": min(shares),
        "most": max(shares),
        "claims": claims.made / thousands,
        "empty": claims.empty / thousands,
        "lost": 100 * (1 - claims.got / claims.tried),
        **{name: value / thousands for name, value in spent.items()},
    }


def _counters(daemons: Sequence[DaemonProcess], mongod: Mongod) -> dict[str, float]:
    return {
        "commands": sum(mongod.commands().values()),
        "conflicts": _conflicts(mongod),
        "mongod_cpu": mongod.usage().cpu,
        "daemon_cpu": sum(daemon.usage().cpu for daemon in daemons),
    }


def _conflicts(mongod: Mongod) -> int:
    counted = mongod.database.command("serverStatus")["metrics"]["operation"]["writeConflicts"]
    return int(counted)


def _check(tokens: Tokens, *, requests: int) -> None:
    """The promise, before its speed: each token renewed once, with one request."""
    found = {
        "requests at the provider": requests,
        "renewed in the database": tokens.renewed(),
        "different refresh tokens": tokens.different_successors(),
    }
    wrong = {name: number for name, number in found.items() if number != tokens.count}
    if wrong:
        raise SystemExit(f"wrong result, not measured: {wrong} instead of {tokens.count}")


def _lines(samples: Mapping[int, list[dict[str, float]]], options: argparse.Namespace) -> Iterator[str]:
    yield (
        f"{options.tokens:,} tokens due at once, {options.concurrency} in flight in each replica, provider answers"
        f" after {options.latency:g} ms, medians of {options.runs}\n"
    )
    rows = (
        [str(replicas), *(f"{median(run[key] for run in runs):,.{digits}f}" for key, _, digits in _COLUMNS)]
        for replicas, runs in samples.items()
    )
    yield from table(["replicas", *(said for _, said, _ in _COLUMNS)], rows)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        main()
    except MongodMissing as why:
        sys.exit(str(why))
