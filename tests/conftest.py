"""What tests of several rooms share: one real MongoDB for the whole session, and a database of one's own in it."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from tests.support import prepared
from tests.support.order import ordered
from tests.support.replica_set import replica_set

prepared.install()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of several workers, which must all have the same order."""
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        items[:] = ordered(items, workers=workers)


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI (with a query string) of a replica set of one member: no authentication, fail points allowed."""
    with replica_set(tmp_path_factory.mktemp("mongod")) as uri:
        yield uri


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
