"""The options of `refreshd access create`: what is read, and what to write instead of a bad value."""

import sys
from datetime import timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.commands.support.access_rights import Typed, read_rights
from daemon.domain.access_key import AccessKey, Verb
from daemon.domain.provider import Rate

COMPOSED, DECOMPOSED = "xero:caf\u00e9", "xero:cafe\u0301"


def rights(**options):
    return read_rights(Typed(**{"name": "billing", "tokens": ["xero:*"], "can": ["read"], **options}))


def test_all_options_are_read():
    """Comma lists and repeated options are the same; duplicates are dropped."""
    found = rights(
        tokens=["xero:a,xero:b", "hubspot:*", "xero:a"],
        can=["read, refuse", "read"],
        where=["meta.tenant=acme", "subject=a,b=c", "subject=a,b=c"],
        networks=["10.0.0.0/8,2001:db8::/32", "10.0.0.7"],
        rate="60/1m",
        expires="90d",
    )
    assert found.faults == []
    assert found.tokens == ["xero:a", "xero:b", "hubspot:*"]
    assert found.can == [Verb.READ, Verb.REFUSE]
    assert found.where == {"meta.tenant": "acme", "subject": "a,b=c"}
    assert found.networks == [ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32", "10.0.0.7/32")]
    assert (found.rate, found.lifetime) == (Rate(count=60, per=timedelta(minutes=1)), timedelta(days=90))


@pytest.mark.parametrize(
    ("text", "selectors"),
    [
        ("*", ["*"]),
        ("xero:*", ["xero:*"]),
        ("xero:a:b*", ["xero:a:b*"]),
        (COMPOSED, [COMPOSED]),
        (DECOMPOSED, [DECOMPOSED]),
        (f"{COMPOSED},{DECOMPOSED}", [COMPOSED, DECOMPOSED]),
        ("xero:a b", ["xero:a b"]),
        ("xero:a ", ["xero:a "]),
        ("xero:a\\u002cb", ["xero:a,b"]),
        ("xero:a\\u00ad", ["xero:a\u00ad"]),
        ("xero:a\\u002ab", ["xero:a*b"]),
        ("xero:\\u002a*", ["xero:**"]),
    ],
)
def test_selectors_stay_as_they_are_typed(text, selectors):
    """No normalization. Escapes, as in a list of tokens, stand for their characters."""
    found = rights(tokens=[text])
    assert (found.tokens, found.faults) == (selectors, [])


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"name": ""}, "1 to 64 of A to Z"),
        ({"name": "a b"}, "1 to 64 of A to Z"),
        ({"name": "-a"}, "beginning with a letter or digit"),
        ({"name": "a" * 65}, "1 to 64"),
        ({"name": "a\n"}, "1 to 64"),
        ({"tokens": [""]}, "Write PROVIDER:ACCOUNT, PROVIDER:* or *"),
        ({"tokens": ["xero:a,"]}, "Write PROVIDER:ACCOUNT, PROVIDER:* or *"),
        ({"tokens": ["xero"]}, "Write xero:* for all of its tokens"),
        ({"tokens": ["xero*"]}, "Write xero:* for all tokens of one provider"),
        ({"tokens": ["xero:a*b"]}, "Write xero:a*"),
        ({"tokens": ["xero:**"]}, "Write xero:*"),
        ({"tokens": ["*:a"]}, "Write *"),
        ({"tokens": ["**"]}, "Write *"),
        ({"tokens": ["XERO:a"]}, "Write PROVIDER:ACCOUNT"),
        ({"tokens": ["xero:"]}, "Copy the ID from `refreshd list`"),
        ({"tokens": ["xero:a\x00"]}, "control characters"),
        ({"tokens": ["xero:a\\u0000*"]}, "control characters"),
        ({"tokens": [f"xero:{'a' * 513}"]}, "at most 512"),
        ({"tokens": ["xero:\udc80"]}, "Write it in UTF-8"),
        ({"tokens": ["xero:\\ud800"]}, "valid Unicode"),
        ({"tokens": ["xero:a\\u002a"]}, "Write the ID's beginning and *"),
        ({"can": [""]}, "Use some of: read, refuse, write"),
        ({"can": ["raed"]}, "Did you mean read?"),
        ({"can": ["READ"]}, "Use some of: read"),
        ({"can": ["*"]}, "Use some of: read"),
        ({"can": ["read,replace"]}, "Write --can write,replace"),
        ({"where": ["tenant=acme"]}, "Write meta.tenant=acme"),
        ({"where": ["meta.tenant"]}, "Write meta.tenant=TEXT"),
        ({"where": ["subject"]}, "Write subject=TEXT"),
        ({"where": ["meta.a.b=c"]}, "Write meta.NAME=c or subject=c"),
        ({"where": ["meta.$where=c"]}, "Write meta.NAME=c or subject=c"),
        ({"where": [""]}, "Write meta.NAME=TEXT or subject=TEXT"),
        ({"where": ["=a"]}, "Write meta.NAME=a or subject=a"),
        ({"where": ["subject="]}, "Write subject=TEXT"),
        ({"where": [f"subject={'a' * 513}"]}, "Write a shorter one"),
        ({"where": ["subject=\udc80"]}, "Write it in UTF-8"),
        ({"where": ["subject=\\udc80"]}, "Write it in UTF-8"),
        ({"where": ["subject=a", "subject=b"]}, "Create a key for each"),
        ({"networks": ["any"]}, "Write it like 10.0.0.0/8"),
        ({"networks": [""]}, "Write it like 10.0.0.0/8"),
        ({"networks": ["10.0.0.0/33"]}, "Write it like 10.0.0.0/8"),
        ({"networks": ["10.1.2.3/8"]}, "Write 10.0.0.0/8 for that network"),
        ({"networks": ["2001:db8::1/32"]}, "Write 2001:db8::/32 for that network"),
        ({"networks": ["::ffff:10.0.0.0/104"]}, "Write 10.0.0.0/8"),
        ({"networks": ["::ffff:10.0.0.7"]}, "Write 10.0.0.7/32"),
        ({"rate": "60"}, "like"),
        ({"rate": "0/1m"}, "like"),
        ({"rate": "60/0s"}, "greater than zero"),
        ({"rate": "-1/1m"}, "like"),
        ({"expires": "90"}, "Write a number and its unit"),
        ({"expires": "0d"}, "Write a longer time"),
        ({"expires": "-1d"}, "Write a number and its unit"),
        ({"expires": "40000d"}, "Write a shorter one"),
    ],
)
def test_each_bad_value_is_named_with_what_to_write_instead(options, advice):
    """One sentence for each: the option, the value, the fault, and the remedy."""
    (fault,) = rights(**options).faults
    assert advice in fault
    ((option, value),) = options.items()
    typed = (value if isinstance(value, str) else value[-1].split(",")[-1])[:20]
    named = {"name": "NAME", "networks": "--from"}.get(option, f"--{option}")
    assert fault.startswith(named)
    assert repr(typed)[1:-1].split("=")[0] in fault
    assert not fault.endswith(".")


def test_all_faults_are_named_in_one_run():
    """So that a command line is corrected once."""
    found = rights(name="", tokens=["a,b"], can=["x"], where=["y"], networks=["z"], rate="", expires="")
    assert len(found.faults) == 8


@given(st.text(st.characters(max_codepoint=sys.maxunicode)))
def test_any_text_is_a_fault_or_a_selector_that_names_itself(text):
    """Nothing that is typed raises an error or widens the key: what ends in no `*` names only itself."""
    found = rights(tokens=[text])
    if found.faults:
        return
    for selector in found.tokens:
        key = AccessKey(id="", name="", secret_hash="", tokens=(selector,), can=frozenset())
        assert key.names(selector)
        assert selector.endswith("*") or not key.names(f"{selector}x")


@given(st.text(), st.text(), st.text())
def test_any_text_of_the_other_options_is_read_without_an_error(one, other, third):
    """A shell passes anything."""
    rights(name=one, can=[other], where=[third], networks=[one], rate=other, expires=third)
