"""The service's routes, real MongoDB and the daemon's exchange, with a provider that checks verifiers."""

import secrets
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from daemon.adapters.mongo.connecting.consent_requests import ConsentRequests
from daemon.adapters.mongo.connecting.consented_tokens import ConsentedTokens
from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.serving.access_audit import AccessDeeds
from daemon.connecting.exchange import CodeExchange
from daemon.domain.authorization import code_challenge
from daemon.domain.due import Timing
from daemon.domain.event import Event, InternalError
from daemon.domain.reply import Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from tests.adapters.mongo.connecting.consent_bench import Silent
from tests.connecting.fakes import MemoryDeeds, MemoryJournal, OpenLane, World, answered
from tests.runtime.access_web.connect_service import ACME, Service, Stores
from tests.serving.access_bench import KEYS, RING, AccessBench, bench

__all__ = ["bench"]
NOT_OURS = answered({"error": "invalid_grant"}, status=400)


class Provider:
    """A token endpoint that gives each code one grant, to the verifier of its own authorization request."""

    def __init__(self) -> None:
        self._challenges: dict[str, str] = {}
        self.granted: list[str] = []

    def consent(self, asked: dict[str, str]) -> str:
        code = f"code-{secrets.token_hex(8)}"
        self._challenges[code] = asked["code_challenge"]
        return code

    async def send(self, request: Request, *, deadline: timedelta) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        challenge = self._challenges.pop(form["code"], None)
        if challenge is None or challenge != code_challenge(Secret(form["code_verifier"])):
            return NOT_OURS
        self.granted.append(form["code"])
        return answered(
            {"access_token": f"at-{form['code']}", "refresh_token": f"rt-{form['code']}", "expires_in": 3600}
        )


class Daemon:
    """The daemon's exchange on the same MongoDB. It looks whenever the service waits. `meddle` comes before each look."""

    def __init__(self, bench: AccessBench, provider: Provider) -> None:
        world = World(clock=bench.clock)
        self._clock = bench.clock
        self.events: list[Event] = []
        self.meddle: Callable[[], None] = lambda: None
        self._exchange = CodeExchange(
            providers={"acme": ACME},
            lanes={"acme": OpenLane()}.get,
            consents=MongoConsents(bench.mongo, owner="daemon", keyring=lambda: RING),
            tokens=ConsentedTokens(bench.mongo, lambda: RING, Silent()),
            journal=MemoryJournal(world),
            deeds=MemoryDeeds(world),
            endpoint=provider,
            clock=bench.clock,
            chance=lambda: 0.5,
            timing=Timing(),
            observe=self.events.append,
        )

    async def look(self, span: timedelta = timedelta(0)) -> None:
        self._clock.passed += span
        self.meddle()
        await self._exchange.look({"acme": None})
        await self._exchange.ended()


class Stage:
    def __init__(self, bench: AccessBench) -> None:
        self.bench, self.provider = bench, Provider()
        self.daemon = Daemon(bench, self.provider)
        stores = Stores(
            ConsentRequests(bench.mongo, keyring=lambda: KEYS),
            bench.writes,
            AccessDeeds(bench.mongo, log=bench.logged.append),
            bench.clock,
            self.daemon.look,
        )
        self.service = Service(stores=stores)

    def tokens(self) -> dict[str, object]:
        return {one["_id"]: one for one in self.bench.tokens.find()}

    async def forward(self, number: int) -> None:
        """An attacker begins a consent for their own account of the application, and a victim goes its way. The
        application tries to complete it with what the victim's own session has, if the victim is connecting an account.
        """
        service = self.service
        begun = await service.begin(0, account=f"user-{number}", subject=f"user-{number}")
        victim = service.browser()
        asked = await victim.open(begun)
        back = await victim.consent(asked, code=self.provider.consent(asked))
        assert set(back.query) == {"connect", "connect_code"}
        code = back.query["connect_code"]
        tries = [await service.complete(begun["id"], code, 1)]
        if number % 2:
            own = await service.begin(1, account=f"victim-{number}", subject=f"victim-{number}")
            tries.append(await service.complete(own["id"], code, 1))
        tries.append(await service.complete(begun["id"], secrets.token_urlsafe(32), 0))
        assert {status for status, _ in tries} <= {400, 409}
        state = await service.api("GET", f"/v1/connect/{begun['id']}")
        assert (state[1]["state"], state[1]["held"]) == ("asked", True)


@pytest.fixture
async def stage(bench: AccessBench) -> AsyncIterator[Stage]:
    bench.clock.start = bench.clock.start.replace(
        year=2100
    )  # MongoDB removes what has ended by its own clock
    one = Stage(bench)
    await one.service.start()
    yield one
    await one.service.stop()
    assert [event for event in one.daemon.events if isinstance(event, InternalError)] == []
