"""Applications write to tokens that another program has spoilt: each write ends as the contract says, and is not refused as
if the token kept changing.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import Int64

from daemon.adapters.mongo.serving.tokens import ServedTokens, served_token
from daemon.adapters.mongo.stored_number import LAST_REVISION
from daemon.domain.served_token import ServedToken
from daemon.domain.stored_grant import Author, Edit
from daemon.serving.problems import Problem
from tests.adapters.mongo.test_documents import VALUES
from tests.serving.access_bench import MINUTE, NOON, AccessBench, bench, caller, response

__all__ = ["bench"]
NUMBERS = {
    "largest": Int64(2**63 - 1),
    "smallest": Int64(-(2**63)),
    "last": Int64(LAST_REVISION),
    "largest double": 1.7e308,
    "2**53": 2.0**53,
    "half": 0.5,
    "minus inf": float("-inf"),
}
KINDS = (
    "null",
    "true",
    "int",
    "text",
    "$",
    "decimal nan",
    "object",
    "$gt",
    "list",
    "binary",
    "regex",
    "far",
    "past",
    "long",
)
ODD = {**{kind: VALUES[kind] for kind in KINDS}, **NUMBERS}
FIELDS = ["state", "access_token", "refresh_token", "revision", "issued_at", "failures", "meta", "subject", "paused_by",
          "origin", "vars", "grant_fingerprint", "last_failure", "events"]  # fmt: skip

Write = Callable[[AccessBench], Awaitable[object]]
WITHOUT = {name: value for name, value in response(3).items() if name != "refresh_token"}
WRITES: dict[str, Write] = {
    "patch": lambda bench: bench.patch(caller(), meta={"plan": "gold"}),
    "pause": lambda bench: bench.patch(caller(), state="paused"),
    "put": lambda bench: bench.put(caller()),
    "put without": lambda bench: bench.put(caller(), response=WITHOUT),
    "remove": lambda bench: bench.writing.remove(caller(), "acme:1", revoke=False),
}
ENDS = {"done", "conflict", "not-found", "revoking"}


async def ending(bench: AccessBench, write: Write) -> str:
    try:
        await write(bench)
    except Problem as problem:
        return problem.name
    return "done"


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("write", WRITES)
async def test_every_write_ends_whatever_a_field_holds(bench: AccessBench, field: str, write: str):
    """With 200, 404 or 409. `unavailable` would invite the application to repeat it without end."""
    ends: dict[str, str] = {}
    for name, value in ODD.items():
        bench.tokens.delete_many({})
        bench.insert(**{field: value})
        ends[name] = await ending(bench, WRITES[write])
        if ends[name] == "done" and write != "pause":  # one that is paused already stays as it is
            revision = bench.tokens.find_one({}, {"revision": 1})["revision"]  # type: ignore[index]
            assert type(revision) in (int, Int64)
            assert 1 <= revision <= LAST_REVISION
    assert set(ends.values()) <= ENDS, ends


@pytest.mark.parametrize("value", [1, {"a": 1}, "y" * 100_000, True])
async def test_a_refresh_token_that_can_not_be_fetched_is_not_replaced_with_nothing(
    bench: AccessBench, value: object
):
    """It may be a good one, as far as this service can see."""
    bench.insert(refresh_token=value)
    assert await ending(bench, WRITES["put without"]) == "conflict"
    assert bench.document()["refresh_token"] == value


async def test_a_write_does_not_miss_a_change_from_one_odd_value_to_a_sound_one(bench: AccessBench):
    """The comparison is with what was read."""
    bench.insert(access_token=7)
    decided: list[object] = []

    def decide(stored: Any) -> Any:
        if not decided:
            bench.tokens.update_one({}, {"$set": {"access_token": "v1.a.new"}})
        decided.append(stored.token.sealed)
        return "update", Edit(fields={"subject": "ann"})

    author = Author(key="k" * 20, name="billing", ip="10.0.0.1")
    await bench.writes.edit(author, {}, "acme:1", decide)
    assert decided == [None, "v1.a.new"]


# ---------------------------------------------------------------- numbers that limit early renewals


@pytest.mark.parametrize(
    ("stored", "count"),
    [(2, 2), (2.0, 2), (-1000, 1), (Int64(-(2**63)), 1), (0, 1), (float("nan"), 1), ("3", 1), (None, 1), (True, 1),
     (Int64(2**63 - 1), 2**31 - 1), (1e300, 2**31 - 1)],
)  # fmt: skip
def test_a_stored_refusal_counts_whatever_its_number_is(stored: object, count: int):
    """A number below zero would allow more early renewals in a row than three."""
    refused = {"version": "v", "at": NOON, "count": stored, "usual": None}
    refusals = served_token({"_id": "acme:1", "refused": refused}).refusals
    assert refusals is not None
    assert refusals.count == count


@pytest.mark.parametrize("field", ["refreshed_at", "refused.at", "refused.usual"])
def test_a_date_at_the_end_of_the_calendar_can_be_added_to(field: str):
    """Some programs store "never" so. A sum beyond the calendar is an error of Python."""
    last = datetime.max.replace(tzinfo=NOON.tzinfo)
    document: dict[str, Any] = {"_id": "acme:1", "refused": {"version": "v", "at": NOON, "count": 1}}
    inside = document["refused"] if field.startswith("refused") else document
    inside[field.rpartition(".")[2]] = last
    token: ServedToken = served_token(document)
    assert token.refusals is not None
    for at in (token.refreshed_at, token.refusals.at, token.refusals.usual):
        assert at is None or at + timedelta(days=365) > NOON


@pytest.mark.parametrize("failures", [..., None, 0, 0.0, -1, "x", float("nan")])
async def test_a_wish_is_written_whatever_stands_for_no_failures(bench: AccessBench, failures: object):
    """What is read as none is compared as none: an application may have left the field out."""
    bench.insert(failures=failures if failures is not ... else 0)
    if failures is ...:
        bench.tokens.update_one({}, {"$unset": {"failures": ""}})
    tokens = ServedTokens(bench.mongo, offline_for=MINUTE, without_streams=lambda _why: None)
    token = (await tokens.find("acme:1")).value
    assert token is not None
    await tokens.wish(token, None)
    assert bench.document()["due_at"] == NOON


async def test_no_wish_is_written_for_a_token_that_fails(bench: AccessBench):
    """It has been read before it failed. Its own backoff holds."""
    bench.insert()
    tokens = ServedTokens(bench.mongo, offline_for=MINUTE, without_streams=lambda _why: None)
    token = (await tokens.find("acme:1")).value
    assert token is not None
    bench.tokens.update_one({}, {"$set": {"failures": 1}})
    await tokens.wish(token, None)
    assert bench.document()["due_at"] == NOON + 54 * MINUTE
