"""A real mongod as a replica set of one member."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from daemon.adapters.mongo.embedded_mongod import HOST, OPTIONS, REPLICA_SET, spawn_mongod


@contextmanager
def replica_set(home: Path) -> Iterator[str]:
    """The URI (with a query string) of a replica set in `home`: no authentication, fail points allowed."""
    Path(home, "db").mkdir()
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    options = ["--dbpath", str(home / "db"), "--port", str(port), "--setParameter", "enableTestCommands=1"]
    # A write of majority, as tests make them, and each dropped database wait for the journal: 100 ms by default.
    options += ["--journalCommitInterval", "10"]
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
        shutil.rmtree(home)  # 300 MB
