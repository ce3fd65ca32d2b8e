"""Queries and forms: an answer to a faulty one names every fault, so that a developer corrects all of them together."""

from datetime import timedelta

import pytest

from daemon.runtime.access_web.query import MOST_FIELDS, Query, pairs, span
from daemon.serving.problems import Invalid

ALLOWED = ("fresh_for", "scope")
UNKNOWN = ("query", "has an unknown parameter: foo")
TWICE = ("query scope", "is given twice")
NO_DURATION = ("query fresh_for", 'is not a duration like "90s" or "5m"')


def faults_of(query: Query) -> list[tuple[str, str]]:
    """Read every parameter, as a route does, and return the faults."""
    query.read("fresh_for", span("fresh_for"), None)
    with pytest.raises(Invalid) as refused:
        query.check()
    return list(refused.value.faults)


@pytest.mark.parametrize(
    ("encoded", "faults"),
    [
        ("foo=1&fresh_for=x", [UNKNOWN, NO_DURATION]),
        ("scope=a&foo=1&scope=b&fresh_for=x", [UNKNOWN, TWICE, NO_DURATION]),
        ("foo=1&foo=2&scope=a&scope=b&scope=c", [UNKNOWN, TWICE]),
        ("fresh_for=x&fresh_for=y", [("query fresh_for", "is given twice")]),
        ("scope=%00&fresh_for=x", [("query scope", "contains a NUL"), NO_DURATION]),
        ("fresh_for=%zz&foo=1", [("query", "contains a malformed percent escape")]),
    ],
)
def test_every_fault_is_named_once(encoded: str, faults: list[tuple[str, str]]):
    """A parameter that is given twice has no value to find fault with, and a query that can't be split has no names."""
    assert faults_of(Query(encoded, ALLOWED)) == faults


def test_the_values_of_a_sound_query_are_read_by_their_rules():
    """A parameter that is missing has its default, and one may be repeated in its order."""
    query = Query("w=2&fresh_for=5m&scope=&w=1", ALLOWED, repeated="w")
    assert query.read("fresh_for", span("fresh_for"), None) == timedelta(minutes=5)
    assert query.read("scope", str.split, ["?"]) == []
    assert query.read("missing", str.split, ["?"]) == ["?"]
    query.check()
    assert query.values == ["2", "1"]


def test_faults_of_other_parts_are_named_with_those_of_the_query():
    """As of a subject in the path, or of two parameters that contradict each other."""

    def wrong() -> str:
        raise Invalid(("subject", "is too long"))

    query = Query("foo=1", ALLOWED)
    assert query.part(wrong, "default") == "default"
    assert faults_of(query) == [UNKNOWN, ("subject", "is too long")]


def test_a_repeated_parameter_has_faults_too():
    """Each value is checked, and their number."""
    assert faults_of(Query("w=1&w=%00&foo=1", ALLOWED, repeated="w")) == [
        UNKNOWN,
        ("query w", "contains a NUL"),
    ]
    many = "&".join(["w=1"] * (MOST_FIELDS + 1))
    assert faults_of(Query(f"{many}&foo=1", ALLOWED, repeated="w")) == [
        UNKNOWN,
        ("query w", "is given too often"),
    ]


def test_a_form_may_have_any_names_once():
    """OAuth libraries send parameters of their own (RFC 6749 section 3.2: unrecognized ones are ignored)."""
    assert pairs("a=1&b=x%20y", "body") == {"a": "1", "b": "x y"}
    with pytest.raises(Invalid) as refused:
        pairs("a=1&a=2&b=%00", "body")
    assert list(refused.value.faults) == [("body a", "is given twice"), ("body b", "contains a NUL")]
