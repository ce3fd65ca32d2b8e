"""The access service as applications meet it: a store with tokens, a key, and a process with reader and writer keys."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
from pymongo import MongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation

LIFETIME = timedelta(hours=1)
PROVIDER = "acme"
VERBS = "read,refuse,write,replace,pause,connect,revoke,list,audit"


class Reply(NamedTuple):
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def problem(self) -> str:
        """The name of the problem document."""
        assert self.headers["Content-Type"].partition(";")[0] == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["type"]).removeprefix("urn:refreshd:problem:")


class Service:
    """A running `refreshd serve`, and how to ask it."""

    def __init__(self, process: DaemonProcess, url: str, session: aiohttp.ClientSession, key: str) -> None:
        self.process, self.url, self.session, self.key = process, url, session, key

    async def ask(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> Reply:
        """Ask with the service's own key, or another; an empty one sends none."""
        wanted = self.key if key is None else key
        authorization = {"Authorization": f"Bearer {wanted}"} if wanted else {}
        url = aiohttp.client.URL(self.url + path, encoded=True)
        async with self.session.request(
            method, url, headers={**authorization, **(headers or {})}, **body
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.text())

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.ask("GET", path, **options)

    async def exchange(self, provider: str = PROVIDER, *, key: str | None = None, **fields: str) -> Reply:
        """Ask the token endpoint, with the key as the client's secret in the body."""
        key = key or self.key
        form = {"grant_type": "refresh_token", "client_id": key[4:24], "client_secret": key, **fields}
        return await self.ask("POST", f"/v1/oauth/{provider}/token", key="", data=form)


class Place:
    """An installation with a sandbox as its provider, whose lifetime is an hour."""

    def __init__(self, installation: Installation, sandbox: Sandbox) -> None:
        self.installation, self.sandbox = installation, sandbox
        self.consents: dict[str, Mapping[str, Any]] = {}
        self._services = 0
        self._door_keys: dict[str, object] = {}

    async def refreshd(self, *arguments: str, stdin: str = "") -> str:
        done = await self.installation.refreshd(*arguments, stdin=stdin)
        assert done.code == 0, done
        return done.stdout

    async def add(self, *accounts: str) -> None:
        """Store the first token response of new grants."""
        for account, response in zip(accounts, self.sandbox.consent(len(accounts)), strict=True):
            self.consents[account] = response
            await self.refreshd("add", PROVIDER, account, stdin=json.dumps(response))

    async def key(
        self, name: str = "app", *options: str, tokens: str = f"{PROVIDER}:*", can: str = VERBS
    ) -> str:
        """Make an access key, and return its text."""
        made = await self.refreshd("access", "create", name, "--tokens", tokens, "--can", can, *options)
        return made.strip()

    async def door_keys(self) -> dict[str, object]:
        """Write reader and writer keys to files, as an operator does, and return the section [keys] that names them."""
        if self._door_keys:
            return self._door_keys
        lines = {
            "readers": await self.refreshd("keys", "reader", "--all"),
            "writer": await self.refreshd("keys", "writer"),
        }
        table = self._door_keys
        for name, text in lines.items():
            file = self.installation.directory / f"{name}.jsonl"
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as output:
                output.write(text)
            table[name] = {"file": str(file)}
        return table

    @asynccontextmanager
    async def serving(
        self, key: str, *, more: str = "", **sections: Mapping[str, object]
    ) -> AsyncIterator[Service]:
        """A service without a ring and without client secrets, which has said that it is ready. `more` is appended to its
        configuration."""
        tables = self.installation.tables
        provider = {"token_url": self.sandbox.token_url, "client_auth": "basic"}
        own: dict[str, Mapping[str, object]] = {
            "store": tables["store"],
            "keys": await self.door_keys(),
            "access": {"port": 0, "rate": "1000000/1m"},
            "log": {"format": "json"},
            f"providers.{PROVIDER}": {
                **provider,
                "client_secret": {"env": "NOT_SET_HERE"},
                "client_id": "not read",
            },
        }
        for name, table in sections.items():
            own[name] = {**own.get(name, {}), **table}
        service = Installation(
            self.installation.directory / "service",
            uri="",
            database="",
            providers={},
            key=self.installation.key,
        )
        service.configure(own)
        with service.config.open("a") as config:
            config.write(more)
        async with service.serving() as process, aiohttp.ClientSession() as session:
            url = await process.url()
            plain = url.startswith("http:")
            if plain:
                await process.ready()
            yield Service(process, url, session, key)


@asynccontextmanager
async def placed(mongod: str, directory: Path, *, lifetime: timedelta = LIFETIME) -> AsyncIterator[Place]:
    """An installation on a database of its own, which is dropped afterwards."""
    database = f"test_{uuid4().hex[:16]}"
    async with Sandbox(SandboxOptions(lifetime=lifetime)) as sandbox:
        provider = {
            "like": "sandbox",
            "token_url": sandbox.token_url,
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
        }
        try:
            yield Place(
                Installation(directory, uri=mongod, database=database, providers={PROVIDER: provider}),
                sandbox,
            )
        finally:
            with MongoClient[dict[str, Any]](mongod) as client:
                client.drop_database(database)
