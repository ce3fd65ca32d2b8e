"""`[[hooks]]`: every fault is named with its key, and a secret is never quoted."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.hook import Format, Route
from daemon.runtime.config.reload import secrets_of
from daemon.runtime.config.settings import Settings, SettingsInvalid, load

KEY = base64.b64encode(hashlib.sha256(b"for these tests").digest()).decode()
OLD, NEW = (f"whsec_{base64.b64encode(letter * 24).decode()}" for letter in (b"o", b"n"))
CONFIG = f"""
[store]
uri = "mongodb://127.0.0.1/"
[keys]
active = "a"
ring.a = "{KEY}"
[providers.xero]
client_id = "c"
client_secret = "s"
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads the configuration with these hooks."""
    tmp_path.chmod(0o700)

    def read_config(hooks: str, mode: int = 0o600, **env: str) -> Settings:
        file = tmp_path / "config.toml"
        file.write_text(CONFIG + hooks)
        file.chmod(mode)
        return load(file, env)

    return read_config


def hook(**keys: object) -> str:
    known = {"name": "crm", "url": "https://app.example.com/hook", "secret": OLD, **keys}
    lines = (f"{key} = {_toml(value)}" for key, value in known.items() if value is not None)
    return "\n[[hooks]]\n" + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case int():
            return str(value)
        case _:
            return f'"{value}"'


def test_a_hook_needs_a_name_a_url_and_a_secret(read: Any) -> None:
    (found,) = read(hook()).hooks
    assert (found.route, found.url) == (Route(name="crm"), "https://app.example.com/hook")
    assert (found.keys, found.format, found.allow_private) == ((b"o" * 24,), Format.STANDARD, False)


def test_filters_and_format_are_read(read: Any) -> None:
    keys = {"events": ["token.*", "provider.paused"], "providers": ["xero"], "format": "cloudevents"}
    (found,) = read(hook(**keys)).hooks
    assert found.route == Route(name="crm", events=("token.*", "provider.paused"), providers=("xero",))
    assert found.format is Format.CLOUDEVENTS


def test_while_it_changes_a_secret_is_a_list_of_two(read: Any, tmp_path: Path) -> None:
    """Each of them may come from a source of its own, and each signs."""
    (tmp_path / "new").write_text(NEW + "\n")
    (tmp_path / "new").chmod(0o600)
    (found,) = read(hook(secret=[{"env": "OLD"}, {"file": "new"}]), OLD=OLD).hooks
    assert found.keys == (b"o" * 24, b"n" * 24)


def test_the_log_masks_the_secrets_in_each_form(read: Any) -> None:
    texts = [one.reveal() for one in secrets_of(read(hook(secret=[OLD, NEW])), None)]
    assert {OLD, NEW, OLD.removeprefix("whsec_")} <= set(texts)


def test_a_change_that_may_bring_a_receiver_back_changes_the_configuration(read: Any) -> None:
    """The secret is none: nothing about it is stored, not even a hash."""
    first = read(hook()).hooks[0].configuration
    assert read(hook(secret=NEW)).hooks[0].configuration == first
    for keys in ({"url": "https://b.example/"}, {"events": ["token.*"]}, {"format": "cloudevents"}):
        assert read(hook(**keys)).hooks[0].configuration != first


@pytest.mark.parametrize(
    ("keys", "key", "what"),
    [
        ({"name": None}, "name", "is required"),
        ({"name": "a b"}, "name", "is not a valid name"),
        ({"name": "unknown"}, "name", "is not a valid name"),
        ({"url": None}, "url", "is required"),
        ({"url": "http://app.example.com/"}, "url", "must begin with https://"),
        ({"url": "ftp://app.example.com/"}, "url", "must begin with https://"),
        ({"url": "https://user:pw@app.example.com/"}, "url", "is not a plain URL"),
        ({"url": "https:///hook"}, "url", "is not a plain URL"),
        ({"url": "https://a.example/#x"}, "url", "is not a plain URL"),
        ({"url": "https://10.0.0.1/"}, "url", "is not a public address"),
        ({"url": "https://127.1/"}, "url", "is not a public address"),
        ({"url": "https://localhost/"}, "url", "is not a public address"),
        ({"secret": None}, "secret", "is required"),
        ({"secret": "whsec_" + base64.b64encode(b"x" * 23).decode()}, "secret", "fewer than 24 bytes"),
        ({"secret": base64.b64encode(b"x" * 32).decode()}, "secret", 'does not begin with "whsec_"'),
        ({"secret": [OLD, NEW, OLD]}, "secret", "has 3 secrets"),
        ({"secret": []}, "secret", "has 0 secrets"),
        ({"secret": {"env": "MISSING"}}, "secret", "MISSING is not set"),
        ({"events": ["tokens.*"]}, "events", "no event of the type 'tokens.*'"),
        ({"providers": ["zoho"]}, "providers", "zoho is not configured"),
        ({"format": "xml"}, "format", "is not one of the possible values"),
        ({"allow_private": "true"}, "allow_private", "without quotes"),
        ({"events": "[]"}, "events", "must be a list"),
        ({"allow_privat": True}, "allow_privat", "unknown key"),
    ],
)
def test_each_fault_is_named_with_its_key(read: Any, keys: dict[str, object], key: str, what: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read(hook(**keys))
    (problem,) = refused.value.problems
    assert problem.where.startswith(f"hooks.0.{key}") or f"hooks.0.{key}" in problem.where
    assert what in f"{problem.what}. {problem.do}"
    assert OLD not in str(problem)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "http://hooks.internal/", "https://10.0.0.1/"])
def test_inside_the_network_is_the_operators_word(read: Any, url: str) -> None:
    (found,) = read(hook(url=url, allow_private=True)).hooks
    assert found.allow_private


def test_two_hooks_have_two_names(read: Any) -> None:
    with pytest.raises(SettingsInvalid, match="name of another hook"):
        read(hook() + hook())
    assert len(read(hook() + hook(name="mail")).hooks) == 2


def test_a_secret_in_a_file_for_everybody_is_a_fault(read: Any) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read(hook(), mode=0o644)
    assert "hooks.0.secret" in [one.where.rpartition(": ")[2] for one in refused.value.problems]


def test_a_configuration_that_is_read_again_is_the_same(read: Any) -> None:
    """A reload must not stop the requests of a hook that has not changed."""
    assert read(hook(secret=[OLD, NEW])).hooks == read(hook(secret=[OLD, NEW])).hooks
    assert read(hook()).hooks != read(hook(secret=NEW)).hooks
