"""`refreshd check` warns of keys that are valid one by one, but hardly mean what they say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.commands.checks.definitions import check_definitions, doubts
from daemon.commands.checks.report import Report
from daemon.domain.provider import Definition, Provider, Rotation
from daemon.runtime.config.providers.definitions import shipped

PLAIN = Definition(name="acme", title="Acme", token_url="https://acme.example/token")
HOUR = timedelta(hours=1)


def provider(**keys: object) -> Provider:
    return Provider(definition=replace(PLAIN, **keys), client_id="me")


@pytest.mark.parametrize(
    ("keys", "key", "what", "do"),
    [
        ({"scopes": ("read,write",)}, "scopes", "'read,write'", 'scopes = ["read", "write"]'),
        ({"scopes": ("read,write",)}, "scopes", "one scope", 'scope_separator = ","'),
        ({"scopes": ("mail", "a+b")}, "scopes", "'a+b'", 'scopes = ["a", "b"].'),
        ({"scopes": ("a%20b%20c",)}, "scopes", "'a%20b%20c'", 'scopes = ["a", "b", "c"].'),
        ({"rotation": Rotation.NEVER, "grace": HOUR}, "grace", "never spent", "correct rotation"),
        ({"rotation": Rotation.NEVER, "grace_until_used": True}, "grace", "never spent", "correct rotation"),
        ({"access_lifetime": HOUR, "window": 2 * HOUR}, "window", "is 2 h, but the access token lives 60 min", "shorter"),
        ({"access_lifetime": HOUR, "window": HOUR}, "window", "is 60 min", "shorter"),
    ],
)  # fmt: skip
def test_a_key_that_means_something_else_is_a_warning(keys, key, what, do):
    """One sentence about what happens, and one about what to write."""
    [(found, said, advice)] = doubts(provider(**keys))
    assert found == key
    assert what in said
    assert do in advice


@pytest.mark.parametrize(
    "keys",
    [
        {"scopes": ("https://acme.example/auth/mail.read", "files:write", "ticket-user.r_w")},
        {"rotation": Rotation.SOMETIMES, "grace": HOUR},
        {"rotation": Rotation.NEVER},
        {"access_lifetime": HOUR, "window": timedelta(minutes=59)},
        {"window": 2 * HOUR},
    ],
)
def test_what_is_usual_is_no_warning(keys):
    """Nor is a window without a known lifetime: a reply may state a longer one."""
    assert list(doubts(provider(**keys))) == []


def test_the_section_s_own_window_counts():
    """It replaces the definition's."""
    short = provider(access_lifetime=HOUR, window=2 * HOUR)
    assert list(doubts(replace(short, window=timedelta(minutes=5)))) == []
    report = Report()
    check_definitions([replace(provider(access_lifetime=HOUR), window=3 * HOUR)], report)
    assert [(trial.where, trial.what[:6]) for trial in report.trials] == [("providers.acme.window", "is 3 h")]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_no_shipped_definition_has_one(name):
    """An operator could do nothing about it."""
    assert list(doubts(Provider(definition=shipped()[name], client_id="me"))) == []
