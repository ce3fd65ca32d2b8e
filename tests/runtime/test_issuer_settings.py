"""[[access.issuers]]: what is required, and each fault by its name."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.domain.jwt import ALGORITHMS
from daemon.domain.provider import Rate
from daemon.runtime.config.access import AccessSettings, load_access
from daemon.runtime.config.settings import SettingsInvalid
from tests.runtime.test_access_settings import DOOR, reader_lines, writer_lines, written
from tests.support.jwts import SigningKey, key_set

URL = "https://issuer.example/jwks"
USUAL: Mapping[str, str] = {
    "issuer": '"https://issuer.example"',
    "audience": '"https://tokens.example"',
    "jwks": f'"{URL}"',
    "claims": '{ sub = "repo:acme/app:*" }',
    "tokens": '["xero:acme"]',
}


def section(**keys: str | None) -> str:
    lines = {**USUAL, **keys}
    return "[[access.issuers]]\n" + "".join(f"{name} = {text}\n" for name, text in lines.items() if text)


def loaded(directory: Path, *sections: str) -> AccessSettings:
    env = {"READERS": reader_lines("a"), "WRITER": writer_lines("a")}
    return load_access(written(directory, DOOR + "".join(sections)), env)


def faults(directory: Path, *sections: str) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        loaded(directory, *sections)
    return "\n".join(f"{one.where.partition(': ')[2]}: {one.what}" for one in caught.value.problems)


def test_without_it_nobody_is_trusted(tmp_path: Path):
    assert loaded(tmp_path).issuers.rules == ()


def test_a_rule_and_its_defaults(tmp_path: Path):
    found = loaded(tmp_path, section()).issuers
    (rule,) = found.rules
    assert (rule.name, rule.issuer, rule.audience) == (
        "issuer.example",
        "https://issuer.example",
        "https://tokens.example",
    )
    assert (rule.claims, rule.tokens, rule.where) == ({"sub": "repo:acme/app:*"}, ("xero:acme",), {})
    assert (rule.algorithms, rule.networks, rule.rate) == (frozenset(ALGORITHMS), (), None)
    assert found.sources["https://issuer.example"].place == URL
    assert not found.sources["https://issuer.example"].allow_private


def test_every_key(tmp_path: Path):
    keys = {
        "name": '"ci"',
        "algorithms": '["ES256"]',
        "where": '{ "meta.tenant" = "{tenant}", subject = "me" }',
        "networks": '["10.0.0.0/8"]',
        "rate": '"60/1m"',
        "allow_private": "true",
        "claims": '{ "https://example.com/team" = "a", verified = true }',
        "tokens": '["xero:{tenant}/*", "*"]',
        "jwks": '"http://127.0.0.1:8080/jwks"',
    }
    (rule,) = loaded(tmp_path, section(**keys)).issuers.rules
    assert (rule.name, rule.algorithms, rule.tokens) == ("ci", {"ES256"}, ("xero:{tenant}/*", "*"))
    assert rule.where == {"meta.tenant": "{tenant}", "subject": "me"}
    assert rule.rate == Rate(count=60, per=timedelta(minutes=1))
    assert rule.claims == {"https://example.com/team": "a", "verified": True}


def test_keys_in_a_file(tmp_path: Path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(key_set(SigningKey("a", "EdDSA"))))
    found = loaded(tmp_path, section(jwks='{ file = "jwks.json" }')).issuers
    assert found.sources["https://issuer.example"].place == file
    file.write_text('{"keys":[]}')
    assert "holds no public key" in faults(tmp_path, section(jwks='{ file = "jwks.json" }'))
    file.write_text("<html>")
    assert "it is not JSON" in faults(tmp_path, section(jwks='{ file = "jwks.json" }'))
    file.unlink()
    assert "No such file" in faults(tmp_path, section(jwks='{ file = "jwks.json" }'))


@pytest.mark.parametrize("name", USUAL)
def test_what_is_required(tmp_path: Path, name: str):
    assert f"access.issuers.0.{name}: is required" in faults(tmp_path, section(**{name: None}))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"isuer": '"x"'}, "isuer: unknown key"),
        ({"issuer": '""'}, "issuer: must be a non-empty string"),
        ({"issuer": '"no host"'}, "name: is required, because the issuer names no host"),
        ({"issuer": '"https://a\\u0000b"'}, "issuer: contains a NUL character"),
        ({"issuer": '"https://a\\u0007b"'}, "issuer: is not what a JWT names as iss"),
        ({"audience": "7"}, "audience: must be a non-empty string"),
        ({"jwks": '"http://issuer.example/jwks"'}, "jwks: must begin with https://"),
        ({"jwks": '"https://user@issuer.example/"'}, "jwks: is not a plain URL"),
        ({"jwks": '"https://issuer.example/#x"'}, "jwks: is not a plain URL"),
        ({"jwks": '"https://issuer.example:0/"'}, "jwks: is not a plain URL"),
        ({"jwks": '"https://issuer.example:x/"'}, "jwks: is not a plain URL"),
        ({"jwks": '"https://issuer.example\\\\@x/"'}, "jwks: is not a plain URL"),
        ({"jwks": '"https:///jwks"'}, "jwks: is not a plain URL"),
        ({"jwks": '"jwks.json"'}, "jwks: is not an https URL"),
        ({"jwks": '"file:///etc/passwd"'}, "jwks: is not a plain URL"),
        ({"jwks": '"ftp://issuer.example/x"'}, "jwks: must begin with https://"),
        ({"jwks": '{ env = "X" }'}, "jwks: is not a source of keys"),
        ({"jwks": "7"}, "jwks: is not an https URL"),
        ({"jwks": '"https://10.0.0.1/jwks"'}, "jwks: is not a public address"),
        ({"jwks": '"https://127.1/jwks"'}, "jwks: is not a public address"),
        ({"jwks": '"http://localhost/jwks"'}, "jwks: is not a public address"),
        ({"jwks": '"https://[::1]/jwks"'}, "jwks: is not a public address"),
        ({"claims": "{}"}, "claims: must limit whose JWTs count"),
        ({"claims": '{ sub = "*" }'}, "claims: must limit whose JWTs count"),
        ({"claims": '{ sub = "*", a = "*" }'}, "claims: must limit whose JWTs count"),
        ({"claims": '{ a = { b = "*", c = { d = "*" } } }'}, "claims: must limit whose JWTs count"),
        ({"claims": '{ sub = "a", b = {} }'}, "claims: contains an empty table"),
        (
            {"claims": "{ a = { b = { c = { d = { e = { f = { g = { h = { i = 'x' } } } } } } } } }"},
            "too deep",
        ),
        ({"claims": '{ sub = "a", b = { "" = "c" } }'}, "claims: has a name that no claim has"),
        ({"claims": "{ a = { b = 7 } }"}, "claims: contains a value that is neither"),
        ({"claims": '"sub"'}, "claims: must be a table"),
        ({"claims": '{ sub = "" }'}, "claims: contains a value that is neither"),
        ({"claims": "{ sub = 7 }"}, "claims: contains a value that is neither"),
        ({"claims": '{ sub = ["a"] }'}, "claims: contains a value that is neither"),
        ({"claims": '{ sub = "a*b" }'}, "claims: contains a value with a * before its end"),
        ({"claims": '{ sub = "a**" }'}, "claims: contains a value with a * before its end"),
        ({"claims": '{ sub = "a", iss = "b" }'}, "claims.iss: is checked in any case"),
        ({"claims": '{ sub = "a", "" = "b" }'}, "claims: has a name that no claim has"),
        ({"tokens": "[]"}, "tokens: is empty"),
        ({"tokens": '"xero:acme"'}, "tokens: must be a list"),
        ({"tokens": '["xero"]'}, "tokens.0: is neither an id nor the beginning of one"),
        ({"tokens": '["xero*"]'}, "tokens.0: is neither an id nor the beginning of one"),
        ({"tokens": '["Xero:a"]'}, "tokens.0: is neither an id nor the beginning of one"),
        ({"tokens": '["xero:*a"]'}, "tokens.0: has a * before its end"),
        ({"tokens": '["xero:"]'}, "tokens.0: can't name a token"),
        ({"tokens": '["xero:{tenant}*"]'}, "tokens.0: has a brace"),
        ({"tokens": '["xero:a-{tenant}"]'}, "tokens.0: has a brace"),
        ({"tokens": '["xero:{tenant"]'}, "tokens.0: has a brace"),
        ({"where": '{ tenant = "a" }'}, "where.tenant: is not a property of a token"),
        ({"where": '{ "meta.$x" = "a" }'}, "is not a property of a token"),
        ({"where": '{ subject = "a-{tenant}" }'}, "where: contains a text in which a claim is not the whole"),
        ({"where": '{ subject = "" }'}, "where: must be a non-empty string"),
        ({"where": '"subject"'}, "where: must be a table"),
        ({"algorithms": "[]"}, "algorithms: is empty"),
        ({"algorithms": '["HS256"]'}, "algorithms.0: is not an algorithm that can be trusted here"),
        ({"algorithms": '["none"]'}, "algorithms.0: is not an algorithm that can be trusted here"),
        ({"algorithms": "[7]"}, "algorithms.0: is not an algorithm that can be trusted here"),
        ({"networks": '["10.0.0.1/8"]'}, "networks.0: is not a network"),
        ({"rate": '"often"'}, "rate: is not a rate"),
        ({"name": '"a b"'}, "name: is not a name for a rule"),
        ({"allow_private": '"yes"'}, "allow_private: must be true or false"),
    ],
)
def test_each_fault_has_its_place(tmp_path: Path, keys: dict[str, str], words: str):
    said = faults(tmp_path, section(**keys))
    assert words in said
    assert said.count("\n") == 0 or "name" in said, said


def test_all_faults_are_said_together(tmp_path: Path):
    said = faults(
        tmp_path, "[access]\nprot = 1\n", section(tokens="[]", claims="{}"), section(name='"x"', rate='"x"')
    )
    assert all(
        text in said for text in ("access.prot", "issuers.0.tokens", "issuers.0.claims", "issuers.1.rate")
    )


def test_rules_of_one_issuer_share_its_keys_and_have_names(tmp_path: Path):
    one, two = section(name='"one"'), section(name='"two"', audience='"other"')
    assert len(loaded(tmp_path, one, two).issuers.rules) == 2
    assert "issuers.1.name: is missing or given twice" in faults(tmp_path, section(), section())
    other = section(name='"two"', jwks='"https://issuer.example/other"')
    assert "issuers.1.jwks: is not that of the other rule" in faults(tmp_path, one, other)
    private = section(name='"two"', allow_private="true")
    assert "issuers.1.jwks: is not that of the other rule" in faults(tmp_path, one, private)


def test_it_must_be_a_list(tmp_path: Path):
    assert "access.issuers: must be a list of tables" in faults(tmp_path, '[access.issuers]\nissuer = "x"\n')
