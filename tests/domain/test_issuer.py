"""Rules for trusted issuers: what they match, and that no claim's value widens what they allow."""

from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.domain.access_key import ID_FORM, AccessKey, Stored, Verb
from daemon.domain.issuer import Issuer, is_template, workload_id
from daemon.domain.jwt import parse_jwt
from tests.support.jwts import SigningKey, claims

KEY = SigningKey("a", "EdDSA")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def key_for(rule: Issuer, **changed: object) -> AccessKey | None:
    return rule.key_for(parse_jwt(KEY.jwt(claims(NOON, **changed))))


def rule(**changed: Any) -> Issuer:
    usual: dict[str, Any] = {
        "name": "ci",
        "issuer": "https://issuer.example",
        "audience": "https://tokens.example",
        "claims": {"sub": "repo:acme/app:*"},
        "tokens": ("xero:acme",),
    }
    return Issuer(**{**usual, **changed})


def test_what_it_allows_is_reading_and_nothing_else():
    key = key_for(rule())
    assert key is not None
    assert key.can == {Verb.READ}
    assert key.tokens == ("xero:acme",)
    assert key.secret_hash == ""
    assert not ID_FORM.fullmatch(key.id)


@pytest.mark.parametrize(
    ("wanted", "given", "matches"),
    [
        ("repo:acme/app:*", "repo:acme/app:ref", True),
        ("repo:acme/app:*", "repo:acme/app:", True),
        ("repo:acme/app:*", "repo:acme/app2:ref", False),
        ("repo:acme/app:*", "Repo:acme/app:ref", False),
        ("exact", "exact", True),
        ("exact", "exact2", False),
        ("exact", "exac", False),
        ("*", "anything", True),
        ("*", "", False),
        ("*", None, False),
        ("*", 7, False),
        ("*", ["a"], False),
        ("a", ["a"], False),
        ("true", True, False),
        (True, True, True),
        (True, "true", False),
        (True, 1, False),
        (False, None, False),
        (False, False, True),
    ],
)
def test_claims(wanted: str | bool, given: object, matches: bool):
    assert rule(claims={"team": wanted}).matches({"team": given}) is matches


def test_all_claims_must_match():
    both = rule(claims={"sub": "repo:acme/app:*", "environment": "production"})
    assert key_for(both) is None
    assert key_for(both, environment="staging") is None
    assert key_for(both, environment="production") is not None


POD = {
    "namespace": "shop",
    "serviceaccount": {"name": "billing", "uid": "5f3a"},
    "pod": {"name": "billing-7"},
}
BILLING = {"kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "bill*"}}}


def test_a_claim_within_a_claim():
    """As Kubernetes puts them into a projected token; a name with a dot is one name."""
    assert key_for(rule(claims=BILLING), **{"kubernetes.io": POD}) is not None
    flat = {"kubernetes": {"io": POD}, "kubernetes.io.namespace": "shop", "namespace": "shop"}
    assert key_for(rule(claims=BILLING), **flat) is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        "shop",
        [],
        [POD],
        {},
        {**POD, "namespace": "other"},
        {**POD, "namespace": {"shop": "shop"}},
        {**POD, "namespace": None},
        {**POD, "serviceaccount": "billing"},
        {**POD, "serviceaccount": {}},
        {**POD, "serviceaccount": {"name": "shipping"}},
        {**POD, "serviceaccount": {"name": ["billing"]}},
        {"namespace": "shop", "name": "billing"},
    ],
)
def test_every_condition_on_a_claim_within_a_claim_must_match(given: object):
    assert key_for(rule(claims=BILLING), **{"kubernetes.io": given}) is None


def test_a_claim_within_a_claim_fills_a_segment_and_a_text():
    filled = rule(
        tokens=("xero:{kubernetes.io>namespace}/*",),
        where={"subject": "{kubernetes.io>serviceaccount>name}"},
    )
    key = key_for(filled, **{"kubernetes.io": POD})
    assert key is not None
    assert (key.tokens, key.where) == (("xero:shop/*",), {"subject": "billing"})
    for odd in (
        "shop",
        {},
        {"namespace": {"a": "b"}},
        {**POD, "namespace": "a/b"},
        {**POD, "namespace": "*"},
    ):
        assert key_for(filled, **{"kubernetes.io": odd}) is None


def test_a_claim_fills_a_segment_and_a_text():
    key = key_for(
        rule(
            tokens=("xero:{tenant}", "xero:{tenant}/*", "xero:fixed"),
            where={"meta.tenant": "{tenant}", "subject": "{sub}"},
        ),
        tenant="acme-1",
    )
    assert key is not None
    assert key.tokens == ("xero:acme-1", "xero:acme-1/*", "xero:fixed")
    assert key.where == {"meta.tenant": "acme-1", "subject": "repo:acme/app:ref:refs/heads/main"}


ODD = [
    "*",
    "a*",
    "",
    "acme:other",
    "acme/other",
    "..%2f",
    "a b",
    "{sub}",
    "a\u200b",
    "é",
    "a,b",
    "a\\b",
    "x" * 257,
    7,
    True,
    None,
    ["acme"],
    {"a": "b"},
]


@pytest.mark.parametrize("value", ODD)
def test_an_odd_value_never_becomes_a_selector(value: object):
    for selector in ("xero:{tenant}", "xero:{tenant}/*", "{tenant}:*"):
        assert key_for(rule(tokens=(selector,)), tenant=value) is None
    partly = key_for(rule(tokens=("xero:{tenant}", "xero:fixed")), tenant=value)
    assert partly is not None
    assert partly.tokens == ("xero:fixed",)


@pytest.mark.parametrize("value", ["", "a\nb", "x" * 513, 7, None, ["a"], {"$ne": ""}])
def test_without_its_text_a_condition_allows_nothing(value: object):
    assert key_for(rule(where={"meta.tenant": "{tenant}"}), tenant=value) is None


@pytest.mark.parametrize("value", ["*", "a*", "acme/app"])
def test_a_condition_is_compared_and_never_a_pattern(value: str):
    key = key_for(rule(where={"meta.tenant": "{tenant}"}), tenant=value)
    assert key is not None
    assert key.may(Verb.READ, Stored(id="xero:acme", fields={"meta.tenant": value}))
    assert not key.may(Verb.READ, Stored(id="xero:acme", fields={"meta.tenant": "acme"}))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("xero:{tenant}", True),
        ("xero:{tenant}/*", True),
        ("{provider}:x", True),
        ("xero:a/{t}/b", True),
        ("xero:*", True),
        ("xero:{kubernetes.io>namespace}/*", True),
        ("xero:{a>}", False),
        ("xero:{>a}", False),
        ("xero:{a>>b}", False),
        ("xero:{tenant}*", False),
        ("xero:a{tenant}", False),
        ("xero:{tenant}-x", False),
        ("xero:{}", False),
        ("xero:{a b}", False),
        ("xero:{tenant", False),
        ("xero:tenant}", False),
        ("xero:{{tenant}}", False),
    ],
)
def test_a_claim_stands_for_a_whole_segment(text: str, good: bool):
    assert is_template(text, of_segments=True) is good


def test_two_workloads_are_never_one():
    assert workload_id("a", "b") != workload_id("a", "c")
    assert workload_id("a", "bc") != workload_id("ab", "c")
    assert workload_id("a", "b") == workload_id("a", "b")
