"""What every store of another application's tokens must do, whatever holds them: files, lines, and documents.

The same is tried on PostgreSQL in tests/migration.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import MongoClient

from daemon.adapters.foreign.files import TokenFiles
from daemon.adapters.mongo.foreign import TokenCollection
from daemon.domain.foreign import BadRow, Replacement
from daemon.domain.layout import NAME, Layout, Row, SourceKind, key_of
from daemon.domain.secret import Secret
from daemon.migrating.ports import ForeignStore

Cells = dict[str, Any]
LAYOUT = Layout(
    name="test",
    title="",
    source=SourceKind.JSON,
    provider_name="acme",
    account=("account",),
    access_token=("access",),
    refresh_token=("refresh",),
)
ODD = {
    "text": "Zoë \u2028 \U0001f600",
    "number": 2**60,
    "fraction": 0.1,
    "nothing": None,
    "flag": True,
    "list": [1, "a", {"b": [None]}],
    "nested": {"deep": {"er": 1}},
    "a.b": "a dot",
}
BSON = {
    "_id": ObjectId(),
    "long": Int64(7),
    "money": Decimal128("12.50"),
    "at": datetime(2026, 11, 29, 1, 2, 3, 123000, tzinfo=UTC),
    "bytes": b"\x00\xff",
}
Open = Callable[..., ForeignStore]


@pytest.fixture(params=["json object", "json list", "json list at a path", "jsonl", "mongodb"])
async def kind(
    request: pytest.FixtureRequest, tmp_path: Path, mongod: str, database_name: str
) -> AsyncIterator[tuple[Layout, ForeignStore, list[Cells], Callable[[], list[Cells]]]]:
    """A layout, its store with two rows in it, those rows, and a look past the store."""
    two = [{"account": name, "access": f"at-{name}", "refresh": f"rt-{name}", **ODD} for name in ("a", "b")]
    file = tmp_path / "tokens.json"
    if request.param == "mongodb":
        two = [{**cells, **BSON, "_id": ObjectId()} for cells in two]
        for cells in two:
            del cells["a.b"]
        layout = replace(LAYOUT, source=SourceKind.MONGODB, collection="theirs")
        uri = mongod.replace("/?", f"/{database_name}?")
        with MongoClient[Cells](mongod, tz_aware=True) as client:
            client[database_name].theirs.insert_many(two)
            store = TokenCollection(layout, Secret(uri))
            yield layout, store, two, lambda: list(client[database_name].theirs.find().sort("account", 1))
            await store.close()
        return
    if request.param == "json object":
        layout = replace(LAYOUT, account=(NAME,))
        two = [{k: v for k, v in cells.items() if k != "account"} for cells in two]
        file.write_text(json.dumps(dict(zip("ab", two, strict=True))))
        look = lambda: list(json.loads(file.read_text()).values())  # noqa: E731
    elif request.param == "json list":
        layout = LAYOUT
        file.write_text(json.dumps(two, indent=4) + "\n")
        look = lambda: list(json.loads(file.read_text()))  # noqa: E731
    elif request.param == "json list at a path":
        layout = replace(LAYOUT, rows="data.rows")
        file.write_text(json.dumps({"other": 1, "data": {"rows": two}}))
        look = lambda: list(json.loads(file.read_text())["data"]["rows"])  # noqa: E731
    else:
        layout = replace(LAYOUT, source=SourceKind.JSONL)
        file.write_text("".join(json.dumps(cells) + "\n" for cells in two))
        look = lambda: [json.loads(line) for line in file.read_text().rstrip("\n").split("\n")]  # noqa: E731
    yield layout, TokenFiles(layout, file), two, look


async def rows_of(store: ForeignStore) -> list[Row]:
    found = [row async for row in store.rows()]
    assert not [row for row in found if isinstance(row, BadRow)]
    return [row for row in found if isinstance(row, Row)]


async def test_rows_come_as_they_stand_and_keep_their_types_through_a_text(kind: Any) -> None:
    layout, store, two, _ = kind
    rows = await rows_of(store)
    assert [dict(row.cells) for row in rows] == two
    assert [key_of(layout, row) for row in rows] == ["a", "b"]
    for row in rows:
        back = store.decode(store.encode(row.cells))
        assert back == row.cells
        assert [type(value) for value in back.values()] == [type(value) for value in row.cells.values()]


async def test_a_row_is_changed_and_every_other_value_stays(kind: Any) -> None:
    _, store, two, look = kind
    row = (await rows_of(store))[0]
    changed = replace(row, cells={**row.cells, "access": "at-new"})
    assert await store.replace([Replacement(key="a", before=row, after=changed)]) == {}
    assert look() == [{**two[0], "access": "at-new"}, two[1]]
    assert (await store.again([row]))["a"].cells["access"] == "at-new"


async def test_a_row_that_does_not_stand_as_it_was_read_is_left_alone(kind: Any) -> None:
    _, store, two, look = kind
    first, second = await rows_of(store)
    changed = replace(first, cells={**first.cells, "access": "at-new"})
    stale = replace(first, cells={**first.cells, "refresh": "rt-older"})
    removed = Replacement(key="b", before=replace(second, cells={**second.cells, "access": "x"}), after=None)
    refused = await store.replace([Replacement(key="a", before=stale, after=changed), removed])
    assert set(refused) == {"a", "b"}
    assert look() == two


async def test_rows_are_removed_and_come_back(kind: Any) -> None:
    _, store, two, look = kind
    first, second = await rows_of(store)
    assert await store.replace([Replacement(key="a", before=first, after=None)]) == {}
    assert look() == [two[1]]
    assert await store.again([first, second]) == {"b": second}
    assert await store.replace([Replacement(key="a", before=None, after=first)]) == {}
    assert sorted(look(), key=lambda cells: str(cells["refresh"])) == two


async def test_a_row_that_is_there_already_is_not_added(kind: Any) -> None:
    _, store, two, look = kind
    first, _ = await rows_of(store)
    assert list(await store.replace([Replacement(key="a", before=None, after=first)])) == ["a"]
    assert look() == two
