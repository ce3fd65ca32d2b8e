"""A real mongod as a replica set of one member."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from pymongo import MongoClient

from daemon.adapters.mongo.embedded_mongod import HOST, OPTIONS, REPLICA_SET, spawn_mongod
from tests.support.ports import free_port

MEMORY = Path("/dev/shm")  # a file system in memory on every Linux, in containers often of 64 MB
_PREFIX = "refreshd-tests-"
_ENOUGH = 2 << 30  # bytes: four workers, and what grows


@contextmanager
def replica_set(home: Path) -> Iterator[str]:
    """The URI (with a query string) of a replica set in `home`: no authentication, fail points allowed."""
    data = _in_memory() or home / "db"
    data.mkdir(mode=0o700)
    port = free_port()
    options = ["--dbpath", str(data), "--port", str(port), "--setParameter", "enableTestCommands=1"]
    # A write of majority, as tests make them, and each dropped database wait for the journal: 100 ms by default. With 2 ms,
    # a drop takes 4 ms and not 12, and an idle mongod a hundredth of a core more.
    options += ["--journalCommitInterval", "2"]
    child = spawn_mongod([*OPTIONS, *options], log=home / "mongod.log")
    uri = f"mongodb://{HOST}:{port}/?replicaSet={REPLICA_SET}"
    try:
        with MongoClient[dict[str, Any]](
            HOST, port, directConnection=True, serverSelectionTimeoutMS=20_000
        ) as client:
            members = [{"_id": 0, "host": f"{HOST}:{port}"}]
            client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
        with MongoClient[dict[str, Any]](uri) as client:
            client.admin.command("ping")  # goes to the primary, so waits for it
        yield uri
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(home)
        shutil.rmtree(data, ignore_errors=True)  # 300 MB


def _in_memory() -> Path | None:
    """A name for a directory in memory, where mongod waits for no disk: its own durability is not what tests are about.

    None where there is little memory. What a killed process has left there is removed.
    """
    if not os.access(MEMORY, os.W_OK):
        return None
    ours = f"{_PREFIX}{Path('/proc/self/ns/pid').stat().st_ino}-"  # process ids mean nothing in another namespace
    for left in MEMORY.glob(f"{ours}*"):
        if not Path("/proc", left.name.split("-")[-2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    if shutil.disk_usage(MEMORY).free < _ENOUGH:
        return None
    return MEMORY / f"{ours}{os.getpid()}-{uuid4().hex[:8]}"
