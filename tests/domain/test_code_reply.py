"""What the reply to an authorization code grants, and when nothing is stored."""

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.code_reply import CodeGrant, read_code_reply
from daemon.domain.consent_request import (
    ConsentFailure,
    ConsentFailureKind,
    ConsentRequest,
    ConsentState,
)
from daemon.domain.provider import Definition, ErrorPattern, Grant, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import code_request
from daemon.domain.secret import Secret

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ACME = Definition(
    name="acme",
    title="Acme",
    token_url="https://login.acme.test/token",
    scopes=("read", "write"),
    params={"grant_type": "odd", "audience": "api"},
)
PROVIDER = Provider(definition=ACME, client_id="client", client_secret=Secret("client-secret"))
REQUEST = ConsentRequest(
    id="c1",
    provider="acme",
    account="7",
    code=Secret("the-code-4711"),
    code_verifier=Secret("the-verifier"),
    redirect_uri="http://127.0.0.1:8917/callback",
    scopes=("read", "write"),
    expires_at=NOW + timedelta(minutes=15),
)
GRANT = {"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600, "token_type": "Bearer"}


def reply(body: object, *, status: int = 200, whole: bool = True) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=raw,
        whole=whole,
        asked_at=NOW,
    )


def read(
    body: object,
    *,
    status: int = 200,
    whole: bool = True,
    definition: Definition = ACME,
    request: ConsentRequest = REQUEST,
) -> CodeGrant | ConsentFailure:
    provider = replace(PROVIDER, definition=definition)
    return read_code_reply(provider, request, reply(body, status=status, whole=whole), now=NOW)


def granted(answer: CodeGrant | ConsentFailure) -> CodeGrant:
    assert isinstance(answer, CodeGrant), answer
    return answer


def failure(answer: CodeGrant | ConsentFailure) -> ConsentFailure:
    assert isinstance(answer, ConsentFailure), answer
    return answer


def id_token(**claims: object) -> str:
    payload = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.sig"


def test_the_request_presents_code_verifier_and_redirect() -> None:
    """The definition's parameters are added, but its grant type is that of a refresh."""
    request = code_request(
        PROVIDER,
        code=Secret("a b"),
        code_verifier=Secret("v"),
        redirect_uri="http://127.0.0.1:8917/callback",
        variables={},
        now=NOW,
    )
    assert request.method == "POST"
    assert request.url == ACME.token_url
    assert request.body.decode() == (
        "grant_type=authorization_code&code=a+b&redirect_uri=http%3A%2F%2F127.0.0.1%3A8917%2Fcallback"
        "&code_verifier=v&client_id=client&client_secret=client-secret&audience=api"
    )


def test_a_token_response_is_a_grant() -> None:
    """All scopes are granted where the response names none."""
    found = granted(read(GRANT))
    assert found.consent.access_token is not None
    assert found.consent.access_token.reveal() == "at-1"
    assert found.consent.expires_at == NOW + timedelta(hours=1)
    assert found.missing_scopes == ()
    assert found.account is None


@pytest.mark.parametrize("granted_scopes", ["read", "read,other", ["read"]])
def test_scopes_that_were_not_granted_are_named(granted_scopes: object) -> None:
    """The token is stored nevertheless."""
    assert granted(read({**GRANT, "scope": granted_scopes})).missing_scopes == ("write",)


def test_the_account_is_where_the_definition_says() -> None:
    """In the response, a number too, or in the ID token."""
    at = replace(ACME, account_from="team.id")
    assert granted(read({**GRANT, "team": {"id": "T1"}}, definition=at)).account == "T1"
    assert granted(read({**GRANT, "team": {"id": 17}}, definition=at)).account == "17"
    assert granted(read(GRANT, definition=at)).account is None
    claimed = replace(ACME, account_from="id_token.sub")
    body = {**GRANT, "id_token": id_token(sub="u1")}
    assert granted(read(body, definition=claimed)).account == "u1"
    assert granted(read({**GRANT, "id_token": "a.b.c"}, definition=claimed)).account is None


def test_an_id_token_with_another_nonce_is_refused() -> None:
    """OpenID Connect Core §3.1.3.7: the code may come from another's request."""
    asked = replace(REQUEST, nonce="n1")
    assert (
        failure(read({**GRANT, "id_token": id_token(nonce="n2")}, request=asked)).kind
        is ConsentFailureKind.NONCE
    )
    granted(read({**GRANT, "id_token": id_token(nonce="n1")}, request=asked))


def test_a_grant_that_ends_and_can_not_be_renewed_is_not_stored() -> None:
    """The owner would have to consent again within the hour."""
    without = {"access_token": "at-1", "expires_in": 3600}
    assert failure(read(without)).kind is ConsentFailureKind.NO_REFRESH_TOKEN
    granted(read({"access_token": "at-1"}))
    granted(read(without, definition=replace(ACME, grant=Grant.NONE)))


