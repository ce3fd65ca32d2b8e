"""Access keys: their form, and what each allows. Everything else is denied."""

import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.access_key import (
    ID_FORM,
    AccessKey,
    Presented,
    Stored,
    Verb,
    is_field,
    new_key,
    parse_key,
    proves,
    secret_hash,
)
from daemon.domain.secret import Secret

NOW = datetime(2026, 11, 1, tzinfo=UTC)
TEXT, PRESENTED = new_key()
COMPOSED, DECOMPOSED = "xero:caf\u00e9", "xero:cafe\u0301"


def key(*tokens, can=(Verb.READ,), **fields):
    return AccessKey(
        id=PRESENTED.id,
        name="billing",
        secret_hash=secret_hash(PRESENTED.secret),
        tokens=tokens or ("xero:*",),
        can=frozenset(can),
        **fields,
    )


def token(name="xero:a", **fields):
    return Stored(id=name, fields=fields)


# ---------------------------------------------------------------- the form


def test_a_new_key_is_read_back():
    """Prefix, 20 characters of id, 43 of secret, and eight hex digits."""
    text = TEXT.reveal()
    prefix, key_id, *rest = text.split("_", 2)
    assert (prefix, key_id) == ("rfk", PRESENTED.id)
    assert ID_FORM.fullmatch(PRESENTED.id)
    assert len(PRESENTED.secret.reveal()) == 43
    assert rest == [f"{PRESENTED.secret.reveal()}_{text[-8:]}"]
    assert parse_key(text) == PRESENTED


def test_two_new_keys_have_nothing_in_common():
    """Neither the id nor the secret repeats."""
    made = [new_key()[1] for _ in range(100)]
    assert len({one.id for one in made}) == len({one.secret for one in made}) == 100


def test_the_checksum_is_that_of_all_before_it():
    """A scanner needs nothing but CRC32, as zlib and PNG compute it."""
    body, _, checksum = TEXT.reveal().rpartition("_")
    assert int(checksum, 16) == zlib.crc32(f"{body}_".encode())


@given(place=st.integers(min_value=0, max_value=len(TEXT.reveal()) - 1), character=st.characters())
def test_a_text_with_one_other_character_is_no_key(place, character):
    """CRC32 finds each single change."""
    text = TEXT.reveal()
    changed = text[:place] + character + text[place + 1 :]
    assert (parse_key(changed) is None) == (changed != text)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.upper(),
        lambda text: text[:-8] + text[-8:].upper() if text[-8:].upper() != text[-8:] else "",
        lambda text: text.replace("rfk_", "rfh_"),
        lambda text: text[:-9],
        lambda text: text * 2,
        lambda text: text + "0" * 1_000_000,
        lambda text: text.replace(text[4], "\u0660", 1),
    ],
)
def test_a_text_of_another_form_is_no_key(change):
    """Of any length, case or alphabet."""
    assert parse_key(change(TEXT.reveal())) is None


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    """What a caller sends is not trusted."""
    assert parse_key(text) is None


# ---------------------------------------------------------------- the secret


def test_only_the_right_secret_proves_the_key():
    """The hash is compared, and nothing of a wrong one is accepted."""
    assert proves(PRESENTED, key())
    for wrong in ("", "a" * 43, PRESENTED.secret.reveal()[:-1], f"{PRESENTED.secret.reveal()}a"):
        assert not proves(Presented(PRESENTED.id, Secret(wrong)), key())


def test_no_secret_proves_an_unknown_key():
    """Not even the text whose hash stands in for that of an unknown key."""
    for text in ("", PRESENTED.secret.reveal()):
        assert not proves(Presented(PRESENTED.id, Secret(text)), None)


