"""A pattern that would stop the daemon is refused when it is read, and a harmless one is not."""

import pytest

from daemon.domain.sign import LONGEST_TEXT
from daemon.domain.token_url import LONGEST_VALUE
from daemon.runtime.config.problems import InvalidValue, SettingsInvalid
from daemon.runtime.config.providers.definitions import read_definition, shipped
from daemon.runtime.config.providers.pattern_cost import check_cost, is_cheap, passes_trial

HARD = [
    "(?:[a-z0-9]+-?)+",
    "tenant-(?:a+)+x",
    "[0-9]{3}-(?:[a-z]{1,63}-?)+z",
    "x(?:y(?:[a-z]+)+z){2}",
    "(?:foo|foofoo)+!",
    r"(\w+\s?)*$",
    "[a-z]*[a-z]*[a-z]*[a-z]*[a-z]*[0-9]",
    "a?" * 40 + "a" * 40,
    "(?:a|a)" * 40 + "b",
    "(?:[^/]+/?)+#",
]
HARMLESS = [
    "[a-z0-9-]{1,63}",
    "[a-z]+-[a-z]+-[a-z]+-[0-9]+",
    r"(?:[a-z0-9]+\.)+[a-z]{2,63}",
    "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    r"(?i)\Atoo many\b",
    r"^(?!0000$)",
    ".*token.*(expired|revoked).*",
    r"\((?:[+*]{2}|[^)]+)\)",
]


@pytest.mark.parametrize("pattern", HARD)
def test_a_pattern_that_backtracks_without_end_is_refused(pattern):
    """Whatever stands before the part that does it."""
    assert not is_cheap(pattern)
    with pytest.raises(InvalidValue, match="takes too long"):
        check_cost(pattern, longest=LONGEST_VALUE)


@pytest.mark.parametrize("pattern", HARMLESS)
@pytest.mark.parametrize("longest", [LONGEST_VALUE, LONGEST_TEXT])
def test_a_harmless_pattern_is_not_refused(pattern, longest):
    """By its form, or since no text was found that takes long."""
    check_cost(pattern, longest=longest)


def test_a_pattern_that_is_too_long_to_be_tried_is_refused():
    """A list of names belongs into the configuration otherwise."""
    with pytest.raises(InvalidValue, match="takes too long"):
        check_cost("(?:abc)*" * 300, longest=LONGEST_VALUE)


def test_the_shipped_patterns_pass_the_trial():
    """So they need none at each start."""
    for known in shipped().values():
        for variable in known.variables.values():
            assert passes_trial(variable.pattern.pattern, LONGEST_VALUE)
        for sign in (*known.rejected, *known.misconfigured, *known.unavailable):
            assert sign.pattern is None or passes_trial(sign.pattern.pattern, LONGEST_TEXT)


@pytest.mark.parametrize(
    ("more", "place"),
    [
        (
            {
                "token_url": "https://${sub}.acme.test/token",
                "domains": ["acme.test"],
                "variables": {"sub": {"pattern": "(?:[a-z0-9]+-?)+"}},
            },
            "variables.sub.pattern",
        ),
        ({"rejected": [{"field": "error", "pattern": "(?:[a-z]+ ?)+!"}]}, "rejected.0.pattern"),
    ],
)
def test_a_definition_with_such_a_pattern_is_refused_by_its_key(more, place):
    """The operator reads where it stands."""
    table = {"token_url": "https://acme.test/token", "client_auth": "post"} | more
    with pytest.raises(SettingsInvalid) as refused:
        read_definition("acme", table)
    [problem] = refused.value.problems
    assert problem.where.endswith(place)
    assert "takes too long" in problem.what
