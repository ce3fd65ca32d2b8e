"""The request to a receiver: body, signature, and what may be a secret."""

import base64
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.hook import Format
from daemon.domain.hook_message import SecretInvalid, message, signature, signing_key, webhook_id
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType

AT = datetime(2026, 11, 2, 12, 0, 0, 250000, tzinfo=UTC)
LATER = datetime(2026, 11, 2, 13, 0, 0, 900000, tzinfo=UTC)
OLD, NEW = b"o" * 24, b"n" * 32
EVENT = OwnerEvent(
    id="token.needs_reauth:xero:acme:7",
    type=OwnerEventType.NEEDS_REAUTH,
    at=AT,
    who_acts=Actor.OWNER,
    provider="xero",
    token="xero:acme",
    account="acme",
    kind="rejected",
    code="invalid_grant",
    revision=7,
)


def secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def test_the_signature_is_that_of_the_specification():
    """A vector that the libraries of Standard Webhooks have in common."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_changes_both_sign():
    """A receiver that has either one accepts the request."""
    sent = message(EVENT, form=Format.STANDARD, keys=[OLD, NEW], sent_at=LATER)
    name, timestamp = sent.headers["webhook-id"], sent.headers["webhook-timestamp"]
    assert timestamp == str(int(LATER.timestamp()))
    content = f"{name}.{timestamp}.".encode() + sent.body
    expected = [base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in (OLD, NEW)]
    assert sent.headers["webhook-signature"] == f"v1,{expected[0]} v1,{expected[1]}"


def test_the_standard_body_is_the_contracts():
    sent = message(EVENT, form=Format.STANDARD, keys=[OLD], sent_at=LATER)
    assert sent.headers["content-type"] == "application/json"
    assert json.loads(sent.body) == {
        "type": "token.needs_reauth",
        "timestamp": "2026-11-02T12:00:00.250000Z",
        "data": {
            "id": "xero:acme",
            "provider": "xero",
            "account": "acme",
            "subject": None,
            "who_acts": "owner",
            "kind": "rejected",
            "code": "invalid_grant",
            "revision": 7,
        },
    }


def test_a_cloud_event_has_the_required_attributes():
    """CloudEvents 1.0.2, structured content mode."""
    sent = message(EVENT, form=Format.CLOUDEVENTS, keys=[OLD], sent_at=LATER)
    body = json.loads(sent.body)
    assert sent.headers["content-type"].startswith("application/cloudevents+json")
    assert {name: body[name] for name in ("specversion", "id", "source", "type", "time", "subject")} == {
        "specversion": "1.0",
        "id": sent.headers["webhook-id"],
        "source": "urn:refreshd",
        "type": "token.needs_reauth",
        "time": "2026-11-02T12:00:00.250000Z",
        "subject": "xero:acme",
    }
    assert body["data"]["revision"] == 7
    of_none = replace(EVENT, token=None, provider=None)
    assert "subject" not in json.loads(message(of_none, form=Format.CLOUDEVENTS, keys=[], sent_at=AT).body)


@given(name=st.text())
def test_an_id_fits_into_a_header_and_is_always_the_same(name: str):
    """The ids of events hold names of accounts, which may be any text. A full stop would make the signed content ambiguous."""
    found = webhook_id(name)
    assert found == webhook_id(name)
    assert found.isascii()
    assert found.replace("_", "").isalnum()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (base64.b64encode(OLD).decode(), 'does not begin with "whsec_"'),
        ("whsec_", "has fewer than 24 bytes"),
        (secret(b"x" * 23), "has fewer than 24 bytes"),
        ("whsec_" + "!" * 40, "is not base64 after whsec_"),
        ("whsec_" + "a" * 41, "is not base64 after whsec_"),
    ],
)
def test_a_bad_secret_is_refused_without_quoting_it(text: str, why: str):
    with pytest.raises(SecretInvalid) as refused:
        signing_key(text)
    assert str(refused.value) == why


def test_a_secret_of_24_bytes_is_enough():
    assert signing_key(secret(OLD)) == OLD