def test_an_unknown_key_takes_the_same_path_as_a_wrong_secret(monkeypatch):
    """One hash and one comparison of equal lengths, in both cases. Times on a busy machine prove less."""
    calls = []
    compare = "daemon.domain.access_key.hmac.compare_digest"
    monkeypatch.setattr(compare, lambda one, other: calls.append((one, len(one), len(other))) or True)
    hashed = secret_hash(PRESENTED.secret)
    assert proves(PRESENTED, key())
    assert not proves(PRESENTED, None)
    assert calls == [(hashed, 64, 64)] * 2


def test_a_key_never_prints_its_hash():
    """A log line or a traceback may hold the key."""
    assert secret_hash(PRESENTED.secret) not in repr(key())
    assert PRESENTED.secret.reveal() not in repr(PRESENTED)


# ---------------------------------------------------------------- selectors


@pytest.mark.parametrize(
    ("selector", "allowed", "denied"),
    [
        ("xero:a", ["xero:a"], ["xero:ab", "xero:", "xero:A", " xero:a", "xero:a ", "xero:a\x00"]),
        ("xero:*", ["xero:a", "xero:", "xero:*"], ["xero", "xero-2:a", "hubspot:a", "XERO:a"]),
        ("xero:team-*", ["xero:team-", "xero:team-7"], ["xero:team", "xero:Team-7"]),
        ("*", ["xero:a", "hubspot:b", ""], []),
        ("xero:a*b", ["xero:a*b"], ["xero:acb", "xero:ab", "xero:a*bc"]),
        ("xero:**", ["xero:*", "xero:*b"], ["xero:b"]),
        ("*:a", ["*:a"], ["xero:a"]),
        ("xero:a.c", ["xero:a.c"], ["xero:abc"]),
        ("xero:[ab]", ["xero:[ab]"], ["xero:a"]),
        ("xero:?", ["xero:?"], ["xero:a"]),
        (COMPOSED, [COMPOSED], [DECOMPOSED, "xero:cafe"]),
        (DECOMPOSED, [DECOMPOSED], [COMPOSED]),
        ("xero:cafe*", ["xero:cafe", DECOMPOSED], [COMPOSED]),
        ("xero:\ufb01*", ["xero:\ufb01n"], ["xero:fin"]),
        ("xero:k*", ["xero:k1"], ["xero:\u212a1"]),
        ("", [""], ["xero:a"]),
    ],
)
def test_a_selector_is_compared_as_bytes(selector, allowed, denied):
    """Only a final `*` has a meaning. Nothing is normalized, folded or taken for a pattern."""
    assert [name for name in allowed if not key(selector).names(name)] == []
    assert [name for name in denied if key(selector).names(name)] == []


@given(selector=st.text(), name=st.text())
def test_a_selector_names_what_its_bytes_begin_or_are(selector, name):
    """Compared with the same rule over UTF-8."""
    one, other = (text.encode("utf-8", "surrogatepass") for text in (selector, name))
    expected = other.startswith(one[:-1]) if one.endswith(b"*") else one == other
    assert key(selector).names(name) == expected


def test_one_of_several_selectors_is_enough():
    """They are alternatives."""
    both = key("xero:a", "hubspot:*")
    assert [both.names(name) for name in ("xero:a", "hubspot:b", "xero:b")] == [True, True, False]


# ---------------------------------------------------------------- verbs and conditions


def test_only_the_named_verbs_are_allowed():
    """Each verb stands alone: writing doesn't include reading."""
    for verb in Verb:
        allowed = [other for other in Verb if key(can=[verb]).may(other, token())]
        assert allowed == [verb]
    assert not any(key(can=[]).may(verb, token()) for verb in Verb)


