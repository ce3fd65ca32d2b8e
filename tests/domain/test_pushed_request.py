"""Pushed authorization requests (RFC 9126): what is sent, and what a reply means."""

import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest

from daemon.domain.authorization import SECRET_BYTES, new_authorization
from daemon.domain.provider import BodyFormat, ClientAuth, Definition, Provider
from daemon.domain.pushed_request import NotPushed, pushed_request, read_pushed
from daemon.domain.reply import NoReply, Reply
from daemon.domain.secret import Secret
from daemon.domain.token_url import NotSendable

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ACME = Provider(
    definition=Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        authorize_url="https://acme.example/authorize",
        par_url="https://acme.example/par",
        scopes=("read",),
        client_auth=ClientAuth.POST,
        body=BodyFormat.JSON,
    ),
    client_id="me",
    client_secret=Secret("s3cret"),
)
BEGUN = new_authorization(ACME, random=bytes(3 * SECRET_BYTES), redirect_uri="http://127.0.0.1:8917/callback")


def reply(body: object, status: int = 201) -> Reply:
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=json.dumps(body).encode(),
        whole=True,
        asked_at=NOW,
    )


def test_all_parameters_and_the_client_are_pushed_as_a_form() -> None:
    """RFC 9126 §2.1, whatever the format of token requests."""
    request = pushed_request(ACME, BEGUN, {}, now=NOW)
    assert (request.method, request.url) == ("POST", "https://acme.example/par")
    form = {name: value for name, (value,) in parse_qs(request.body.decode()).items()}
    assert form.keys() == {
        "response_type",
        "client_id",
        "client_secret",
        "redirect_uri",
        "state",
        "scope",
        "code_challenge",
        "code_challenge_method",
    }
    assert (form["client_secret"], form["scope"], form["response_type"]) == ("s3cret", "read", "code")


def test_without_an_address_nothing_is_pushed() -> None:
    """The text names the key."""
    other = Provider(
        definition=Definition(name="acme", title="Acme", token_url="https://acme.example/token"),
        client_id="me",
    )
    with pytest.raises(NotSendable, match="par_url"):
        pushed_request(other, BEGUN, {}, now=NOW)


def test_the_reference_is_read() -> None:
    """RFC 9126 §2.2."""
    assert read_pushed(ACME, reply({"request_uri": "urn:r:1", "expires_in": 60})) == "urn:r:1"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply({"error": "invalid_client", "error_description": "no s3cret"}, 401), "invalid_client"),
        (reply({"error": "invalid_request"}, 400), "invalid_request"),
        (reply({}, 201), "http_201"),
        (reply({"request_uri": "a b"}, 201), "http_201"),
        (reply({"request_uri": "x" * 3000}, 201), "http_201"),
        (reply({"request_uri": 7}, 201), "http_201"),
        (reply({"request_uri": "urn:r:1"}, 500), "http_500"),
        (NoReply(code="timeout", message="no response", sent=True, asked_at=NOW), "timeout"),
    ],
)
def test_without_a_reference_the_providers_code_is_shown(answer: Reply | NoReply, code: str) -> None:
    """And no secret."""
    found = read_pushed(ACME, answer)
    assert isinstance(found, NotPushed)
    assert found.code == code
    assert "s3cret" not in found.message
