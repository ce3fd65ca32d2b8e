"""Conditions of a write on the stored version, as RFC 9110 section 13 has them."""

import pytest

from daemon.domain.served_token import ServedToken
from daemon.serving.preconditions import UNCONDITIONAL, read_preconditions
from daemon.serving.problems import Problem
from tests.serving.fakes import token

STORED = token()
VERSION = STORED.version
OWN = f'"{VERSION}"'
OTHER = '"other"'


def passes(
    stored: ServedToken | None, *, match: tuple[str, ...] = (), none_match: tuple[str, ...] = ()
) -> bool:
    conditions = read_preconditions(match, none_match)
    try:
        conditions.require(stored)
    except Problem as problem:
        return problem.name != "precondition-failed"
    return True


@pytest.mark.parametrize(
    ("lines", "if_match", "if_none_match"),
    [
        ((), True, True),
        (("*",), True, False),
        ((' "x" , * ',), False, True),
        (('"*"',), False, True),
        ((OWN,), True, False),
        ((OTHER,), False, True),
        ((f"{OTHER}, {OWN}",), True, False),
        ((OTHER, OWN), True, False),
        ((f"W/{OWN}",), False, False),
        ((str(VERSION),), False, True),
    ],
)
def test_both_headers_compare_the_stored_version(lines: tuple[str, ...], if_match: bool, if_none_match: bool):
    """The comparison for If-Match is strong, that for If-None-Match is weak. A quoted asterisk is a tag like any other."""
    assert passes(STORED, match=lines) is if_match
    assert passes(STORED, none_match=lines) is if_none_match


@pytest.mark.parametrize("lines", [("*",), (OWN,), (OTHER,)])
def test_nothing_stored_matches_no_version(lines: tuple[str, ...]):
    """So If-Match fails, and a write with If-None-Match creates the token."""
    assert not passes(None, match=lines)
    assert passes(None, none_match=lines)


def test_both_conditions_have_to_hold():
    assert passes(STORED, match=(OWN,), none_match=(OTHER,))
    assert not passes(STORED, match=(OWN,), none_match=("*",))
    assert not passes(STORED, match=(OTHER,), none_match=(OTHER,))


def test_a_token_without_an_access_token_counts_as_stored():
    """A new grant must not replace it unseen."""
    bare = token(sealed=None, version=None)
    assert not passes(bare, none_match=("*",))
    assert passes(bare, none_match=(OWN,))
    assert passes(bare, match=("*",))


def test_without_headers_there_is_no_condition():
    UNCONDITIONAL.require(None)
    UNCONDITIONAL.require(STORED)
