"""Stored consents as `Links` uses them: the fake and MongoDB behave alike, with keys that open nothing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.mongo.connecting.consent_requests import ConsentRequests
from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.index_build import build_all
from daemon.domain.consent_request import (
    Completion,
    ConsentFailure,
    ConsentFailureKind,
    ConsentRequest,
    ConsentState,
    identified,
)
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof
from daemon.serving.ports import Consents
from tests.serving.access_bench import KEYS, NOON, RING, AccessBench, bench
from tests.serving.fake_consents import FakeConsents
from tests.support.clocks import SetClock

__all__ = ["bench"]
LINK, STATE, BROWSER, CONNECT_CODE = ("1" * 64, "s" * 43, "b" * 64, "c" * 64)
VERIFIER, CODE = Secret("v" * 43), Secret("the code")
PROOF = Proof(connect_code=Secret("c" * 43), code_verifier=VERIFIER)
REFUSED = ConsentFailure(kind=ConsentFailureKind.DENIED, message="no", code="access_denied")


class Port:
    """Consents, and what tests need to see beside."""

    def __init__(self, consents: Consents, clock: SetClock) -> None:
        self.consents, self.clock = consents, clock

    async def begun(self, **fields: object) -> ConsentRequest:
        request = ConsentRequest(
            id="beginning",
            provider="acme",
            account="me",
            redirect_uri="https://tokens.example.com/connect/callback/acme",
            code_challenge="x" * 43,
            key="k" * 20,
            return_url="https://app.example.com/",
            expires_at=self.clock.now() + timedelta(minutes=15),
        )
        request = identified(replace(request, **fields))  # type: ignore[arg-type]
        await self.consents.insert(request, state_hash=None, link_hash=LINK)
        return request

    async def opened(self, **fields: object) -> ConsentRequest:
        request = await self.begun(**fields)
        assert await self.spend() is not None
        return request

    async def spend(self) -> ConsentRequest | None:
        return await self.consents.spend_link(
            LINK, browser_hash=BROWSER, state_hash=STATE, code_verifier=VERIFIER
        )

    async def state(self, request: ConsentRequest) -> tuple[ConsentState, str | None]:
        progress = await self.consents.progress(request.id)
        assert progress is not None
        assert (progress.key, progress.return_url) == (request.key, request.return_url)
        return progress.state, progress.failure and progress.failure.kind.value


@pytest.fixture(params=["fake", "mongodb"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[Port]:
    if request.param == "fake":
        yield Port(FakeConsents(daemon=lambda _row: None), SetClock(NOON))
        return
    own = AccessBench(request.getfixturevalue("mongod"), request.getfixturevalue("database_name"))
    await own.mongo.prepare()
    await build_all(own.mongo)
    yield Port(ConsentRequests(own.mongo, keyring=lambda: KEYS), own.clock)
    await own.close()


async def test_a_link_is_seen_often_and_used_once(port: Port):
    request = await port.begun()
    for _ in range(2):
        seen = await port.consents.by_link(LINK)
        assert seen is not None
        assert seen.id == request.id
    assert await port.spend() is not None
    assert await port.spend() is None
    assert await port.consents.by_link(LINK) is None
    assert await port.state(request) == (ConsentState.WAITING, None)


async def test_an_unknown_link(port: Port):
    await port.begun()
    assert await port.consents.by_link("2" * 64) is None


async def test_a_state_is_used_once(port: Port):
    request = await port.opened()
    found = await port.consents.called_back("acme", STATE, BROWSER)
    assert found is not None
    assert (found.id, found.key, found.return_url) == (request.id, request.key, request.return_url)
    assert await port.consents.called_back("acme", STATE, BROWSER) is None
    assert await port.state(request) == (ConsentState.WAITING, None)


@pytest.mark.parametrize(("provider", "browser"), [("evil", BROWSER), ("acme", "x" * 64), ("evil", "")])
async def test_a_callback_that_is_mixed_up_ends_the_consent(port: Port, provider: str, browser: str):
    request = await port.opened()
    assert await port.consents.called_back(provider, STATE, browser) is None
    assert await port.state(request) == (ConsentState.FAILED, "mixed_up")
    assert await port.consents.called_back("acme", STATE, BROWSER) is None
    assert not await port.consents.give_code(request.id, code=CODE, connect_code_hash=CONNECT_CODE)


async def test_an_unknown_state_changes_nothing(port: Port):
    request = await port.opened()
    assert await port.consents.called_back("acme", "t" * 43, BROWSER) is None
    assert await port.consents.called_back("acme", STATE, BROWSER) is not None
    assert await port.state(request) == (ConsentState.WAITING, None)


async def test_a_code_is_given_once(port: Port):
    request = await port.opened()
    await port.consents.called_back("acme", STATE, BROWSER)
    assert await port.consents.give_code(request.id, code=CODE, connect_code_hash=CONNECT_CODE)
    assert not await port.consents.give_code(request.id, code=CODE, connect_code_hash=CONNECT_CODE)


async def test_a_refused_consent_has_ended(port: Port):
    request = await port.opened()
    await port.consents.called_back("acme", STATE, BROWSER)
    assert await port.consents.refuse(request.id, REFUSED)
    assert await port.state(request) == (ConsentState.FAILED, "denied")
    assert not await port.consents.refuse(request.id, REFUSED)
    assert not await port.consents.give_code(request.id, code=CODE, connect_code_hash=None)


async def test_a_consent_that_is_not_there(port: Port):
    assert await port.consents.progress("nothing") is None
    assert await port.consents.recall("nothing") is None
    done = await port.consents.complete("nothing", key="k" * 20, proof=PROOF)
    assert done is Completion.UNKNOWN


async def test_another_key_completes_nothing(port: Port):
    request = await port.opened()
    done = await port.consents.complete(request.id, key="l" * 20, proof=PROOF)
    assert done is Completion.UNKNOWN


async def test_the_daemon_opens_what_the_writer_key_has_sealed(bench: AccessBench):
    """And the document holds neither code nor verifier in plain text."""
    port = Port(ConsentRequests(bench.mongo, keyring=lambda: KEYS), bench.clock)
    request = await port.opened()
    await port.consents.called_back("acme", STATE, BROWSER)
    await port.consents.give_code(request.id, code=CODE, connect_code_hash=CONNECT_CODE)
    document = bench.database["tokens_consents"].find_one({"_id": request.id})
    assert document is not None
    assert document["code"].startswith("w1.")
    assert document["code_verifier"].startswith("w1.")
    assert CODE.reveal() not in str(document)
    assert VERIFIER.reveal() not in str(document)
    daemon = MongoConsents(bench.mongo, owner="me", keyring=lambda: RING)
    taken = await daemon.take(request.id)
    assert isinstance(taken, ConsentRequest)
    assert (taken.code, taken.code_verifier) == (CODE, VERIFIER)
