"""What the rivals in Python share: where everything is (by the environment), which tokens are due, what is written."""

import os
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

from sealed import Sealer

MONGODB: dict[str, Any] = {
    "host": os.environ["RIVAL_MONGODB"],
    "w": "majority",
    "journal": True,
    "tz_aware": True,
}
DATABASE = os.environ["RIVAL_DATABASE"]
COLLECTION = "tokens"
TOKEN_URL = os.environ["RIVAL_TOKEN_URL"]
IN_FLIGHT = int(os.environ["RIVAL_IN_FLIGHT"])
OAUTH = {
    "client_id": os.environ["RIVAL_CLIENT_ID"],
    "client_secret": os.environ["RIVAL_CLIENT_SECRET"],
    "token_endpoint_auth_method": "client_secret_basic",
}
SWEEP_EVERY = timedelta(seconds=1)
DUE_INDEX = [("state", 1), ("due_at", 1)]
NEEDED = {"refresh_token": 1}
_WINDOW = timedelta(minutes=5)  # a token is due as long before its expiry
_SEALER = Sealer(os.environ["RIVAL_KEY_ID"], b64decode(os.environ["RIVAL_KEY"]))


def due() -> dict[str, Any]:
    """The filter for tokens that are due now."""
    return {"state": "active", "due_at": {"$lte": datetime.now(UTC)}}


def opened(token: dict[str, Any]) -> str:
    """The refresh token of a stored token."""
    return _SEALER.open(token["refresh_token"], token_id=token["_id"], field="refresh_token")


def renewal(token_id: str, reply: dict[str, Any], *, asked_at: datetime) -> dict[str, Any]:
    """The update that stores a reply of the provider. A provider that does not rotate gives no refresh token."""
    now, expires_at = datetime.now(UTC), asked_at + timedelta(seconds=reply["expires_in"])
    given = {field: reply[field] for field in ("access_token", "refresh_token") if field in reply}
    sealed = {field: _SEALER.seal(text, token_id=token_id, field=field) for field, text in given.items()}
    times = {"issued_at": asked_at, "refreshed_at": now, "updated_at": now}
    due_again = {"expires_at": expires_at, "due_at": expires_at - _WINDOW}
    said = {"token_type": reply["token_type"], "scope": reply.get("scope")}
    return {"$set": {**sealed, **said, **times, **due_again}, "$inc": {"revision": 1}}
