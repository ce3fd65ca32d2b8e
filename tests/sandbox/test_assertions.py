"""What a client signs, as the sandbox checks it: each rule alone, so that an agreement of both sides proves something."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from daemon.sandbox import recorded
from daemon.sandbox.assertions import AssertionDesk, AssertionTerms

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
NOW = int(NOON.timestamp())
URL = "http://127.0.0.1:9/token"
TERMS = AssertionTerms(audiences=("https://auth.example",), longest=timedelta(minutes=10))
CLAIMS = {"iss": "me", "sub": "jane", "aud": "https://auth.example", "iat": NOW, "exp": NOW + 300}


def desk(terms: AssertionTerms = TERMS, **options: object) -> AssertionDesk:
    return AssertionDesk(terms, client_id="me", **{"users": (), "ahead": timedelta(), **options})


def part(fields: Mapping[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


def signed(key: Mapping[str, str], claims: Mapping[str, object], **header: object) -> str:
    text = f"{part({'alg': 'RS256', **header})}.{part(claims)}"
    private = load_pem_private_key(key["client_key"].encode(), None, unsafe_skip_rsa_key_validation=True)
    signature = private.sign(text.encode(), padding.PKCS1v15(), SHA256())
    return f"{text}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def outcome(at: AssertionDesk, text: str | None, *, place: Mapping[str, str] | None = None) -> str:
    """The last line of the desk's list."""
    refused = at.refuses(text, place=place or {}, token_url=URL, now=NOON)
    assert (refused is None) is (at.presented[-1].outcome == "accepted")
    return at.presented[-1].outcome


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "accepted"),
        ({"aud": URL}, "accepted"),
        ({"iss": "another"}, "issuer"),
        ({"aud": "https://other.example"}, "audience"),
        ({"exp": NOW}, "expired"),
        ({"exp": NOW + 601}, "too_long"),
        ({"iat": NOW + 60}, "accepted"),
        ({"iat": NOW + 61}, "ahead"),
        ({"iat": f"{NOW}"}, "malformed"),
        ({"sub": None}, "user"),
    ],
)
def test_each_claim_is_checked(changed: dict[str, object], expected: str) -> None:
    """One second more or less decides, as at a provider."""
    at = desk()
    assert outcome(at, signed(at.draw_key(), CLAIMS | changed)) == expected


def test_a_signature_counts_only_with_a_registered_key_and_the_key_that_it_names() -> None:
    """Neither a stranger's key, nor a changed claim, nor no algorithm at all."""
    at = desk()
    key, other = at.draw_key(), at.draw_key()
    assert outcome(at, signed(key, CLAIMS, kid=key["client_key_id"])) == "accepted"
    assert outcome(at, signed(key, CLAIMS, kid=other["client_key_id"])) == "signature"
    assert outcome(at, signed(desk().draw_key(), CLAIMS)) == "signature"
    assert outcome(at, signed(key, CLAIMS, alg="none")) == "signature"
    head, _, signature = signed(key, CLAIMS).split(".")
    assert outcome(at, f"{head}.{part(CLAIMS | {'sub': 'root'})}.{signature}") == "signature"


def test_a_key_that_was_taken_back_signs_nothing_more() -> None:
    """And another one does, from the moment it is drawn."""
    at = desk()
    key = at.draw_key()
    assert at.revoke_keys() == 1
    assert outcome(at, signed(key, CLAIMS)) == "signature"
    assert outcome(at, signed(at.draw_key(), CLAIMS)) == "accepted"


def test_a_clock_that_is_apart_is_seen_at_once() -> None:
    """Ahead, an assertion is over; behind, it comes from the future."""
    for ahead, expected in ((timedelta(minutes=5), "expired"), (timedelta(minutes=-2), "ahead")):
        at = desk(ahead=ahead)
        assert outcome(at, signed(at.draw_key(), CLAIMS)) == expected


def test_only_known_users_are_acted_for() -> None:
    """The user is a claim, or a variable of the path."""
    at = desk(users=("jane",))
    key = at.draw_key()
    assert outcome(at, signed(key, CLAIMS)) == "accepted"
    assert outcome(at, signed(key, CLAIMS | {"sub": "john"})) == "user"
    app = desk(AssertionTerms(user="{installation_id}"), users=("52",))
    key = app.draw_key()
    assert outcome(app, signed(key, CLAIMS), place={"installation_id": "52"}) == "accepted"
    assert outcome(app, signed(key, CLAIMS), place={"installation_id": "53"}) == "user"


def test_an_assertion_counts_once_where_the_provider_says_so() -> None:
    """A copy is refused; without a jti it can't be told from one."""
    at = desk(AssertionTerms(once=True))
    key = at.draw_key()
    assert outcome(at, signed(key, CLAIMS | {"jti": "1"})) == "accepted"
    assert outcome(at, signed(key, CLAIMS | {"jti": "1"})) == "reused"
    assert outcome(at, signed(key, CLAIMS)) == "reused"


@pytest.mark.parametrize("text", [None, "", "a.b", "a.b.c", "e30.W10.x", "é.e30.x"])
def test_what_is_no_jwt_is_refused(text: str | None) -> None:
    """Never an error of the sandbox's own."""
    assert outcome(desk(), text) in {"missing", "malformed"}


def test_each_dialect_words_each_fault() -> None:
    """By a complaint that its fixture words in so many ways."""
    dialects = [recorded.dialect(name) for name in recorded.names()]
    signing = [one for one in dialects if one.assertion is not None]
    assert len(signing) >= 6
    for one in signing:
        assert one.assertion is not None
        for complaint, wording in one.assertion.says.values():
            assert wording < len(one.refusals[complaint])