@pytest.mark.parametrize(
    ("where", "fields", "allowed"),
    [
        ({}, {}, True),
        ({"subject": "u1"}, {"subject": "u1"}, True),
        ({"subject": "u1"}, {"subject": "u2"}, False),
        ({"subject": "u1"}, {}, False),
        ({"subject": "u1"}, {"subject": "U1"}, False),
        ({"subject": "u*"}, {"subject": "u1"}, False),
        ({"meta.tenant": "acme"}, {"meta.tenant": "acme", "subject": "u1"}, True),
        ({"meta.tenant": "acme"}, {"tenant": "acme"}, False),
        ({"meta.tenant": "acme", "subject": "u1"}, {"meta.tenant": "acme", "subject": "u1"}, True),
        ({"meta.tenant": "acme", "subject": "u1"}, {"meta.tenant": "acme"}, False),
        ({"meta.tenant": "caf\u00e9"}, {"meta.tenant": "cafe\u0301"}, False),
    ],
)
def test_all_conditions_must_hold_exactly(where, fields, allowed):
    """They are ANDed with the selectors. A missing field equals no text."""
    assert key(where=where).may(Verb.READ, token(**fields)) == allowed
    assert not key("hubspot:*", where=where).may(Verb.READ, token(**fields))


@pytest.mark.parametrize("name", ["subject", "meta.tenant", "meta.a-b_c", "meta.gr\u00f6\u00dfe", "meta.a b"])
def test_conditions_name_a_subject_or_a_note(name):
    """Names in `meta` are the application's own."""
    assert is_field(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        *[
            "meta",
            "meta.",
            "meta.a.b",
            "meta.$where",
            "$where",
            "tenant",
            "subject.a",
            "access_token",
            "META.a",
            "meta.a=b",
        ],
        "meta.a\x00",
        "meta.a\n",
        "subject\n",
        f"meta.{'a' * 65}",
    ],
)
def test_conditions_name_nothing_else(name):
    """Neither another field nor an operator of MongoDB."""
    assert not is_field(name)


# ---------------------------------------------------------------- time and network


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({}, True),
        ({"expires_at": NOW + timedelta(microseconds=1)}, True),
        ({"expires_at": NOW}, False),
        ({"expires_at": NOW - timedelta(microseconds=1)}, False),
        ({"expires_at": datetime.min.replace(tzinfo=UTC)}, False),
        ({"revoked_at": NOW + timedelta(days=1)}, False),
        ({"revoked_at": NOW, "expires_at": NOW + timedelta(days=1)}, False),
        ({"disabled_at": NOW}, False),
    ],
)
def test_a_key_is_valid_until_the_instant_of_its_end(fields, valid):
    """Whenever it was revoked: there is no future revocation."""
    assert key(**fields).is_valid(NOW) == valid


@pytest.mark.parametrize(
    ("networks", "address", "admitted"),
    [
        ([], "203.0.113.9", True),
        ([], "unix", True),
        (["10.0.0.0/8"], "10.255.255.255", True),
        (["10.0.0.0/8"], "11.0.0.0", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "::ffff:0a01:0203", True),
        (["10.0.0.0/8"], "::ffff:11.1.2.3", False),
        (["10.0.0.0/8"], "::10.1.2.3", False),
        (["10.0.0.0/8"], "64:ff9b::10.1.2.3", False),
        (["::/0"], "10.1.2.3", False),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["2001:db8::/32"], "2001:db8:ffff::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["10.0.0.7/32"], "10.0.0.7", True),
        (["10.0.0.7/32"], "10.0.0.8", False),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
        (["10.0.0.0/8"], "unix", False),
        (["10.0.0.0/8"], "", False),
        (["10.0.0.0/8"], "10.0.0.1, 203.0.113.9", False),
        (["10.0.0.0/8"], "10.0.0.1:9465", False),
        (["10.0.0.0/8"], "010.0.0.1", False),
        (["10.0.0.0/8"], "167772161", False),
    ],
)
def test_a_key_is_used_from_its_networks_only(networks, address, admitted):
    """A mapped address is the IPv4 address in it, and a text that isn't an address is admitted by no network."""
    limited = replace(key(), networks=tuple(map(ip_network, networks)))
    assert limited.admits(address) == admitted