def test_what_to_change_for_a_refresh_token_is_in_the_definitions_words() -> None:
    """With the page on which the owner withdraws a former consent, whole in spite of the message's limit."""
    page = "https://acme.example/account/apps-and-services/connected"
    hint = "The app must have the grant type Refresh Token, and the scopes of the consent offline_access and email."
    definition = replace(ACME, consent_hint=hint, manage_url=page)
    message = failure(read({"access_token": "at-1", "expires_in": 3600}, definition=definition)).message
    assert hint in message
    assert f"withdraw a former consent there ({page})" in message.lower()
    assert message.endswith("start again")
    assert "offline access" in failure(read({"access_token": "at-1", "expires_in": 3600})).message


@pytest.mark.parametrize(
    ("body", "status", "kind", "code"),
    [
        ({"error": "invalid_grant"}, 400, ConsentFailureKind.REFUSED, "invalid_grant"),
        ({"error": "invalid_client"}, 401, ConsentFailureKind.REFUSED, "invalid_client"),
        ({"error": "bad_verification_code"}, 200, ConsentFailureKind.REFUSED, "bad_verification_code"),
        (b"<html>Down</html>", 503, ConsentFailureKind.REFUSED, "http_503"),
        (b"", 500, ConsentFailureKind.REFUSED, "http_500"),
        ({"result": "odd"}, 200, ConsentFailureKind.UNPARSED, "http_200"),
        (b"", 200, ConsentFailureKind.UNPARSED, "http_200"),
    ],
)
def test_a_reply_without_a_grant_stores_nothing(
    body: object, status: int, kind: ConsentFailureKind, code: str
) -> None:
    """A success that can't be read is kept, since it may hold the grant."""
    found = failure(read(body, status=status))
    assert found.kind is kind
    assert found.named == code


def test_a_definitions_error_beside_tokens_is_a_refusal() -> None:
    """As in the replies to refreshes."""
    sign = replace(ACME, rejected=(ErrorPattern(field="ok", values=frozenset({"no"})),))
    assert failure(read({**GRANT, "ok": "no"}, definition=sign)).kind is ConsentFailureKind.REFUSED


def test_a_reply_that_breaks_off_or_has_two_grants_is_unparsed() -> None:
    """No guess decides which tokens are right."""
    two = json.dumps([GRANT, {**GRANT, "access_token": "at-2"}]).encode()
    assert failure(read(two)).kind is ConsentFailureKind.UNPARSED
    cut = json.dumps(GRANT).encode()[:-4]
    assert failure(read(cut, whole=False)).kind is ConsentFailureKind.UNPARSED


@pytest.mark.parametrize(("sent", "words"), [(True, "may have been used"), (False, "Nothing was sent")])
def test_without_a_reply_the_owner_starts_again(sent: bool, words: str) -> None:
    """A code is never presented twice."""
    silence = NoReply(code="timeout", message="no reply", sent=sent, asked_at=NOW)
    found = failure(read_code_reply(PROVIDER, REQUEST, silence, now=NOW))
    assert found.kind is ConsentFailureKind.UNAVAILABLE
    assert words in found.message


def test_the_code_and_the_secrets_are_masked_in_a_refusal() -> None:
    """Some providers repeat what they were sent."""
    words = "bad code the-code-4711 with the-verifier of client-secret"
    found = failure(read({"error": "invalid_grant", "error_description": words}, status=400))
    for secret in ("the-code-4711", "the-verifier", "client-secret"):
        assert secret not in found.message


def test_a_sender_constrained_grant_is_not_stored() -> None:
    """Its key is not here."""
    assert failure(read({**GRANT, "token_type": "DPoP"})).kind is ConsentFailureKind.UNUSABLE


@given(st.binary(max_size=300), st.sampled_from([200, 302, 400, 500]), st.booleans())
def test_every_reply_has_a_meaning(body: bytes, status: int, whole: bool) -> None:
    """Reading is total."""
    assert isinstance(read(body, status=status, whole=whole), CodeGrant | ConsentFailure)


def test_a_request_goes_forward_only() -> None:
    """What has ended stays ended, and what was asked never waits again."""
    final = {ConsentState.DONE, ConsentState.FAILED, ConsentState.ABANDONED}
    for one in ConsentState:
        assert not one.may_become(ConsentState.WAITING)
        assert one.is_final == (one in final)
    assert ConsentState.WAITING.may_become(ConsentState.ASKED)
    assert not ConsentState.WAITING.may_become(ConsentState.DONE)
    assert ConsentState.ASKED.may_become(ConsentState.DONE)
