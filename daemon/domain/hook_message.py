"""The request that a receiver gets: the body in its format, and the signature of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from daemon.domain.hook import Format
from daemon.domain.owner_event import OwnerEvent

PREFIX = "whsec_"
SHORTEST = 24  # bytes of a secret, by the specification
SOURCE = "urn:refreshd"  # of CloudEvents
_CONTENT_TYPES = {
    Format.STANDARD: "application/json",
    Format.CLOUDEVENTS: "application/cloudevents+json; charset=utf-8",
}


class SecretInvalid(ValueError):
    """The text isn't a secret of a hook. The message quotes nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    headers: Mapping[str, str]
    body: bytes
    sent_at: datetime


def signing_key(text: str) -> bytes:
    """Return the key of a secret: `whsec_` and at least 24 bytes in base64. Raises SecretInvalid."""
    if not text.startswith(PREFIX):
        raise SecretInvalid(f'does not begin with "{PREFIX}"')
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretInvalid(f"is not base64 after {PREFIX}") from None
    if len(key) < SHORTEST:
        raise SecretInvalid(f"has fewer than {SHORTEST} bytes")
    return key


def webhook_id(event: str) -> str:
    """Return the id by which receivers know an event again. That of the event may hold any text of an account, which
    neither a header nor the signed content could take.
    """
    return f"evt_{sha256(event.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def message(event: OwnerEvent, *, form: Format, keys: Sequence[bytes], sent_at: datetime) -> Message:
    """Return the request for `event`, signed with each of `keys`. `sent_at`: the time of this attempt."""
    name, timestamp = webhook_id(event.id), str(int(sent_at.timestamp()))
    body = _body(event, form)
    return Message(
        headers={
            "content-type": _CONTENT_TYPES[form],
            "webhook-id": name,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(f"v1,{signature(key, name, timestamp, body)}" for key in keys),
        },
        body=body,
        sent_at=sent_at,
    )


def signature(key: bytes, name: str, timestamp: str, body: bytes) -> str:
    """Return the signature with one secret, in base64."""
    content = b".".join((name.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _body(event: OwnerEvent, form: Format) -> bytes:
    own = event.body()
    if form is Format.CLOUDEVENTS:
        own = {
            "specversion": "1.0",
            "id": webhook_id(event.id),
            "source": SOURCE,
            "type": event.type.value,
            "time": own["timestamp"],
            "datacontenttype": "application/json",
            "data": own["data"],
        }
        if subject := event.token or event.provider:
            own["subject"] = subject
    return json.dumps(own, ensure_ascii=True, separators=(",", ":")).encode()
