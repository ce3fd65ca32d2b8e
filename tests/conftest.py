"""What tests of several rooms share: one real MongoDB for the whole session, and a database of one's own in it."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from tests.support.replica_set import replica_set


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI (with a query string) of a replica set of one member: no authentication, fail points allowed."""
    with replica_set(tmp_path_factory.mktemp("mongod")) as uri:
        yield uri


@pytest.fixture
def database_name(mongod: str) -> Iterator[str]:
    """A database that no other test uses; dropped afterwards."""
    name = f"test_{uuid4().hex[:16]}"
    yield name
    with MongoClient[dict[str, Any]](mongod) as client:
        client.drop_database(name)
