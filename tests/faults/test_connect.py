"""A crash before and after each step of a consent, with the real daemon, at a provider that ends a grant whose code is
presented twice.

take -> ask -> keep -> bind -> done -> forget. Whatever the moment, the code is presented once at most, and the grant is
whole or absent (J2).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.authorization import code_challenge
from daemon.domain.consent_request import (
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentState,
    identified,
)
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from tests.e2e.daemon_process import Installation
from tests.faults.conftest import MakeStage
from tests.faults.crashing import CRASHED
from tests.faults.stage import Stage

PATIENCE = timedelta(seconds=20)
VERIFIER = Secret("v" * 43)

# Before the reply is durable nothing can be saved: the owner starts again.
FAILED = ["take.after", "ask.before", "ask.after", "keep.before"]
DONE = [
    "take.before",
    "keep.durable",
    "keep.after",
    "bind.before",
    "bind.after",
    "done.before",
    "done.after",
    "forget.before",
    "forget.after",
]
# This one is in every run, the others on demand: the same steps are tested in memory.
SHORT = ["keep.durable"]


class CodeServer:
    """Exchanges a code once, for the verifier of its challenge, and rotates refresh tokens without any grace."""

    def __init__(self) -> None:
        self.presented: Counter[str] = Counter()
        self.current: dict[str, str] = {}  # refresh token -> code of its grant
        self.ended: set[str] = set()
        self.issued = 0

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form["grant_type"] == "authorization_code":
            code = str(form["code"])
            self.presented[code] += 1
            if self.presented[code] > 1:
                self.ended.add(code)
            proof = code_challenge(Secret(str(form["code_verifier"])))
            if self.presented[code] > 1 or proof != code_challenge(VERIFIER):
                return web.json_response({"error": "invalid_grant"}, status=400)
        else:
            spent = str(form["refresh_token"])
            if spent not in self.current:
                return web.json_response({"error": "invalid_grant"}, status=400)
            code = self.current.pop(spent)
        return web.json_response(self._granted(code))

    def _granted(self, code: str) -> dict[str, Any]:
        self.issued += 1
        successor = f"refresh-{self.issued}-{code}"
        self.current[successor] = code
        return {"access_token": f"access-{code}", "refresh_token": successor, "expires_in": 3600}


class Scene:
    """One installation, its provider, and the process that hands codes over."""

    def __init__(self, stage: Stage, place: Installation, server: CodeServer, mongo: Mongo) -> None:
        self.stage, self.place, self.server = stage, place, server
        self.mongo = mongo
        self.consents = MongoConsents(mongo, owner="test", keyring=lambda: place.keyring)

    async def hand_over(self, code: str, verifier: Secret = VERIFIER) -> str:
        """Store a code, as `refreshd connect` does. Returns the id of its request."""
        await self.mongo.hello()
        request = identified(
            ConsentRequest(
                id=code,
                provider="acme",
                account="7",
                code=Secret(code),
                code_verifier=verifier,
                redirect_uri="http://127.0.0.1:8917/callback",
                expires_at=self.mongo.clock.now() + timedelta(minutes=15),
            )
        )
        await self.consents.insert(request, state_hash="h")
        return request.id

    async def ended(self, name: str) -> ConsentProgress:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                progress = await self.consents.progress(name)
                assert progress is not None
                if progress.state.is_final:
                    return progress
                await asyncio.sleep(0.05)

    async def refresh_token(self) -> str | None:
        document = await self.stage.tokens.find_one({"_id": "acme:7"})
        if document is None:
            return None
        return self.place.keyring.open(document["refresh_token"], token_id="acme:7", field="refresh_token")


@pytest.fixture
async def scene(stage: MakeStage, mongod: str, database_name: str, tmp_path: Path) -> AsyncIterator[Scene]:
    server = CodeServer()
    app = web.Application()
    app.router.add_post("/token", server.token)
    made = await stage()
    async with TestServer(app) as running:
        place = Installation(
            tmp_path / "place",
            uri=mongod,
            database=database_name,
            providers={
                "acme": {
                    "token_url": str(running.make_url("/token")),
                    "client_id": "me",
                    "client_secret": "s",
                    "client_auth": "post",
                }
            },
            refresh={"sweep_every": "1s", "request_timeout": "2s", "lease": "24s", "drain": "10s"},
        )
        mongo = Mongo(
            uri=Secret(mongod),
            database=database_name,
            collection="tokens",
            clock=Clock(),
            observe=lambda _event: None,
        )
        yield Scene(made, place, server, mongo)
        await mongo.close()


@pytest.mark.parametrize(
    "point",
    [pytest.param(one, marks=[] if one in SHORT else [pytest.mark.long]) for one in (*FAILED, *DONE)],
)
async def test_a_crash_leaves_a_whole_grant_or_none(scene: Scene, point: str) -> None:
    """The next start finishes the consent, or says that the owner has to start again; then the owner does."""
    first = await scene.hand_over("code-1")
    async with scene.stage.running(scene.place, point) as daemon:
        assert await daemon.ended(within=PATIENCE) == CRASHED, daemon.logs
    async with scene.stage.running(scene.place) as daemon:
        await daemon.ready()  # some consents are done before this start
        progress = await scene.ended(first)
        if point in FAILED:
            assert progress.failure is not None
            assert progress.failure.kind is ConsentFailureKind.INTERRUPTED
            assert await scene.refresh_token() is None
            again = await scene.ended(await scene.hand_over("code-2"))
            assert again.state is ConsentState.DONE
        else:
            assert progress.state is ConsentState.DONE
        assert await daemon.stop() == 0, daemon.logs
    assert scene.stage.journal(scene.place) == set()
    assert await scene.refresh_token() in scene.server.current
    assert max(scene.server.presented.values()) == 1
    assert not scene.server.ended


async def test_a_consent_is_exchanged_and_then_renewed(scene: Scene) -> None:
    """Without any crash: within seconds, and the grant stays alive."""
    async with scene.stage.running(scene.place) as daemon:
        await daemon.ready()
        progress = await scene.ended(await scene.hand_over("code-1"))
        assert progress.state is ConsentState.DONE
        first = await scene.refresh_token()
        await scene.stage.tokens.update_one({}, {"$set": {"due_at": scene.mongo.clock.now()}})
        await daemon.event("token.renewed", token="acme:7")
        assert await daemon.stop() == 0
    assert await scene.refresh_token() != first
    assert await scene.refresh_token() in scene.server.current


@pytest.mark.long
async def test_a_wrong_verifier_is_refused_and_stores_nothing(scene: Scene) -> None:
    """A code that was injected into another's consent."""
    async with scene.stage.running(scene.place) as daemon:
        await daemon.ready()
        progress = await scene.ended(await scene.hand_over("code-stolen", Secret("w" * 43)))
        assert progress.failure is not None
        assert progress.failure.kind is ConsentFailureKind.REFUSED
        assert "code-stolen" not in daemon.logs
    assert await scene.refresh_token() is None
