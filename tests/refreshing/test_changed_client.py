"""A client's secret that has changed at its source: the refused token is renewed with the new one, and nothing rests."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.circuit_breaker import Circuit
from daemon.domain.event import TokenPostponed, TokenRenewed
from daemon.domain.provider import ClientAuth, Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import FailureKind
from tests.refreshing.fakes import World, answered, granted, provider

OLD, NEW = "old-secret", "new-secret"


class ChangingClients:
    """Fits `refreshing.ports.Clients`: gives `fresh` once it is asked."""

    def __init__(self, fresh: Provider | None) -> None:
        self.fresh = fresh
        self.refused: list[Provider] = []
        self.grants: list[str] = []
        self.world: World | None = None

    async def read_again(self, refused: Provider) -> Provider | None:
        self.refused.append(refused)
        await asyncio.sleep(0)
        if self.fresh is None or self.fresh == refused or self.world is None:
            return None
        self.world.configured.replace({self.fresh.name: self.fresh})
        return self.fresh

    def accepted(self, provider: str) -> None:
        self.grants.append(provider)


def client(secret: str) -> Provider:
    definition = Definition(
        name="acme", title="acme", token_url="https://acme.example/token", client_auth=ClientAuth.POST
    )
    return replace(provider(definition=definition), client_secret=Secret(secret))


def only(secret: str):
    """The provider that accepts this secret only."""

    def answer(request: Request) -> Reply | NoReply:
        right = f"client_secret={secret}".encode() in request.body
        return granted("refresh-1") if right else answered({"error": "invalid_client"}, status=401)

    return answer


@pytest.fixture
def changed(world_of) -> World:
    """The daemon has the old secret, the provider and the source have the new one."""
    clients = ChangingClients(client(NEW))
    world = world_of(client(OLD), clients=clients)
    clients.world = world
    world.endpoint.answer = only(NEW)
    return world


async def test_a_changed_secret_renews_the_refused_token(changed: World):
    """One refusal, one reading, one more request: the token is renewed, without a failure on the way."""
    changed.store.put("1")
    await changed.refresher.refresh(await changed.claim())
    assert changed.diary == ["send", "keep acme:1", "forget acme:1", "send", "keep acme:1", "record acme:1", "forget acme:1"]  # fmt: skip
    assert len(changed.observed(TokenRenewed)) == 1
    assert changed.observed(TokenPostponed) == []
    assert changed.journal.kept == {}


async def test_a_changed_secret_lets_no_provider_rest(changed: World):
    """However many tokens were refused at the same time."""
    for number in range(8):
        changed.store.put(str(number))
    lane = changed.lane(client(OLD))
    await lane.work()
    while lane.in_flight:
        await asyncio.wait(lane.in_flight.values())
    assert len(changed.observed(TokenRenewed)) == 8
    assert changed.observed(TokenPostponed) == []
    assert lane.health.breaker.state is Circuit.CLOSED


@pytest.mark.parametrize("fresh", [None, client(OLD)], ids=["source away", "the same secret"])
async def test_without_another_secret_the_refusal_counts(world_of, fresh: Provider | None):
    """It is asked once, recorded as misconfigured, and the token is not given up."""
    clients = ChangingClients(fresh)
    world = world_of(client(OLD), clients=clients)
    clients.world = world
    world.endpoint.answer = only(NEW)
    world.store.put("1")
    await world.refresher.refresh(await world.claim())
    assert world.diary == ["send", "keep acme:1", "record acme:1", "forget acme:1"]
    [postponed] = world.observed(TokenPostponed)
    assert postponed.failure.kind is FailureKind.MISCONFIGURED


async def test_a_wrong_new_secret_is_tried_once(changed: World):
    """A source that changes its answer each time causes no loop."""
    changed.endpoint.answer = only("another")
    changed.store.put("1")
    await changed.refresher.refresh(await changed.claim())
    assert changed.diary.count("send") == 2
    [postponed] = changed.observed(TokenPostponed)
    assert postponed.failures == 1


async def test_a_grant_is_noted_and_a_refusal_is_not(world_of):
    """It ends the readings of the secret that earlier refusals have begun."""
    clients = ChangingClients(None)
    world = world_of(client(OLD), clients=clients)
    world.endpoint.answer = only(NEW)
    world.store.put("1")
    await world.refresher.refresh(await world.claim())
    assert clients.grants == []
    world.endpoint.answer = only(OLD)
    world.store.put("2")
    await world.refresher.refresh(await world.claim("acme:2"))
    assert clients.grants == ["acme"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": "invalid_grant"}, 400),
        ({"error": "unsupported_grant_type"}, 400),
        ({"error": "server_error"}, 500),
    ],
)
async def test_another_refusal_reads_no_secret(changed: World, body: dict[str, str], status: int):
    """Only a refusal of the client says anything about its secret."""
    changed.endpoint.answer = lambda request: answered(body, status=status)
    changed.store.put("1")
    await changed.refresher.refresh(await changed.claim())
    assert isinstance(changed.clients, ChangingClients)
    assert changed.clients.refused == []


async def test_a_provider_without_its_clients_secret_waits(world_of):
    """Its tokens are neither claimed nor asked for, those of another provider are, and it begins once the secret is there."""
    lacking = replace(client(OLD), client_secret=None, lacking="vault s/x#y: it can't be reached")
    world = world_of(lacking, provider("other"))
    world.store.put("1")
    world.store.put("1", of="other")
    lane = world.lane(lacking)
    lane.wish(["acme:1"])
    assert await lane.work() == 0
    other = world.lane(provider("other"))
    assert await other.work() == 1
    while other.in_flight:
        await asyncio.wait(other.in_flight.values())
    assert [request.url for request in world.endpoint.asked] == ["https://other.example/token"]
    assert world.store.documents["acme:1"].owner is None
    lane.use(client(NEW))
    world.configured.replace({"acme": client(NEW)})
    world.endpoint.answer = only(NEW)
    world.clock.passed += timedelta(seconds=1)
    assert await lane.work() == 1
    while lane.in_flight:
        await asyncio.wait(lane.in_flight.values())
    assert {one.token for one in world.observed(TokenRenewed)} >= {"acme:1"}
