"""Numbers that any program may have stored: Python and MongoDB read the same, and no number breaks a rule about counts."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import Decimal128, Int64
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from daemon.adapters.mongo.stored_number import (
    LAST_REVISION,
    MOST_COUNTED,
    count,
    counted,
    next_revision,
    revision_after,
    whole,
)

EDGES = [
    *(sign * (2**power + more) for sign in (1, -1) for power in (0, 31, 53, 62) for more in (-1, 0, 1)),
    2**63 - 1,
    -(2**63),
]
NUMBERS = st.one_of(
    st.sampled_from(EDGES).map(Int64),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.sampled_from([float(edge) for edge in EDGES]),
    st.integers(-10, 10).map(float),
    st.floats(),
)
OTHERS = st.one_of(
    st.none(),
    st.booleans(),
    st.text(alphabet="0123456789.-", max_size=4),
    st.binary(max_size=3),
    st.sampled_from([Decimal128("1"), Decimal128("NaN"), Decimal128("Infinity"), Decimal128("-1.5")]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.just("n"), st.integers(0, 3), max_size=1),
)
MISSING = object()
VALUES = st.lists(st.one_of(NUMBERS, OTHERS, st.just(MISSING)), min_size=1, max_size=40)
ROUGH = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def evaluated(
    client: MongoClient[dict[str, Any]], values: Sequence[object], expression: Mapping[str, object]
) -> list[object]:
    """Return MongoDB's result for each value, at the path `n`, in a query without a collection."""
    rows = [{} if value is MISSING else {"n": value} for value in values]
    literal = {"$documents": [{"$literal": row} for row in rows]}
    return [one["is"] for one in client["admin"].aggregate([literal, {"$project": {"is": expression}}])]


def held(values: Sequence[object]) -> list[object]:
    return [None if value is MISSING else value for value in values]


@ROUGH
@given(values=VALUES)
@example(values=list(map(Int64, EDGES)))
@example(values=list(map(float, EDGES)))
@example(values=[float("nan"), float("inf"), float("-inf"), -0.0, 0.5, MISSING])
def test_mongodb_counts_what_python_counts(mongo_client: MongoClient[dict[str, Any]], values: list[object]):
    """And both within the bounds, so that a limit applies whatever is stored, and one more fits the field."""
    found = evaluated(mongo_client, values, counted("$n"))
    assert found == [count(value) for value in held(values)]
    assert all(type(one) is int and 0 <= one <= MOST_COUNTED for one in found)


@ROUGH
@given(values=VALUES)
@example(values=list(map(Int64, EDGES)))
@example(values=list(map(float, EDGES)))
@example(values=[float("nan"), float("inf"), float("-inf"), -0.0, 0.5, MISSING])
def test_mongodb_raises_a_revision_as_python_does(
    mongo_client: MongoClient[dict[str, Any]], values: list[object]
):
    """The next one is a whole number that every JSON parser keeps, and follows the stored one if that is possible."""
    found = evaluated(mongo_client, values, next_revision("$n"))
    assert found == [revision_after(value) for value in held(values)]
    for value, after in zip(held(values), found, strict=True):
        assert isinstance(after, int)
        assert 1 <= after <= LAST_REVISION
        before = whole(value)
        assert before is None or after == before + 1 or not 0 <= before < LAST_REVISION
