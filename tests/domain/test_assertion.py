"""What a client signs: each claim, each time, and the users for whom nothing is signed."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.assertion import AssertionTerms, Claims, signed_assertion
from daemon.domain.provider import ClientAuth, Definition, Grant, Provider, Variable, VariableKind
from daemon.domain.request import refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
URL = "https://sso.example.com/token"
EMAIL = Variable(pattern=re.compile(r"[^@]+@[a-z.]+"), kind=VariableKind.VALUE)


def plain(claims: Claims) -> Secret:
    return Secret(json.dumps(claims))


def provider(terms: AssertionTerms | None = None, *subjects: str, **definition: object) -> Provider:
    known = {
        "name": "p", "title": "P", "token_url": URL, "grant": Grant.JWT_BEARER, "client_auth": ClientAuth.OMITTED,
        "assertion": terms, "variables": {"subject": EMAIL}, "scopes": ("a", "b"),
    }  # fmt: skip
    return Provider(
        definition=Definition(**{**known, **definition}),
        client_id="me",
        sign_claims=plain,
        subjects=tuple(map(re.compile, subjects)),
    )


def claims(of: Provider, **variables: str) -> dict[str, object]:
    return json.loads(signed_assertion(of, variables, audience=URL, now=NOON).reveal())


def test_the_usual_claims_are_those_of_the_standard() -> None:
    """Issuer, audience and two times (RFC 7523 §3), and nothing else."""
    begins = int(NOON.timestamp())
    assert claims(provider()) == {"iss": "me", "aud": URL, "iat": begins, "exp": begins + 300}


def test_a_definition_states_claims_and_times() -> None:
    """An empty text leaves one out, and the lifetime counts from the date that is put back."""
    terms = AssertionTerms(
        claims={"aud": "", "sub": "${client_id}", "scope": "${scopes}"},
        lifetime=timedelta(minutes=9),
        backdate=timedelta(minutes=1),
    )
    begins = int(NOON.timestamp()) - 60
    assert claims(provider(terms)) == {
        "iss": "me", "sub": "me", "scope": "a b", "iat": begins, "exp": begins + 540,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("subjects", "subject"),
    [
        ((), "jane@acme.example"),
        ((r"jane@acme\.example",), "ceo@acme.example"),
        ((r"jane@acme\.example",), "jane@acme.example.evil.example"),
        ((r"jane@acme\.example",), "x-jane@acme.example"),
        ((r".+@acme\.example",), "jane@acmexexample"),
    ],
)
def test_nothing_is_signed_for_a_user_whom_the_operator_has_not_listed(
    subjects: tuple[str, ...], subject: str
) -> None:
    """The variable comes from a database; a pattern must match all of it."""
    terms = AssertionTerms(claims={"sub": "${subject}"})
    with pytest.raises(NotSendable, match="subjects"):
        claims(provider(terms, *subjects), subject=subject)


def test_a_listed_user_is_acted_for() -> None:
    """And only a variable that the definition's pattern allows is looked at."""
    known = provider(AssertionTerms(claims={"sub": "${subject}"}), r".+@acme\.example")
    assert claims(known, subject="jane@acme.example")["sub"] == "jane@acme.example"
    with pytest.raises(NotSendable, match="does not match"):
        claims(known, subject="no address")
    with pytest.raises(NotSendable, match="has no variable"):
        claims(known)


def test_a_place_in_a_value_stays_as_it_is() -> None:
    """A document can't have the scopes, or another variable, filled into its own."""
    known = provider(
        AssertionTerms(claims={"sub": "${subject}"}),
        ".+",
        variables={"subject": Variable(pattern=re.compile(".+"), kind=VariableKind.VALUE)},
    )
    assert claims(known, subject="${scopes}")["sub"] == "${scopes}"


def test_a_bearer_is_in_the_header_and_an_assertion_in_the_body() -> None:
    """Each in its one place."""
    token = Token(id="p:a", provider="p", account="a", state=State.ACTIVE, refresh_token=None)
    asserted = refresh_request(provider(), token, now=NOON)
    assert "Authorization" not in asserted.headers
    assert b"assertion=%7B%22iss" in asserted.body
    app = provider(grant=Grant.CLIENT_CREDENTIALS, client_auth=ClientAuth.BEARER_JWT, omit=("grant_type",))
    signed = refresh_request(app, token, now=NOON)
    assert signed.headers["Authorization"].startswith('Bearer {"iss": "me"')
    assert signed.body == b""


def test_a_document_chooses_this_grant_only_where_the_definition_has_it() -> None:
    """Else a database writer would have the client's own tokens minted."""
    assert provider().definition.allows("jwt_bearer")
    other = provider(grant=Grant.REFRESH_TOKEN).definition
    assert not other.allows("jwt_bearer")
    assert other.grant_of("jwt_bearer") is Grant.REFRESH_TOKEN
