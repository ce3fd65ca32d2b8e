"""The device flow (RFC 8628): the request for a code, the provider's answer, and the meaning of each poll's reply."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind
from daemon.domain.device_flow import (
    LONGEST_INTERVAL,
    LONGEST_LIFE,
    DeviceCode,
    NoDeviceCode,
    answer_of,
    device_code_request,
    poll_again,
    read_device_code,
)
from daemon.domain.provider import ClientAuth, Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import device_request
from daemon.domain.secret import Secret
from daemon.domain.token_url import NotSendable

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FIVE = timedelta(seconds=5)
ACME = Provider(
    definition=Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        device_url="https://acme.example/device",
        scopes=("openid", "offline_access"),
        client_auth=ClientAuth.BASIC,
    ),
    client_id="me",
    client_secret=Secret("s3cret"),
)
ANSWER = {
    "device_code": "dc-4711",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://acme.example/device",
    "verification_uri_complete": "https://acme.example/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}


def reply(body: object, *, status: int = 200, retry_after: str | None = None) -> Reply:
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=retry_after,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        whole=True,
        asked_at=NOW,
    )


def test_a_code_is_asked_for_with_the_client_and_its_scopes() -> None:
    """The client's ID is always in the form, and the client authenticates as at the token endpoint."""
    request, scopes = device_code_request(ACME, scopes=(), variables={}, now=NOW)
    assert (request.method, request.url) == ("POST", "https://acme.example/device")
    assert request.body == b"client_id=me&scope=openid+offline_access"
    assert request.headers["Authorization"].startswith("Basic ")
    assert scopes == ("openid", "offline_access")
    other, _ = device_code_request(ACME, scopes=("read", "read"), variables={}, now=NOW)
    assert other.body == b"client_id=me&scope=read"


def test_without_a_device_url_or_with_an_unsendable_scope_nothing_is_asked_for() -> None:
    """The text names the cause."""
    without = replace(ACME, definition=replace(ACME.definition, device_url=None))
    with pytest.raises(NotSendable, match="device_url"):
        device_code_request(without, scopes=(), variables={}, now=NOW)
    with pytest.raises(NotSendable, match="scope"):
        device_code_request(ACME, scopes=("two words",), variables={}, now=NOW)
    placed = replace(ACME, definition=replace(ACME.definition, device_url="https://${shop}.acme.example/d"))
    with pytest.raises(NotSendable, match="variable"):
        device_code_request(placed, scopes=(), variables={}, now=NOW)


def test_an_answer_is_read() -> None:
    """RFC 8628 §3.2."""
    assert read_device_code(ACME, reply(ANSWER)) == DeviceCode(
        device_code=Secret("dc-4711"),
        user_code="WDJB-MJHT",
        page="https://acme.example/device",
        complete_page="https://acme.example/device?user_code=WDJB-MJHT",
        life=timedelta(minutes=30),
        interval=timedelta(seconds=7),
    )


def test_what_google_and_careless_providers_send_is_read_too() -> None:
    """Another name for the page, numbers as text, no interval, and a page that can't be opened."""
    google = {
        "device_code": "d",
        "user_code": "GQVQ-JKEC",
        "verification_url": "https://www.google.com/device",
        "expires_in": "1800",
    }
    found = read_device_code(ACME, reply(google))
    assert isinstance(found, DeviceCode)
    assert (found.page, found.life, found.interval) == (
        "https://www.google.com/device",
        timedelta(minutes=30),
        FIVE,
    )
    odd = read_device_code(
        ACME,
        reply({**ANSWER, "verification_uri_complete": "javascript:1", "interval": 0, "expires_in": 10**8}),
    )
    assert isinstance(odd, DeviceCode)
    assert (odd.complete_page, odd.interval, odd.life) == (None, timedelta(seconds=1), LONGEST_LIFE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device_code": "a\nb"}, "device code"),
        ({"device_code": "a" * 5000}, "device code"),
        ({"user_code": "a\x1b[2J"}, "user code"),
        ({"user_code": ""}, "user code"),
        ({"user_code": "x" * 65}, "user code"),
        ({"verification_uri": "http://evil.example/"}, "https"),
        ({"verification_uri": "javascript:alert(1)"}, "https"),
        ({"verification_uri": "https://a@evil.example/"}, "https"),
        ({"verification_uri": "https://acme.example/\u202e"}, "https"),
        ({"verification_uri": "https://[/"}, "https"),
        ({"expires_in": None}, "expires"),
        ({"expires_in": 0}, "expires"),
        ({"expires_in": -5}, "expires"),
        ({"expires_in": True}, "expires"),
        ({"expires_in": "soon"}, "expires"),
    ],
)
def test_an_answer_that_can_not_be_used_is_explained(change: dict[str, Any], words: str) -> None:
    """Nothing of it reaches a terminal."""
    found = read_device_code(ACME, reply({**ANSWER, **change}))
    assert isinstance(found, NoDeviceCode)
    assert words in found.message


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply({"error": "invalid_client"}, status=401), "invalid_client"),
        (
            reply({"error": "unauthorized_client", "error_description": "no s3cret"}, status=400),
            "unauthorized",
        ),
        (reply(ANSWER, status=500), "http_500"),
        (reply(b"<html>", status=200), "http_200"),
        (NoReply(code="timeout", message="no response", sent=True, asked_at=NOW), "timeout"),
    ],
)
def test_a_refusal_has_the_providers_code(answer: Reply | NoReply, code: str) -> None:
    """Without the secret that was sent."""
    found = read_device_code(ACME, answer)
    assert isinstance(found, NoDeviceCode)
    assert found.code.startswith(code)
    assert "s3cret" not in found.message


