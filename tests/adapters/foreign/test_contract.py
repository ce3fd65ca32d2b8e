"""The contract of all stores, over files, lines and documents. tests/migration tries it on PostgreSQL."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient

from daemon.adapters.foreign.files import TokenFiles
from daemon.adapters.mongo.foreign import TokenCollection
from daemon.domain.layout import NAME, SourceKind
from daemon.domain.secret import Secret
from tests.adapters.foreign.contract import LAYOUT, ODD, Cells, Kind, StoreContract

BSON = {
    "_id": ObjectId(),
    "long": Int64(7),
    "money": Decimal128("12.50"),
    "at": datetime(2026, 11, 29, 1, 2, 3, 123000, tzinfo=UTC),
    "bytes": b"\x00\xff",
}


@pytest.fixture(params=["json object", "json list", "json list at a path", "jsonl", "mongodb"])
async def kind(
    request: pytest.FixtureRequest, tmp_path: Path, mongod: str, database_name: str
) -> AsyncIterator[Kind]:
    """A store of each kind."""
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
            there = client[database_name].theirs
            yield Kind(
                layout=layout, store=store, two=two, look=lambda: list(there.find().sort("account", 1))
            )
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
    yield Kind(layout=layout, store=TokenFiles(layout, file), two=two, look=look)


class TestStores(StoreContract):
    """Files, lists, lines and documents."""


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=10)
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0$"), min_size=1, max_size=6)
DATES = st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))  # noqa: DTZ001
BSON_ONLY = (
    st.binary(max_size=8)
    | st.builds(ObjectId, st.binary(min_size=12, max_size=12))
    | st.builds(Int64, st.integers(-(2**63), 2**63 - 1))
    | st.builds(Binary, st.binary(max_size=8), st.sampled_from([2, 3, 4, 5, 128]))
    | st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    | st.builds(
        Decimal128, st.decimals(-(10**20), 10**20, allow_nan=False, allow_infinity=False, places=3).map(str)
    )
    | DATES.map(lambda date: date.replace(fold=0, microsecond=date.microsecond // 1000 * 1000))
    | st.builds(DatetimeMS, st.integers(2**58, 2**62))
    | st.builds(Regex, st.just("^a"), st.just("i"))
    | st.just(MaxKey())
)


def rows(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Cells]:
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(NAMES, values, max_size=5)


@given(rows(SCALARS))
def test_a_row_of_a_file_comes_through_a_text(cells: Cells) -> None:
    place = TokenFiles(LAYOUT, Path("tokens.json"))
    assert repr(place.decode(place.encode(cells))) == repr(cells)


@given(rows(SCALARS | BSON_ONLY))
def test_a_document_comes_through_a_text_with_every_type(cells: Cells) -> None:
    """An integer of 64 bits must not become one of 32: the application's driver may care."""
    layout = replace(LAYOUT, source=SourceKind.MONGODB, collection="theirs")
    place = TokenCollection(layout, Secret("mongodb://127.0.0.1:1/app"))
    back = place.decode(place.encode(cells))
    assert place.encode(back) == place.encode(cells)
    assert repr(typed(back)) == repr(typed(cells))


def typed(value: Any) -> Any:
    """The value with its type, as BSON has it: bytes are a binary of subtype 0."""
    match value:
        case dict():
            return {name: typed(one) for name, one in value.items()}
        case list():
            return [typed(one) for one in value]
        case bool() | Int64():
            return (type(value).__name__, value)
        case int():
            return ("int" if -(2**31) <= value < 2**31 else "Int64", int(value))
        case datetime():
            return value.astimezone(UTC)
        case _:
            return value
