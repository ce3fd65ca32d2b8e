"""Another application's collection: what is refused there, and how that is said."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from bson import Int64
from pymongo import MongoClient

from daemon.adapters.mongo.foreign import CHANGED, TokenCollection
from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import Layout, Row, SourceKind
from daemon.domain.secret import Secret

LAYOUT = Layout(
    name="documents",
    title="",
    source=SourceKind.MONGODB,
    collection="theirs",
    account=("account",),
    access_token=("access",),
    refresh_token=("refresh",),
)
Collection = Any


@pytest.fixture
def theirs(mongod: str, database_name: str) -> Iterator[Collection]:
    with MongoClient[dict[str, Any]](mongod, tz_aware=True) as client:
        yield client[database_name].theirs


@pytest.fixture
async def place(mongod: str, database_name: str) -> AsyncIterator[TokenCollection]:
    place = TokenCollection(LAYOUT, Secret(mongod.replace("/?", f"/{database_name}?")))
    yield place
    await place.close()


async def rows_of(place: TokenCollection) -> list[Row | BadRow]:
    return [row async for row in place.rows()]


@pytest.mark.parametrize(
    ("uri", "layout", "said"),
    [
        (
            "mongodb://user:canary@127.0.0.1:1/",
            LAYOUT,
            r"127\.0\.0\.1:1: the URI names no database. Write it like",
        ),
        ("mongodb://user:canary@127.0.0.1:1/app", replace(LAYOUT, collection=None), "no collection is named"),
        ("mongodb://user:can@ary@127.0.0.1:1/app", LAYOUT, "Correct the URI"),
        ("mongodb://user:canary@127.0.0.1:port/app", LAYOUT, "Correct the URI"),
    ],
)
async def test_what_the_uri_lacks_is_said_without_its_password(uri: str, layout: Layout, said: str) -> None:
    with pytest.raises(SourceLost, match=said) as lost:
        TokenCollection(layout, Secret(uri))
    assert "canary" not in str(lost.value)
    assert "can@ary" not in str(lost.value)


async def test_a_server_that_is_away_is_one_sentence() -> None:
    uri = "mongodb://user:canary-password@127.0.0.1:1/app?serverSelectionTimeoutMS=100"
    place = TokenCollection(LAYOUT, Secret(uri))
    with pytest.raises(
        SourceLost, match=r"^mongodb://127\.0\.0\.1:1/app#theirs: .*Try again when MongoDB is back"
    ) as lost:
        await rows_of(place)
    await place.close()
    assert "canary" not in str(lost.value)
    assert "\n" not in str(lost.value)


async def test_a_document_that_no_text_can_hold_is_named_and_hides_no_other(
    place: TokenCollection, theirs: Collection
) -> None:
    theirs.insert_many(
        [
            {"_id": "one", "account": "a"},
            {"_id": "large", "account": "b", "access": "x" * 70_000},
            {"_id": "odd", "account": "c", "more": [{"$numberLong": "7"}]},
            {"_id": "two", "account": "d"},
        ]
    )
    rows = await rows_of(place)
    assert [row.label for row in rows if isinstance(row, BadRow)] == ["document large", "document odd"]
    assert [row.cells["_id"] for row in rows if isinstance(row, Row)] == ["one", "two"]


async def test_a_type_is_kept_where_another_value_changes(place: TokenCollection, theirs: Collection) -> None:
    theirs.insert_one({"account": Int64(7), "access": "at-1", "small": 7, "ratio": 7.0})
    (row,) = await rows_of(place)
    assert isinstance(row, Row)
    after = replace(row, cells={**row.cells, "access": "at-2"})
    assert await place.replace([Replacement(key="7", before=row, after=after)]) == {}
    kinds = theirs.aggregate(
        [{"$project": {name: {"$type": f"${name}"} for name in ("account", "small", "ratio")}}]
    ).next()
    assert (kinds["account"], kinds["small"], kinds["ratio"]) == ("long", "int", "double")


async def test_a_new_document_is_shown_with_its_id(place: TokenCollection, theirs: Collection) -> None:
    """Else the next write would take it for another program's."""
    new = Row(cells={"account": "a", "access": "at-1"})
    assert await place.replace([Replacement(key="a", before=None, after=new)]) == {}
    shown = (await place.as_written([new]))["a"]
    assert shown.cells == theirs.find_one()
    assert await place.replace([Replacement(key="a", before=None, after=new)]) == {"a": CHANGED}


async def test_a_document_that_a_rule_refuses_keeps_no_other_from_being_written(
    place: TokenCollection, theirs: Collection
) -> None:
    """The reason contains no value."""
    theirs.database.create_collection("theirs", validator={"access": {"$ne": "canary"}})
    new = [
        Row(cells={"account": name, "access": access}) for name, access in (("a", "canary"), ("b", "at-1"))
    ]
    changes = [Replacement(key=str(row.cells["account"]), before=None, after=row) for row in new]
    refused = await place.replace(changes)
    assert refused == {"a": "MongoDB refuses the new document: code 121"}
    assert theirs.count_documents({}) == 1


async def test_a_missing_right_is_one_sentence(place: TokenCollection, theirs: Collection) -> None:
    theirs.insert_one({"account": "a"})
    fault = {"failCommands": ["find"], "errorCode": 13, "appName": "refreshd-migration"}
    admin = theirs.database.client.admin
    admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fault)
    with pytest.raises(SourceLost, match="Grant the right, or use another user"):
        await rows_of(place)
