"""A crash before and after each step of a consent that is bound to a session, with the real daemon.

Its grant is held, then completed or abandoned. Whatever the moment, the code is presented once at most, no token is
stored before the completion, and an abandoned grant does not stay alive unnoticed.
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
    Completion,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentState,
    identified,
)
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof, hashed
from daemon.runtime.clock import Clock
from tests.e2e.daemon_process import Installation
from tests.faults.conftest import MakeStage
from tests.faults.crashing import CRASHED
from tests.faults.stage import Stage

PROOF = Proof(connect_code=Secret("c" * 43), code_verifier=Secret("v" * 43))
PATIENCE = timedelta(seconds=30)
LOST = ["take.after", "ask.before", "ask.after", "keep.before"]
HELD = ["keep.durable", "keep.after", "hold.before", "hold.after", "forget.before", "forget.after"]
COMPLETED = [
    "take_grant.before",
    "take_grant.after",
    "bind.before",
    "bind.after",
    "done.before",
    "done.after",
]
ABANDONED = [
    "take_grant.before",
    "take_grant.after",
    "give_up.before",
    "give_up.after",
    "ask.before",
    "ask.after",
    "forget_grant.before",
    "forget_grant.after",
]
# These are in every run, the others on demand: the same steps are tested in memory.
SHORT = {("completed", "bind.after")}


class Grantor:
    """Exchanges a code once, and revokes the grant of a refresh token."""

    def __init__(self) -> None:
        self.presented: Counter[str] = Counter()
        self.alive: set[str] = set()

    async def token(self, request: web.Request) -> web.Response:
        code = str((await request.post())["code"])
        self.presented[code] += 1
        if self.presented[code] > 1:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.alive.add(f"refresh-{code}")
        granted = {"access_token": f"access-{code}", "refresh_token": f"refresh-{code}", "expires_in": 3600}
        return web.json_response(granted)

    async def revoke(self, request: web.Request) -> web.Response:
        self.alive.discard(str((await request.post())["token"]))
        return web.json_response({})


class Scene:
    """One installation, its provider, and the access service that hands codes over and completes."""

    def __init__(self, stage: Stage, place: Installation, server: Grantor, mongo: Mongo) -> None:
        self.stage, self.place, self.server, self.mongo = stage, place, server, mongo
        self.consents = MongoConsents(mongo, owner="serve", keyring=lambda: place.keyring)

    async def hand_over(self) -> str:
        await self.mongo.hello()
        request = identified(
            ConsentRequest(
                id="c1",
                provider="acme",
                account="7",
                redirect_uri="https://app.example/connect/callback/acme",
                code_challenge=code_challenge(PROOF.code_verifier),
                key="k1",
                expires_at=self.mongo.clock.now() + timedelta(minutes=15),
            )
        )
        await self.consents.insert(request, state_hash=None, link_hash="link")
        verifier = Secret("v" * 43)
        await self.consents.spend_link("link", browser_hash="b", state_hash="s", code_verifier=verifier)
        await self.consents.called_back("acme", "s", "b")
        await self.consents.give_code(
            request.id, code=Secret("code-1"), connect_code_hash=hashed(PROOF.connect_code)
        )
        return request.id

    async def reached(self, name: str, *, held: bool = False) -> ConsentProgress:
        """Wait until the consent has ended, or `held` its grant."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                progress = await self.consents.progress(name)
                assert progress is not None
                if progress.state.is_final or (held and progress.held):
                    return progress
                await asyncio.sleep(0.05)

    async def complete(self, name: str) -> Completion:
        return await self.consents.complete(name, key="k1", proof=PROOF)

    async def let_ten_minutes_pass(self, name: str) -> None:
        now = self.mongo.clock.now()
        over = {"held_until": now, "grant_due_at": now}
        await self.mongo.consents.update_one({"_id": name}, {"$set": over})

    async def has_no_grant(self, name: str) -> None:
        """Wait until no grant is sealed in the consent."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while (await self.mongo.consents.find_one({"_id": name}) or {}).get("grant") is not None:
                await asyncio.sleep(0.05)

    async def refresh_token(self) -> str | None:
        document = await self.stage.tokens.find_one({"_id": "acme:7"})
        if document is None:
            return None
        return self.place.keyring.open(document["refresh_token"], token_id="acme:7", field="refresh_token")


@pytest.fixture
async def scene(stage: MakeStage, mongod: str, database_name: str, tmp_path: Path) -> AsyncIterator[Scene]:
    server = Grantor()
    app = web.Application()
    app.router.add_post("/token", server.token)
    app.router.add_post("/revoke", server.revoke)
    made = await stage()
    async with TestServer(app) as running:
        acme: dict[str, Any] = {
            "token_url": str(running.make_url("/token")),
            "revoke_url": str(running.make_url("/revoke")),
            "client_id": "me",
            "client_secret": "s",
            "client_auth": "post",
        }
        place = Installation(
            tmp_path / "place",
            uri=mongod,
            database=database_name,
            providers={"acme": acme},
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


def points(path: str, names: list[str]) -> list[Any]:
    return [pytest.param(one, marks=[] if (path, one) in SHORT else [pytest.mark.long]) for one in names]


@pytest.mark.parametrize("point", points("held", [*LOST, *HELD]))
async def test_a_crash_leaves_a_held_grant_or_none(scene: Scene, point: str) -> None:
    """The next start holds it; without a durable reply the owner starts again."""
    consent = await scene.hand_over()
    async with scene.stage.running(scene.place, point) as daemon:
        assert await daemon.ended(within=PATIENCE) == CRASHED, daemon.logs
    assert await scene.refresh_token() is None
    async with scene.stage.running(scene.place) as daemon:
        progress = await scene.reached(consent, held=True)
        if point in LOST:
            assert progress.failure is not None
            assert progress.failure.kind is ConsentFailureKind.INTERRUPTED
            assert await scene.complete(consent) is Completion.OVER
        else:
            assert await scene.refresh_token() is None
            assert await scene.complete(consent) is Completion.TAKEN
            assert (await scene.reached(consent)).state is ConsentState.DONE
        assert await daemon.stop() == 0, daemon.logs
    assert await scene.refresh_token() == (None if point in LOST else "refresh-code-1")
    assert max(scene.server.presented.values(), default=0) <= 1


@pytest.mark.parametrize("point", points("completed", COMPLETED))
async def test_a_crash_after_a_completion_stores_the_grant_once(scene: Scene, point: str) -> None:
    """The next start of the instance finishes it, without waiting for the end of its lease."""
    consent = await scene.hand_over()
    async with scene.stage.running(scene.place, point) as daemon:
        await scene.reached(consent, held=True)
        assert await scene.complete(consent) is Completion.TAKEN
        assert await daemon.ended(within=PATIENCE) == CRASHED, daemon.logs
    async with scene.stage.running(scene.place) as daemon:
        await daemon.ready()  # some consents are done before this start
        assert (await scene.reached(consent)).state is ConsentState.DONE
        assert await daemon.stop() == 0, daemon.logs
    assert await scene.refresh_token() == "refresh-code-1"
    assert scene.server.alive == {"refresh-code-1"}


@pytest.mark.long
@pytest.mark.parametrize("point", ABANDONED)
async def test_a_crash_after_an_abandonment_leaves_nothing_alive(scene: Scene, point: str) -> None:
    """The next start revokes it. No token is stored."""
    consent = await scene.hand_over()
    async with scene.stage.running(scene.place) as daemon:
        await scene.reached(consent, held=True)
        assert await daemon.stop() == 0, daemon.logs
    await scene.let_ten_minutes_pass(consent)
    async with scene.stage.running(scene.place, point) as daemon:
        assert await daemon.ended(within=PATIENCE) == CRASHED, daemon.logs
    async with scene.stage.running(scene.place) as daemon:
        await daemon.ready()  # some grants are gone before this start
        assert (await scene.reached(consent)).state is ConsentState.ABANDONED
        await scene.has_no_grant(consent)
        assert await daemon.stop() == 0, daemon.logs
    assert await scene.refresh_token() is None
    assert not scene.server.alive
