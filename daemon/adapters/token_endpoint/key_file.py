"""A client's private key as providers hand it out: in PEM, or in the JSON file of a Google service account."""

import json
from dataclasses import dataclass

from daemon.adapters.token_endpoint.client_assertion import KeyUnusable
from daemon.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """The key, and what the file says about it."""

    pem: Secret
    client_id: str | None = None
    key_id: str | None = None


def key_file(content: Secret) -> KeyFile:
    """Read a private key. Raises KeyUnusable if it is JSON without one."""
    text = content.reveal().strip()
    if not text.startswith("{"):
        return KeyFile(pem=content)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyUnusable("is not valid JSON") from None
    pem, client_id, key_id = (found.get(name) for name in ("private_key", "client_email", "private_key_id"))
    if not isinstance(pem, str):
        raise KeyUnusable("is a JSON file without private_key, so not the key of a service account")
    return KeyFile(
        pem=Secret(pem),
        client_id=client_id if isinstance(client_id, str) else None,
        key_id=key_id if isinstance(key_id, str) else None,
    )
