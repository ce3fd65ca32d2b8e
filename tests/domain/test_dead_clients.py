"""A client that a provider no longer accepts, in that provider's words: no token is condemned, and no outage is seen."""

import json
from datetime import UTC, datetime

import pytest

from daemon.domain.answer import Concern, Misconfigured
from daemon.domain.dialect import read
from daemon.domain.provider import Provider
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.runtime.config.providers.definitions import shipped

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def answer(name, status, body):
    provider = Provider(definition=shipped()[name], client_id="me", client_secret=Secret("s3cret"))
    token = Token(
        id=f"{name}:1",
        provider=name,
        account="1",
        state=State.ACTIVE,
        refresh_token=Secret("a-refresh-token"),
    )
    reply = Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=json.dumps(body).encode(),
        whole=True,
        asked_at=NOW,
    )
    return read(provider, token, reply)


@pytest.mark.parametrize(
    ("name", "status", "body", "concerns"),
    [
        (
            "google",
            401,
            {"error": "deleted_client", "error_description": "The OAuth client was deleted."},
            Concern.CLIENT,
        ),
        (
            "microsoft",
            400,
            {"error": "unauthorized_client", "error_description": "AADSTS700016: Application not found."},
            Concern.TOKEN,
        ),
        (
            "microsoft",
            400,
            {"error": "unauthorized_client", "error_description": "AADSTS7000112: Application is disabled."},
            Concern.TOKEN,
        ),
        (
            "microsoft",
            401,
            {"error": "invalid_client", "error_description": "AADSTS7000222: The client secret has expired."},
            Concern.CLIENT,
        ),
        (
            "microsoft",
            400,
            {"error": "unauthorized_client", "error_description": "AADSTS7000161: other"},
            Concern.PROVIDER,
        ),
    ],
)
def test_a_refused_client_is_told_with_its_reach(name, status, body, concerns):
    """One customer's administrator who removes the app stops nobody else's tokens."""
    got = answer(name, status, body)
    assert isinstance(got, Misconfigured)
    assert got.concerns is concerns
