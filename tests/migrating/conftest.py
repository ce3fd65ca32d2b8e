"""A real MongoDB under the imports."""

import pytest

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.imported_slices import MongoSlices
from daemon.adapters.mongo.admin.imports import MongoImports
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.secret import Secret
from tests.migrating.moving import NOW, Mover
from tests.support.clocks import SetClock


@pytest.fixture
def ring():
    return KeyRing({"one": b"1" * 32, "old": b"0" * 32}, active="one")


@pytest.fixture
def outside(mongo_client, database_name):
    return mongo_client[database_name]


@pytest.fixture
def clock():
    return SetClock(NOW)


@pytest.fixture
async def mongo(mongod, database_name, clock):
    store = Mongo(
        uri=Secret(mongod),
        database=database_name,
        collection="tokens",
        clock=clock,
        observe=lambda _: None,
    )
    await store.adapt()
    yield store
    await store.close()


@pytest.fixture
def imports(mongo, ring):
    return MongoImports(mongo, ring)


@pytest.fixture
def admin(mongo, ring):
    return TokenAdmin(mongo, ring, Audit(mongo, who=Who(actor="me@here"), log=lambda _: None))


@pytest.fixture
def slices(mongo, ring):
    return MongoSlices(mongo, ring)


@pytest.fixture
def mover(imports, slices, clock):
    return Mover(tokens=imports, slices=slices, clock=clock)