def test_a_poll_presents_the_device_code_and_the_client() -> None:
    """RFC 8628 §3.4. The definition's parameters do not replace the grant type."""
    definition = replace(ACME.definition, params={"grant_type": "refresh_token", "more": "1"})
    request = device_request(
        replace(ACME, definition=definition), device_code=Secret("dc 1"), variables={}, now=NOW
    )
    assert request.url == "https://acme.example/token"
    assert request.body == (
        b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=dc+1&more=1"
    )


@pytest.mark.parametrize(
    ("answer", "interval"),
    [
        (reply({"error": "authorization_pending"}, status=400), 5),
        (reply({"error": "authorization_pending"}, status=428), 5),  # Google
        (reply({"error": "authorization_pending"}, status=403), 5),  # Auth0
        (reply({"error": "authorization_pending"}, status=200), 5),  # GitHub
        (reply({"error": "slow_down"}, status=400), 10),
        (reply({"error": "slow_down"}, status=403), 10),
        (reply({"error": "slow_down"}, status=429), 10),
        (reply({"error": "slow_down", "interval": 25}, status=200), 25),
        (reply({"error": "slow_down", "interval": 1}, status=200), 10),
        (reply({"error": "slow_down", "interval": "x"}, status=200), 10),
        (reply(b"bad gateway", status=502), 10),
        (reply({}, status=429, retry_after="30"), 30),
        (NoReply(code="timeout", message="no response", sent=True, asked_at=NOW), 10),
        (reply({"error": "expired_token"}, status=400), None),
        (reply({"error": "access_denied"}, status=403), None),
        (reply({"error": "authorization_declined"}, status=400), None),
        (reply({"error": "invalid_client"}, status=401), None),
        (reply({"error": "invalid_grant"}, status=400), None),
        (reply({"access_token": "a"}), None),
        (reply({"access_token": "a", "error": "authorization_pending"}), None),
        (reply(b"", status=200), None),
    ],
)
def test_each_reply_ends_the_flow_or_sets_the_interval(answer: Reply | NoReply, interval: int | None) -> None:
    """The error's name counts, whatever the status. A grant is never left for another poll."""
    found = poll_again(ACME.definition, answer, FIVE)
    assert found == (None if interval is None else timedelta(seconds=interval))


def test_the_interval_has_an_upper_limit() -> None:
    """A provider that always wants to be asked more slowly is asked within the life of a code."""
    interval = FIVE
    for _ in range(50):
        interval = poll_again(ACME.definition, reply({"error": "slow_down"}, status=400), interval) or FIVE
    assert interval == LONGEST_INTERVAL


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("access_denied", ConsentFailureKind.DENIED),
        ("authorization_declined", ConsentFailureKind.DENIED),
        ("expired_token", ConsentFailureKind.EXPIRED),
        ("invalid_client", ConsentFailureKind.REFUSED),
    ],
)
def test_the_owners_answers_have_their_kinds(code: str, kind: ConsentFailureKind) -> None:
    """The provider's code stays."""
    failure = answer_of(ConsentFailure(kind=ConsentFailureKind.REFUSED, code=code, message="m"))
    assert (failure.kind, failure.code) == (kind, code)
    unparsed = ConsentFailure(kind=ConsentFailureKind.UNPARSED, code=code, message="m")
    assert answer_of(unparsed) is unparsed
