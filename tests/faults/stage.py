"""What every fault test stands on: a strict provider, a database, installations that can be made to crash, and the
comparison of what the provider's ledger says with what the database holds.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox
from tests.e2e.daemon_process import LONGEST_LINE, PATIENCE, DaemonProcess, Installation
from tests.support import wall_clock

CRASHING = Path(__file__).with_name("crashing.py")
NEVER = "never"
POLL_EVERY = timedelta(milliseconds=50)

Document = dict[str, Any]


class Stage:
    """One provider, one database, and as many installations as are asked for: those are replicas of each other."""

    def __init__(self, directory: Path, *, uri: str, database: str, sandbox: Sandbox, **refresh: str) -> None:
        self.sandbox = sandbox
        self.kept_file = directory / "kept"
        self._directory = directory
        self._uri, self._database = uri, database
        self._refresh = {"sweep_every": "1s", "request_timeout": "2s", "lease": "24s", "drain": "10s"}
        self._refresh |= refresh
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(uri, tz_aware=True)
        self.tokens = self._client[database]["tokens"]
        self.places: list[Installation] = []
        self.daemons: list[DaemonProcess] = []

    async def close(self) -> None:
        await self._client.close()

    def install(self, *, concurrency: int, **definition: str) -> Installation:
        """One more replica. `definition`: what its provider is said to be like, as in a definition file."""
        sandbox = self.sandbox
        client = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
        place = Installation(
            self._directory / f"installation-{len(self.places)}",
            uri=self._uri,
            database=self._database,
            providers={
                "sandbox": {
                    "token_url": sandbox.token_url,
                    "concurrency": concurrency,
                    **client,
                    **definition,
                }
            },
            key=self.places[0].key if self.places else None,
            refresh=self._refresh,
        )
        self.places.append(place)
        return place

    # ---------------------------------------------------------------- the daemon

    @asynccontextmanager
    async def running(
        self, place: Installation, point: str = NEVER, occurrence: int = 1
    ) -> AsyncIterator[DaemonProcess]:
        """The wrapped daemon as long as the block lasts; then it is killed if it still runs."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(CRASHING), point, str(occurrence), str(self.kept_file)),
            *("--config", str(place.config), "run"),
            cwd=place.directory,
            env={name: value for name, value in os.environ.items() if not name.startswith("REFRESHD_")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        daemon = DaemonProcess(process)
        self.daemons.append(daemon)
        try:
            yield daemon
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await daemon.ended()

    def clone(self, place: Installation, *, to: Installation) -> None:
        """Copy the state directory of `place`, as it is at this moment, to a replica that has none yet."""
        shutil.copytree(place.directory / "state", to.directory / "state", dirs_exist_ok=True)

    @asynccontextmanager
    async def pressed(self, every: timedelta) -> AsyncIterator[None]:
        """All that is active, unclaimed and not yet due is made due so often, as applications may wish."""
        over = asyncio.Event()

        async def press() -> None:
            while not over.is_set():
                now = wall_clock.now()
                resting = {"state": "active", "lease": None, "due_at": {"$gt": now}}
                await self.tokens.update_many(resting, {"$set": {"due_at": now}})
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), every.total_seconds())

        pressing = asyncio.create_task(press())
        try:
            yield
        finally:
            over.set()
            await pressing

    async def leased(self, owner: str) -> list[Document]:
        """What the instance `owner` has claimed."""
        return await self.tokens.find({"lease.owner": owner}).to_list()

    def kept(self) -> dict[str, float]:
        """When each grant that came had become durable, by the fingerprint of what was spent for it."""
        if not self.kept_file.exists():
            return {}
        notes = map(str.split, self.kept_file.read_text().splitlines())
        return {name: float(at) for name, status, at in notes if status == "200"}

    def journal(self, place: Installation) -> set[str]:
        """The fingerprints of what was spent for each reply that waits in the journal of a process that is dead. The
        file is read as a copy: reading it in place would mend it.
        """
        copy = self._directory / "journal-copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in (place.directory / "state").glob("journal.db*"):
            shutil.copy(file, copy)
        if not (copy / "journal.db").exists():
            return set()
        with closing(sqlite3.connect(copy / "journal.db")) as database:
            with suppress(sqlite3.OperationalError):  # killed before it made its tables
                return {
                    fingerprint(place.keyring.open(spent, token_id=token, field="refresh_token"))
                    for token, spent in database.execute("select token, spent from entries")
                }
            return set()

    # ---------------------------------------------------------------- tokens

    async def consent(self, count: int) -> None:
        """New grants of the provider, written as an application may, all due now."""
        now = wall_clock.now()
        keyring = self.places[0].keyring
        documents = []
        for consent in self.sandbox.consent(count):
            name = f"sandbox:{consent['grant']}"
            sealed = {
                field: keyring.seal(str(consent[field]), token_id=name, field=field)
                for field in ("access_token", "refresh_token")
            }
            documents.append(
                {
                    "_id": name,
                    "provider": "sandbox",
                    "account": consent["grant"],
                    "state": "active",
                    **sealed,
                    "issued_at": now - timedelta(hours=1),
                    "expires_at": now + timedelta(minutes=2),
                    "due_at": now,
                }
            )
        await self.tokens.insert_many(documents)

    async def settled(self, holds: Callable[[Document], bool], *, within: timedelta) -> None:
        """Wait until `holds` is true of every token that is not dead."""
        limit = time.monotonic() + within.total_seconds()
        while True:
            documents = await self.tokens.find({"state": {"$ne": "needs_reauth"}}).to_list()
            unsettled = [document for document in documents if not holds(document)]
            if not unsettled:
                return
            assert time.monotonic() < limit, f"{len(unsettled)} never settled, among them {unsettled[:2]}"
            await asyncio.sleep(POLL_EVERY.total_seconds())

    async def renew_all(self, *, within: timedelta) -> None:
        """Make every token due, and wait until each was renewed and rests: one that was recorded just before it was made
        due is asked for once more.
        """
        before = {one["_id"]: one.get("revision", 0) async for one in self.tokens.find({})}
        asked = wall_clock.now()
        await self.tokens.update_many({}, {"$set": {"due_at": asked}})

        def rests(one: Document) -> bool:
            renewed = one.get("revision", 0) > before[one["_id"]]
            return bool(renewed and one.get("lease") is None and one["due_at"] > asked)

        await self.settled(rests, within=within)

    async def until(
        self, holds: Callable[[], bool], *, of: DaemonProcess, within: timedelta = PATIENCE
    ) -> None:
        """Wait until `holds`, closely: what follows is to come at a random moment of the daemon's work."""
        limit = time.monotonic() + within.total_seconds()
        while not holds():
            assert time.monotonic() < limit, f"it never came\n{of.logs[-4000:]}"
            await asyncio.sleep(0.001)

    def refreshes(self) -> int:
        return self.sandbox._grants.summary()["refreshes"]

    def ledger(self) -> list[Document]:
        """The provider's truth about every grant."""
        return self.sandbox.ledger()

    def revoked(self) -> list[Document]:
        return [grant for grant in self.ledger() if grant["revoked_by"] is not None]

    async def differing(self) -> list[str]:
        """The grants that are not revoked, and of which the database does not hold the current refresh token."""
        keyring = self.places[0].keyring
        stored = {
            document["account"]: fingerprint(
                keyring.open(document["refresh_token"], token_id=document["_id"], field="refresh_token")
            )
            async for document in self.tokens.find({})
        }
        return [
            grant.id
            for grant in self.sandbox._grants  # not the whole ledger, whose making holds up the provider
            if grant.revoked_by is None and stored[grant.id] != grant.current
        ]

    def windows(self) -> list[timedelta]:
        """How long each kept reply was nowhere but on its way: from its leaving the provider to its being durable."""
        kept = self.kept()
        left = {one["sha256"]: one["replied_at"] for grant in self.ledger() for one in grant["presented"]}
        return sorted(
            timedelta(seconds=max(0.0, at - left[spent]))
            for spent, at in kept.items()
            if left.get(spent) is not None
        )

    def checks(self) -> list[timedelta]:
        """How long each request took from the check of its claim's deadline to its being written."""
        notes = map(str.split, self.kept_file.read_text().splitlines())
        return sorted(timedelta(seconds=float(took)) for _, what, took in notes if what == "check")

    def in_doubt(self) -> set[str]:
        """The grants whose provider had not answered in time, as a daemon reports. On a busy machine that happens, and
        each allows a second presentation.
        """
        unanswered = (line for daemon in self.daemons for line in daemon.seen("token.in_doubt"))
        return {str(line["token"]).partition(":")[2] for line in unanswered}

    def presented_twice(self) -> set[str]:
        """The grants of which one value was presented more than once."""
        return {
            str(grant["id"])
            for grant in self.ledger()
            if len(grant["presented"]) != len({one["sha256"] for one in grant["presented"]})
        }


async def frozen(daemon: DaemonProcess, *, within: timedelta = PATIENCE) -> None:
    """Wait until the process has stopped, as by SIGSTOP."""
    limit = time.monotonic() + within.total_seconds()
    while Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < limit, f"it never froze\n{daemon.logs[-4000:]}"
        await asyncio.sleep(POLL_EVERY.total_seconds())


def fingerprint(value: str) -> str:
    """As the provider's ledger names a refresh token."""
    return hashlib.sha256(value.encode()).hexdigest()


def quantiles(windows: list[timedelta]) -> str:
    """`windows`, sorted, as figures for a person."""
    if not windows:
        return "no window measured"
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    said = " ".join(
        f"{name} {windows[min(len(windows) - 1, int(share * len(windows)))] / timedelta(milliseconds=1):.1f} ms"
        for name, share in at.items()
    )
    return f"window {said} over {len(windows)} replies"
