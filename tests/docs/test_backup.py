"""docs/backup.md: its commands, rehearsed. A MongoDB is lost between two renewals; then docs/upgrade.md."""

import json
import shlex
import shutil
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymongo import MongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.faults.mongod import Mongod
from tests.support import wall_clock
from tests.support.environment import bare

DOCUMENT = "backup.md"
ROOT = Path(__file__).parents[2]

Blocks = Callable[[str, str], list[str]]
Document = dict[str, Any]


class Database(Mongod):
    """A MongoDB of our own, which can be lost."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._parts = home

    def hold(self, place: Installation, grants: Mapping[str, Document]) -> None:
        """Store these consents, as an application would. All but "untouched" are due."""
        now = wall_clock.now()
        with MongoClient[Document](self.uri) as client:
            for account, response in grants.items():
                name = f"xero:{account}"
                sealed = {
                    field: place.keyring.seal(str(response[field]), token_id=name, field=field)
                    for field in ("access_token", "refresh_token")
                }
                plain = {
                    "_id": name,
                    "provider": "xero",
                    "account": account,
                    "state": "active",
                    "revision": 1,
                }
                client["refreshd"]["tokens"].insert_one(
                    {
                        **plain,
                        **sealed,
                        "expires_at": now + timedelta(hours=1),
                        "due_at": now + timedelta(hours=account == "untouched"),
                        "issued_at": now,
                    }
                )

    def postpone(self, name: str) -> None:
        with MongoClient[Document](self.uri) as client:
            later = wall_clock.now() + timedelta(hours=1)
            client["refreshd"]["tokens"].update_one({"_id": name}, {"$set": {"due_at": later}})

    def make_due(self, name: str) -> None:
        with MongoClient[Document](self.uri) as client:
            client["refreshd"]["tokens"].update_one({"_id": name}, {"$set": {"due_at": wall_clock.now()}})

    def lose(self) -> None:
        self.kill()
        shutil.rmtree(self._parts)

    def replace(self) -> str:
        """Start an empty one in its place. Returns its URI."""
        super().__init__(self._parts)
        return self.uri


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "mongod")
    try:
        yield made
    finally:
        made.remove()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Runs a document's blocks where the files are."""

    place: Installation

    async def does(self, step: str, **environment: str) -> str:
        command = self.place.directory / "bin" / "refreshd"
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
        command.chmod(0o755)
        process = await create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", step),
            cwd=self.place.directory,
            env=bare(command.parent, COLUMNS="160", **environment),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        out, err = await process.communicate(b"")
        assert process.returncode == 0, out.decode() + err.decode()
        return out.decode()


async def test_an_old_database_is_restored_and_nothing_spent_is_presented(
    database: Database, tmp_path: Path, blocks: Blocks, write_files: Callable[[str, Path], list[str]]
):
    """Of three tokens one was renewed after the backup (its owner consents again), one has its new refresh token in the
    journal only (it is saved), and one was not renewed (it goes on). The provider would revoke on any reuse."""
    options = SandboxOptions(lifetime=timedelta(hours=1))  # longer than the test
    async with Sandbox(options) as sandbox, aiohttp.ClientSession(sandbox.url) as provider:
        place = installation(tmp_path, database, sandbox)
        write_files(DOCUMENT, place.directory)
        operator = Operator(place=place)
        accounts = ("renewed", "in-journal", "untouched")
        grants = dict(zip(accounts, sandbox.consent(len(accounts)), strict=True))
        database.hold(place, grants)
        make_key, make_backup, verify, restore, use_logs, look = blocks(DOCUMENT, "sh")
        assert "age1" in await operator.does(make_key)
        assert "3 tokens" in await operator.does(make_backup)
        assert "is whole: 3 tokens" in await operator.does(verify)

        database.postpone("xero:in-journal")
        async with place.running() as daemon:
            await daemon.event("token.renewed", token="xero:renewed")
            await lose_while_a_reply_is_under_way(daemon, database, provider)
            logs = daemon.logs
        Path(place.directory, "since.jsonl").write_text(logs)
        lost_at = wall_clock.now().isoformat()

        place.configure({**place.tables, "store": {"uri": database.replace(), "database": "refreshd"}})
        assert "xero:renewed" in await operator.does(restore, LOST_AT=lost_at)
        report = json.loads(Path(place.directory, "restored.json").read_text())
        assert {one["id"] for one in report["paused"]} == {"xero:renewed", "xero:in-journal"}
        assert report["restored"] == 3
        await operator.does(use_logs)
        assert Path(place.directory, "spent").read_text() == "xero:renewed\n"
        assert Path(place.directory, "unspent").read_text() == "xero:in-journal\n"
        async with place.running() as daemon:
            saved = await daemon.event("journal.replayed")
            assert (saved["token"], saved["result"]) == ("xero:in-journal", "recorded")
            assert "may be spent" in await operator.does(look)
            database.make_due("xero:in-journal")
            await daemon.event("token.renewed", token="xero:in-journal", count=2)
            await upgrade(operator, blocks, url=await daemon.url())
        async with provider.get("/ledger", params={"summary": "1"}) as truth:
            summary = await truth.json()
        assert (summary["reused"], summary["revoked"], summary["refused"]) == (0, 0, 0)
        presented = {one["id"]: len(one["presented"]) for one in sandbox.ledger()}
        assert {account: presented[str(consent["grant"])] for account, consent in grants.items()} == {
            "renewed": 1,
            "in-journal": 2,
            "untouched": 1,
        }


async def lose_while_a_reply_is_under_way(
    daemon: DaemonProcess, database: Database, provider: aiohttp.ClientSession
) -> None:
    """The provider has renewed, MongoDB dies, the reply comes: only the journal has it. (Then the daemon is killed.)"""
    async with provider.put("/faults", json={"kind": "withhold", "count": 1}) as fault:
        assert fault.status == 200
    database.make_due("xero:in-journal")
    refreshes = 0
    while refreshes < 2:
        async with provider.get("/ledger", params={"summary": "1"}) as truth:
            refreshes = (await truth.json())["refreshes"]
    database.lose()
    async with provider.delete("/faults") as ended:
        assert ended.status == 200
    await daemon.event("store.lost")
    kept = 0
    while not kept:
        async with aiohttp.request("GET", f"{await daemon.url()}/status") as status:
            kept = (await status.json())["journal_entries"]


async def upgrade(operator: Operator, blocks: Blocks, *, url: str) -> None:
    """The checks of docs/upgrade.md, before and after, where a daemon works."""
    before, after = (step.replace("http://127.0.0.1:9464", url) for step in blocks("upgrade.md", "sh"))
    assert "1 warning; everything else that was checked is in order." in await operator.does(before)
    told = await operator.does(after.replace("company-7", "untouched"))
    assert json.loads(told.splitlines()[0])["ready"] is True
    assert "xero:untouched: renewed" in told


def installation(tmp_path: Path, database: Database, sandbox: Sandbox) -> Installation:
    """One whose Xero is the sandbox, and has no grace."""
    known = sandbox.describe()
    client = {key: known[key] for key in ("token_url", "client_id", "client_secret")}
    return Installation(
        tmp_path / "place",
        uri=database.uri,
        database="refreshd",
        providers={"xero": {**client, "grace": "0s"}},
    )
