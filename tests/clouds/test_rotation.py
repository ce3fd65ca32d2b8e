"""A client secret that changes in Secrets Manager and at the provider, while a daemon renews many tokens."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.support import wall_clock

LIFETIME = timedelta(seconds=10)  # each token is renewed after two thirds of it
TOKENS = 140  # so more than 20 of them a second
SPREAD = timedelta(seconds=6)
NEXT = "the-next-client-secret-52c1"
PATIENCE = timedelta(minutes=2)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(lifetime=LIFETIME)) as running:
        yield running


def generations(sandbox: Sandbox) -> dict[str, int]:
    return {str(grant["id"]): int(str(grant["generation"])) for grant in sandbox.ledger()}


async def renewed(sandbox: Sandbox, times: int) -> None:
    """Wait until each grant has been renewed so often from now on."""
    before = generations(sandbox)
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while any(now < before[name] + times for name, now in generations(sandbox).items()):
            await asyncio.sleep(0.2)


async def test_a_client_secret_changes_under_load(
    owner, environment, mongod, database_name, sandbox, tmp_path: Path
):
    """No grant is condemned and no renewal fails: the first refusal leads to one read, which brings the new secret. So the
    provider is never paused.
    """
    name = f"refreshd/{uuid4().hex}"

    def secret(text: str) -> dict[str, str]:
        return {"SecretString": json.dumps({"client_secret": text})}

    await owner("secretsmanager", "secretsmanager.CreateSecret", Name=name, **secret(sandbox.client_secret))
    place = Installation(
        tmp_path / "installation",
        uri=mongod,
        database=database_name,
        providers={
            "sandbox": {
                "token_url": sandbox.token_url,
                "client_id": sandbox.client_id,
                "client_secret": {"aws_secret": name, "field": "client_secret"},
            }
        },
    )
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running(**environment) as daemon:
        tokens = client[database_name]["tokens"]
        await store(tokens, place, sandbox)
        await renewed(sandbox, 2)
        await owner("secretsmanager", "secretsmanager.PutSecretValue", SecretId=name, **secret(NEXT))
        sandbox.change_client_secret(NEXT)
        await renewed(sandbox, 2)
        await daemon.event("provider.client_changed", provider="sandbox")
        assert await daemon.stop() == 0
        assert await tokens.count_documents({"state": "active", "failures": 0}) == TOKENS
    assert [grant["revoked_by"] for grant in sandbox.ledger()] == [None] * TOKENS
    assert len(daemon.seen("provider.client_changed")) == 1
    for trouble in ("provider.paused", "token.postponed", "token.needs_reauth", "token.unparsed"):
        assert daemon.seen(trouble) == []


async def store(tokens, place: Installation, sandbox: Sandbox) -> None:
    """Store a token for each user of the sandbox, due one after the other."""
    now = wall_clock.now()
    documents = []
    for number, consent in enumerate(sandbox.consent(TOKENS)):
        name = f"sandbox:{consent['grant']}"
        sealed = {
            field: place.keyring.seal(str(consent[field]), token_id=name, field=field)
            for field in ("access_token", "refresh_token")
        }
        documents.append(
            {
                "_id": name,
                "provider": "sandbox",
                "account": consent["grant"],
                "state": "active",
                **sealed,
                "issued_at": now,
                "expires_at": now + LIFETIME,
                "due_at": now + SPREAD * number / TOKENS,
                "revision": 1,
            }
        )
    await tokens.insert_many(documents)
