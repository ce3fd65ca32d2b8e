"""A daemon that renews many tokens of a sandbox, whose client's secret stands in Secrets Manager."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.support import wall_clock

LIFETIME = timedelta(seconds=10)  # each token is renewed after two thirds of it
TOKENS = 140  # so more than 20 of them a second
SPREAD = timedelta(seconds=6)
NEXT = "the-next-client-secret-52c1"
PATIENCE = timedelta(minutes=2)

Owner = Callable[..., Awaitable[Mapping[str, Any]]]


class Way:
    """The way to the server that imitates AWS. Each reading is one connection."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._open = asyncio.Event()
        self._open.set()
        self.closed = False
        self.readings = 0
        self.ended = 0  # of these

    def hang(self) -> None:
        """Accept connections, and let them wait."""
        self._open.clear()

    def open(self) -> None:
        self.closed = False
        self._open.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Yields the URL of this end."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            self.open()
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.readings += 1
        with suppress(OSError):
            await self._open.wait()
            if not self.closed:
                there = await asyncio.open_connection(self._target.hostname, self._target.port)
                await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        writer.close()
        self.ended += 1


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while some := await source.read(1 << 16):
            target.write(some)
            await target.drain()
    target.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One running daemon, its provider and the source of its client's secret."""

    sandbox: Sandbox
    way: Way
    owner: Owner
    secret: str
    tokens: Any
    daemon: DaemonProcess
    place: Installation
    environment: Mapping[str, str]

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[DaemonProcess]:
        """A second daemon, which has renewed tokens when the block begins."""
        store: Any = self.place.tables["store"]
        other = Installation(
            self.place.directory / "replica",
            uri=store["uri"],
            database=store["database"],
            providers={"sandbox": self.place.tables["providers.sandbox"]},
            key=self.place.key,
        )
        async with other.running(**self.environment) as daemon:
            await daemon.event("token.renewed")
            yield daemon

    async def store_has(self, secret: str) -> None:
        await self.owner(
            "secretsmanager", "secretsmanager.PutSecretValue", SecretId=self.secret, **_value(secret)
        )

    def provider_has(self, secret: str) -> None:
        self.sandbox.change_client_secret(secret)

    async def renewed(self, times: int) -> None:
        """Wait until each grant has been renewed so often from now on."""
        before = _generations(self.sandbox)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while any(now < before[name] + times for name, now in _generations(self.sandbox).items()):
                await asyncio.sleep(0.2)

    async def nothing_lost(self) -> None:
        """Stop, and assert that no grant was condemned, by the daemon or by the provider."""
        assert await self.daemon.stop() == 0
        assert await self.tokens.count_documents({"state": "active", "failures": 0}) == TOKENS
        assert [grant["revoked_by"] for grant in self.sandbox.ledger()] == [None] * TOKENS
        for trouble in ("token.needs_reauth", "token.unparsed"):
            assert self.daemon.seen(trouble) == []


@asynccontextmanager
async def rotation(
    directory: Path, uri: str, database: str, owner: Owner, environment: Mapping[str, str]
) -> AsyncIterator[Rotation]:
    """The daemon has renewed each token twice when the block begins."""
    name = f"refreshd/{uuid4().hex}"
    way = Way(environment["AWS_ENDPOINT_URL"])
    async with (
        Sandbox(SandboxOptions(lifetime=LIFETIME)) as sandbox,
        way.running() as url,
        AsyncMongoClient(uri, tz_aware=True) as client,
    ):
        await owner(
            "secretsmanager", "secretsmanager.CreateSecret", Name=name, **_value(sandbox.client_secret)
        )
        place = Installation(
            directory,
            uri=uri,
            database=database,
            providers={
                "sandbox": {
                    "token_url": sandbox.token_url,
                    "client_id": sandbox.client_id,
                    "client_secret": {"aws_secret": name, "field": "client_secret"},
                }
            },
        )
        own = {**environment, "AWS_ENDPOINT_URL": url}
        async with place.running(**own) as daemon:
            tokens = client[database]["tokens"]
            await _store(tokens, place, sandbox)
            running = Rotation(
                sandbox=sandbox,
                way=way,
                owner=owner,
                secret=name,
                tokens=tokens,
                daemon=daemon,
                place=place,
                environment=own,
            )
            await running.renewed(2)
            yield running


def _value(secret: str) -> dict[str, str]:
    return {"SecretString": json.dumps({"client_secret": secret})}


def _generations(sandbox: Sandbox) -> dict[str, int]:
    return {str(grant["id"]): int(str(grant["generation"])) for grant in sandbox.ledger()}


async def _store(tokens: Any, place: Installation, sandbox: Sandbox) -> None:
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
