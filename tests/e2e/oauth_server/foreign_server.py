"""The server as a test sees it: a process, a token endpoint, and a database of its own to compare with."""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import quote_plus

import aiohttp

from tests.e2e.oauth_server.settings import ANSWERS, DATABASE

LAUNCHER = Path(__file__).with_name("launch.py")
START_LIMIT = timedelta(seconds=60).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One grant as the server has it: how many refresh tokens it has issued, and the digests of those that work."""

    issued: int
    working: frozenset[str]


class ForeignServer:
    """A running server. Entered as a context, it is stopped at the end however that comes."""

    def __init__(
        self, directory: Path, *, lifetime: timedelta, consents: int, redirect_uri: str = ""
    ) -> None:
        self._directory = directory
        self._options = ["--lifetime", str(int(lifetime.total_seconds())), "--consents", str(consents)]
        self._options += ["--redirect-uri", redirect_uri] if redirect_uri else []
        self.token_url = ""
        self.client_id = ""
        self.client_secret = ""
        self._forms: list[dict[str, str]] = []

    async def __aenter__(self) -> Self:
        with Path(self._directory, "server.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(LAUNCHER),
                str(self._directory),
                *self._options,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=1 << 24,
            )
        self._session = aiohttp.ClientSession()
        try:
            assert self._process.stdout is not None
            line = await asyncio.wait_for(self._process.stdout.readline(), START_LIMIT)
            assert line, Path(self._directory, "server.log").read_text()
        except BaseException:
            await self.__aexit__()
            raise
        known = json.loads(line)
        self.token_url, self._forms = known["token_url"], known["consents"]
        self.client_id, self.client_secret = known["client_id"], known["client_secret"]
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self._session.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def provider(self) -> dict[str, Any]:
        """What stands in `[providers.NAME]` for this server."""
        return {
            "token_url": self.token_url,
            "client_auth": "basic",
            "confirm_after": "0s",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "rotation": "always",
            "grace": "0s",
        }

    async def consent(self, person: int) -> dict[str, Any]:
        """The token response to the consent of `person-<person>`, by the authorization code flow. Once each."""
        status, reply = await self._ask(self._forms[person])
        assert status == 200, reply
        return reply

    async def refresh(self, refresh_token: str) -> tuple[int, dict[str, Any]]:
        """Present a refresh token: the status and the reply."""
        return await self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def _ask(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        client = aiohttp.encode_basic_auth(quote_plus(self.client_id), quote_plus(self.client_secret))
        headers = {"Authorization": client}
        async with self._session.post(self.token_url, data=form, headers=headers) as reply:
            return reply.status, json.loads(await reply.read())

    def answers(self) -> Counter[tuple[int, str | None]]:
        """How often a refresh was answered with which status and error, by the server's own account."""
        lines = [json.loads(line) for line in Path(self._directory, ANSWERS).read_text().splitlines()]
        return Counter(
            (line["status"], line["error"]) for line in lines if line["grant_type"] == "refresh_token"
        )

    def families(self) -> dict[str, Family]:
        """What the server's database holds, by person."""
        question = (
            "SELECT username, count(*), group_concat(CASE WHEN revoked IS NULL THEN token_checksum END)"
            " FROM oauth2_provider_refreshtoken AS token JOIN auth_user AS person ON person.id = token.user_id"
            " GROUP BY username"
        )
        with closing(sqlite3.connect(f"file:{self._directory / DATABASE}?mode=ro", uri=True)) as database:
            rows = database.execute(question).fetchall()
        return {
            name: Family(issued=issued, working=frozenset((working or "").split(",")) - {""})
            for name, issued, working in rows
        }


class StartServer(Protocol):
    """The fixture `foreign_server`."""

    async def __call__(
        self, *, lifetime: timedelta, consents: int, redirect_uri: str = ""
    ) -> ForeignServer: ...


def digest(refresh_token: str) -> str:
    """What the server stores beside a refresh token."""
    return sha256(refresh_token.encode()).hexdigest()
