"""Documents of any form in every collection, under the real daemon, the real access service and the commands.

A stage leaves documents in all collections. Then one collection gets a copy of each of them with each type of BSON in
each field, also in objects and lists. The others' tokens are renewed and served, and no program meets a bug.
"""

import asyncio
import copy
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Code
from bson.datetime_ms import DatetimeMS
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from tests.adapters.mongo.test_documents import VALUES
from tests.e2e.connected_application import Session, connecting
from tests.e2e.daemon_process import DaemonProcess
from tests.e2e.service import Place, Service, placed
from tests.support import wall_clock

pytestmark = pytest.mark.long

Document = dict[str, Any]
COLLECTIONS = [
    "",
    "_access",
    "_access_use",
    "_audit",
    "_consents",
    "_instances",
    "_keys",
    "_hooks",
    "_outbox",
    "_providers",
]
NEIGHBOURS = ["acme:a", "acme:b"]
PATIENCE = timedelta(minutes=2)
_BESIDE = [Code("x"), DatetimeMS(2**63 - 1), float("inf"), None, {"a": Code("x")}]
_READ = [
    "/v1/tokens/acme/a",
    "/v1/tokens?limit=500",
    "/v1/statistics",
    "/v1/audit",
    "/v1/subjects/user-17/tokens",
]
HOOK = f"""
[[hooks]]
name = "nobody"
url = "http://127.0.0.1:1/hook"
secret = "whsec_{b64encode(b"o" * 32).decode()}"
allow_private = true
"""
_COMMANDS = """
list
list --json
audit --json
audit --csv
access list
access list --json
hooks list
hooks list --json
hooks failed
keys status --exact --json
keys retire e2e
keys reseal --dry-run
check
cleanup --unused-for 30d --dry-run
revoke --provider acme --dry-run
pause other
resume other
refresh acme:a
"""


@pytest.fixture
async def place(mongod: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(mongod, tmp_path / "place") as one:
        yield one


def paths(document: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[Any, ...]]:
    """The ways to the values in `document`, also in objects and in the first element of lists."""
    for name, value in document.items():
        yield (name,)
        inner, step = (
            (value, ())
            if isinstance(value, dict)
            else (value[:1], (0,))
            if isinstance(value, list)
            else ({}, ())
        )
        inner = inner[0] if isinstance(inner, list) and inner and isinstance(inner[0], dict) else inner
        if depth > 1 and isinstance(inner, dict):
            yield from ((name, *step, *more) for more in paths(inner, depth - 1))


def odd(right: Document) -> Iterator[Document]:
    """Copies of `right` under other ids, with a value of another type each."""
    for path in paths(right):
        before: Any = right
        for step in path:
            before = before[step]
        kinds = [*VALUES.values(), *([before, one] for one in _BESIDE), *([one] for one in _BESIDE)]
        for number, value in enumerate(kinds):
            made = copy.deepcopy(right)
            if path != ("_id",):
                made["_id"] = (
                    f"{right['_id']}-{'.'.join(map(str, path))}-{number}"
                    if isinstance(right["_id"], str)
                    else None
                )
            if "account" in made and isinstance(made["_id"], str):
                made["account"] = made["_id"].partition(":")[2]
            if made["_id"] is None:
                del made["_id"]
            at: Any = made
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = value
            yield made


def stored(rows: Collection[Document]) -> int:
    """Store the odd copies of the documents of each form in `rows`. Returns how many MongoDB took."""
    forms = {(*sorted(one), str(one.get("state")), str(one.get("kind"))): one for one in rows.find()}
    before = rows.estimated_document_count()
    for right in forms.values():
        batch = []
        for made in odd(right):
            try:
                bson.encode(made)
            except (bson.errors.BSONError, OverflowError, TypeError):
                continue
            batch.append(made)
        try:
            rows.insert_many(batch, ordered=False)
        except BulkWriteError:
            continue  # what a unique index refuses
    return rows.estimated_document_count() - before


async def left_by_use(place: Place, outbox: Collection[Document]) -> None:
    """Fill every collection, as its users do."""
    other = {"token_url": "http://127.0.0.1:1/token", "client_auth": "none", "client_id": "me"}
    tables = place.installation.tables
    place.installation.configure({**tables, "providers.other": other})
    await place.add("a", "b", "c")
    async with connecting(place) as (service, _daemon):
        await service.get("/v1/tokens/acme/a")
        waiting, held, done = Session(service), Session(service), Session(service)
        await waiting.begin("waiting")
        await held.consent(await held.begin("held"))
        begun = await done.begin("done")
        back = await done.consent(begun)
        await done.complete(begun["id"], back["connect_code"])
        await place.refreshd("pause", "acme:c")
        await asyncio.sleep(12)  # until uses and rows have been written
    with place.installation.config.open("a") as config:
        config.write(HOOK)
    async with place.installation.running() as daemon:
        await daemon.ready()
        await place.refreshd("pause", "other")
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while not outbox.find_one({}):
                await asyncio.sleep(0.1)


@asynccontextmanager
async def running(place: Place) -> AsyncIterator[tuple[DaemonProcess, Service]]:
    key = await place.key("later", tokens="*")
    async with place.installation.running() as daemon, place.serving(key) as service:
        yield daemon, service


@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda name: f"tokens{name}")
async def test_no_document_of_any_form_is_a_bug_or_stops_a_neighbour(
    place: Place, mongod: str, collection: str
):
    """Whatever another program has written into a collection of refreshd."""
    store: Any = place.installation.tables["store"]
    with MongoClient[Document](mongod, tz_aware=True, datetime_conversion="DATETIME_AUTO") as client:
        database: Database[Document] = client[store["database"]]
        await left_by_use(place, database["tokens_outbox"])
        assert stored(database[f"tokens{collection}"]) > 20
        async with running(place) as (daemon, service):
            await daemon.ready()
            await renewed(database)
            for path in _READ:
                answer = await service.get(path)
                assert answer.status == 200, (path, answer)
            for page in ("/", "/metrics", "/readyz"):
                async with service.session.get(await daemon.url() + page) as shown:
                    assert shown.status == 200, (page, await shown.text())
            for line in _COMMANDS.split("\n")[1:-1]:
                done = await place.installation.refreshd(*line.split(), within=PATIENCE)
                assert "internal error" not in done.stderr, (line, done.stderr)
                assert done.code in (0, 1), (line, done)
            for process in (daemon, service.process):
                bugs = Counter(
                    str(one) for one in process.lines if one.get("event") in ("internal.error", "lane.failed")
                )
                assert not bugs
                assert "Traceback" not in process.logs
            assert await daemon.stop() == 0


async def renewed(database: Database[Document]) -> None:
    """Make the neighbours due, and wait until they are renewed."""
    query = {"_id": {"$in": NEIGHBOURS}}
    before = {one["_id"]: one["revision"] for one in database["tokens"].find(query)}
    database["tokens"].update_many(query, {"$set": {"due_at": wall_clock.now()}})
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while any(one["revision"] == before[one["_id"]] for one in database["tokens"].find(query)):
            await asyncio.sleep(0.5)
