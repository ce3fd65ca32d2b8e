"""What tests of several rooms share: one real MongoDB for the whole session, and a database of one's own in it."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from daemon.adapters.mongo.embedded_mongod import HOST, OPTIONS, REPLICA_SET, spawn_mongod


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI (with a query string) of a replica set of one member: no authentication, fail points allowed."""
    home = tmp_path_factory.mktemp("mongod")
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


@pytest.fixture(scope="session")
def mongo_client(mongod: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """One connection for the whole session, to prepare and to look at what is stored."""
    with MongoClient[dict[str, Any]](mongod, tz_aware=True) as client:
        yield client


@pytest.fixture
def database_name(mongo_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """A database that no other test uses; dropped afterwards."""
    name = f"test_{uuid4().hex[:16]}"
    yield name
    mongo_client.drop_database(name)
