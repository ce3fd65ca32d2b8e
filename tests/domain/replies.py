"""A provider, a token and its replies, for the tests of what replies mean."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from daemon.domain.dialect import read
from daemon.domain.provider import Definition, Provider
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token

ASKED = datetime(2026, 11, 1, 12, tzinfo=UTC)
PLAIN = Definition(name="acme", title="Acme", token_url="https://login.acme.test/token")
TOKEN = Token(
    id="acme:1",
    provider="acme",
    account="1",
    state=State.ACTIVE,
    refresh_token=Secret("short-refresh"),
    access_token=Secret("short-access"),
)
GRANT = {
    "access_token": "new-access",
    "refresh_token": "new-refresh",
    "token_type": "Bearer",
    "expires_in": 3600,
}
ACCESS_ONLY = {"access_token": "new-access", "expires_in": 3600}


def reply(body, status=200, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content_type": "application/json", "retry_after": None, "whole": True, "asked_at": ASKED}
    return Reply(status=status, body=raw, **told | more)


def answer(body, status=200, *, known=None, token=TOKEN, **more):
    definition = replace(PLAIN, **known or {})
    provider = Provider(definition=definition, client_id="me", client_secret=Secret("short-secret"))
    return read(provider, token, reply(body, status, **more))
