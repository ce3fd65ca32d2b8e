"""Abandoned consents at the sandbox, with shipped definitions and the real MongoDB: the stored grant stays alive."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connecting.discard_audit import DiscardAudit
from daemon.connecting.exchange import CodeExchange
from daemon.domain.consent_request import HELD_FOR, ConsentState, identified
from daemon.domain.due import Timing
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.session_proof import BoundCode, bound_code_text
from daemon.runtime.config.providers.definitions import shipped
from daemon.sandbox import Sandbox, SandboxOptions
from tests.adapters.mongo.connecting.consent_bench import REQUEST, Bench, opened
from tests.connecting.fakes import MemoryJournal, OpenLane, World
from tests.providers import wire
from tests.sandbox.conftest import Peer
from tests.sandbox.owner import CALLBACK, VERIFIER, Owner


class House:
    """A daemon's half of consents, at one provider."""

    def __init__(self, bench: Bench, peer: Peer, name: str, through: Any) -> None:
        self.bench, self.peer, self._through = bench, peer, through
        bench.clock.start = wire.CLOCK.now()
        self.owner = Owner(peer)
        self.provider = Provider(
            definition=shipped()[name],
            client_id=peer.sandbox.client_id,
            client_secret=Secret(peer.sandbox.client_secret),
        )
        self.exchange = CodeExchange(
            providers={name: self.provider},
            lanes={name: OpenLane()}.get,
            consents=bench.of(),
            tokens=bench.tokens,
            journal=MemoryJournal(World()),
            deeds=DiscardAudit(Audit(bench.mongo, who=Who(actor="me@here"), log=lambda _record: None)),
            endpoint=self,
            clock=bench.clock,
            chance=lambda: 0.5,
            timing=Timing(),
            observe=lambda _event: None,
        )

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        return await wire.send(self._through, request, to=self.peer.sandbox.url)

    async def consent(self, name: str, owner: str, account: str = "7", challenge: str | None = None) -> str:
        """The owner consents, and the daemon exchanges the code. Returns the grant's id in the sandbox."""
        form = {"decision": "approve", "account": owner}
        scope = " ".join(self.provider.definition.scopes)
        answer = await self.owner.answer(form, access_type="offline", prompt="consent", scope=scope)
        provider = self.provider.name
        bound = BoundCode(code=Secret(answer["code"]), connect_code_hash="h")
        request = identified(
            replace(
                REQUEST,
                id=name,
                provider=provider,
                account=account,
                code=Secret(answer["code"]) if challenge is None else bound_code_text(bound),
                code_verifier=Secret(VERIFIER),
                redirect_uri=CALLBACK,
                vars={"host": "login.salesforce.com"} if provider == "salesforce" else {},
                code_challenge=challenge,
                key="k1",
                expires_at=self.bench.clock.now() + timedelta(minutes=15),
            )
        )
        await self.bench.of().insert(request, state_hash=None)
        self.bench.ids[name] = request.id
        await self.look()
        return str((await self.owner.grants())[-1]["id"])

    async def look(self) -> None:
        await self.exchange.look({self.provider.name: None})
        await self.exchange.ended()

    async def ended_by(self, grant: str) -> str | None:
        return (await self.peer.ledger(grant))["revoked_by"]  # type: ignore[no-any-return]

    def state(self, name: str) -> ConsentState:
        return ConsentState(self.bench.document(name)["state"])

    @property
    def left_alive(self) -> list[Any]:
        return [one["result"] for one in self.bench.audited.find({"action": "left_alive"})]


@pytest.fixture
async def start(mongod: str, database_name: str, mongo_client: Any) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(opened(mongod, database_name, mongo_client))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        through = await stack.enter_async_context(wire.endpoint())

        async def started(name: str) -> House:
            sandbox = await stack.enter_async_context(Sandbox(SandboxOptions(name=name)))
            return House(bench, Peer(sandbox, session), name, through)

        yield started


@pytest.mark.parametrize("account", ["7", "8"])
async def test_where_a_revocation_ends_all_an_abandoned_consent_is_left_alive(
    start: Any, account: str
) -> None:
    """It is of the account whose grant is stored, under whatever id: that one renews as before."""
    house = await start("google")
    stored = await house.consent("c1", "mona")
    assert house.state("c1") is ConsentState.DONE
    new = await house.consent("c2", "mona", account, challenge="challenge")
    assert house.state("c2") is ConsentState.ASKED
    house.bench.clock.passed = HELD_FOR
    for _ in range(2):
        await house.look()
    assert house.state("c2") is ConsentState.ABANDONED
    assert house.bench.document("c2")["grant"] is None
    assert house.left_alive == ["same_account"]
    assert await house.ended_by(stored) is None
    assert await house.ended_by(new) is None


async def test_another_account_is_revoked_there_and_the_stored_one_lives(start: Any) -> None:
    """Nothing of the stranger stays."""
    house = await start("google")
    stored = await house.consent("c1", "mona")
    new = await house.consent("c2", "tom", challenge="challenge")
    house.bench.clock.passed = HELD_FOR
    for _ in range(2):
        await house.look()
    assert house.left_alive == []
    assert await house.ended_by(new) == "client"
    assert await house.ended_by(stored) is None


async def test_where_a_revocation_ends_one_token_the_same_account_is_revoked(start: Any) -> None:
    """The counterpart: nothing is left alive, and the stored grant lives."""
    house = await start("salesforce")
    stored = await house.consent("c1", "mona")
    assert house.state("c1") is ConsentState.DONE
    new = await house.consent("c2", "mona", challenge="challenge")
    house.bench.clock.passed = HELD_FOR
    for _ in range(2):
        await house.look()
    assert house.state("c2") is ConsentState.ABANDONED
    assert house.left_alive == []
    assert await house.ended_by(new) == "client"
    assert await house.ended_by(stored) is None


async def test_a_consent_with_another_account_is_refused_and_revoked(start: Any) -> None:
    """Without any session: it is not stored, so it is not to stay alive."""
    house = await start("google")
    stored = await house.consent("c1", "mona")
    new = await house.consent("c2", "tom")
    assert house.bench.document("c2")["failure"]["kind"] == "other_account"
    await house.look()
    assert await house.ended_by(new) == "client"
    assert await house.ended_by(stored) is None
