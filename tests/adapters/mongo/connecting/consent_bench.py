"""A bench for tests of consents: one database, requests in it, and the instances that take them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.adapters.mongo.connecting.consented_tokens import ConsentedTokens
from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.consent_request import (
    Binding,
    ConsentFailure,
    ConsentFailureKind,
    ConsentRequest,
    identified,
)
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from tests.adapters.mongo.mongo_bench import RING
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
REQUEST = ConsentRequest(
    id="c1",
    provider="acme",
    account="7",
    code=Secret("code-4711"),
    code_verifier=Secret("verifier-4712"),
    redirect_uri="http://127.0.0.1:8917/callback",
    scopes=("read",),
    vars={"shop": "blue"},
    subject="u1",
    meta={"tenant": "t1"},
    expires_at=NOON + timedelta(minutes=15),
)
TOKEN = Token(
    id="acme:7",
    provider="acme",
    account="7",
    state=State.ACTIVE,
    access_token=Secret("access-1"),
    refresh_token=Secret("refresh-1"),
    issued_at=NOON,
    expires_at=NOON + timedelta(hours=1),
    due_at=NOON + timedelta(minutes=50),
)
BINDING = Binding(consent="c1", asked_at=NOON, account="T1", missing_scopes=("write",), subject="u1")
FAILURE = ConsentFailure(kind=ConsentFailureKind.REFUSED, code="invalid_grant", message="no")


class Silent:
    """An audit that remembers the actions."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str]] = []

    async def note(self, action: str, target: str, revision: object = None, *, audit_id: Any = None) -> None:
        self.noted.append((action, target))


class Bench:
    def __init__(self, uri: str, database: str, client: Any) -> None:
        self.clock = SetClock(NOON)
        self.mongo = Mongo(
            uri=Secret(uri),
            database=database,
            collection="tokens",
            clock=self.clock,
            observe=lambda _event: None,
        )
        self.consents = client[database]["tokens_consents"]
        self.audited = client[database]["tokens_audit"]
        self.stored = client[database]["tokens"]
        self.audit = Silent()
        self.ids: dict[str, str] = {}  # by their beginnings
        self.tokens = ConsentedTokens(self.mongo, lambda: RING, self.audit)

    def of(self, owner: str = "me", ring: Any = RING) -> MongoConsents:
        return MongoConsents(self.mongo, owner=owner, keyring=lambda: ring)

    async def add(self, name: str = "c1", **changes: Any) -> ConsentRequest:
        """Store a request whose id begins with `name`."""
        request = identified(replace(REQUEST, id=name, **changes))
        await self.of().insert(request, state_hash="h")
        self.ids[name] = request.id
        return request

    def document(self, name: str = "c1") -> dict[str, Any]:
        found = self.consents.find_one({"_id": self.ids[name]})
        assert found is not None
        return found

    def token(self) -> dict[str, Any]:
        found = self.stored.find_one({"_id": "acme:7"})
        assert found is not None
        return found


@asynccontextmanager
async def opened(uri: str, database: str, client: Any) -> AsyncIterator[Bench]:
    bench = Bench(uri, database, client)
    yield bench
    await bench.mongo.close()
