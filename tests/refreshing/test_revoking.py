"""Revocations: what is presented when, and that nothing alive is left at the provider."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from daemon.domain.claim import StoreLost
from daemon.domain.event import (
    AnomalyDetected,
    InternalError,
    LateReplyRevoked,
    TokenNeedsReauth,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenScheduled,
    TokenUnreadable,
)
from daemon.domain.journal_entry import EntryState
from daemon.domain.provider import Definition, Provider, Variable
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.revocation import PresentedToken, Revocation, RevocationEnds
from daemon.domain.revocation_outcome import FAILED_AFTER
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, State
from tests.refreshing.fakes import NOON, World, answered, granted, provider, unanswered


def revoking_provider(**more: object) -> Provider:
    definition = Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        revoke_url="https://acme.example/revoke",
        **more,  # type: ignore[arg-type]
    )
    return provider(definition=definition)


class Authority:
    """A provider that rotates: it knows which refresh token is alive."""

    def __init__(self) -> None:
        self.generation = 0
        self.alive = True
        self.lost_replies = 0  # so many refreshes are processed, and their replies lost
        self.revocation: Reply | NoReply | None = None  # in place of the usual answer

    def __call__(self, request: Request) -> Reply | NoReply:
        presented = request.body.decode().partition("refresh-")[2].partition("&")[0]
        if request.url.endswith("/revoke"):
            if self.revocation is not None:
                return self.revocation
            # The strictest kind: only the current refresh token ends the grant.
            self.alive = self.alive and presented != str(self.generation)
            return answered({})
        if not self.alive or presented not in {str(self.generation), str(self.generation - 1)}:
            return answered({"error": "invalid_grant"}, status=400)
        self.generation += presented == str(self.generation)
        if self.lost_replies:
            self.lost_replies -= 1
            return unanswered(sent=True)
        return granted(f"refresh-{self.generation}")


@pytest.fixture
def revoking(world_of) -> World:
    """A world whose provider revokes."""
    world = world_of(revoking_provider())
    world.endpoint.answer = Authority()
    return world


def authority(world: World) -> Authority:
    answer = world.endpoint.answer
    assert isinstance(answer, Authority)
    return answer


def state_of(world: World) -> State:
    return world.store.documents["acme:1"].token.state


async def test_a_revocation_is_asked_recorded_and_reported(revoking):
    """One request, to the revocation endpoint, and then a tombstone. No journal: it holds nothing to lose."""
    revoking.store.put("1")
    revoking.store.revoke("acme:1")
    assert await revoking.refresher.refresh(await revoking.claim()) is None
    assert revoking.diary == ["send", "record acme:1"]
    assert [one.url for one in revoking.endpoint.asked] == ["https://acme.example/revoke"]
    token = revoking.store.documents["acme:1"].token
    assert (token.state, token.refresh_token, token.due_at) == (State.REVOKED, None, None)
    assert revoking.observed(TokenRevoked) == [
        TokenRevoked(token="acme:1", provider="acme", revision=8, tries=1)
    ]
    assert not authority(revoking).alive


async def test_a_sweep_finds_it(revoking):
    """By its due_at, in the provider's lane."""
    revoking.store.put("1", due_at=NOON + timedelta(hours=1))
    revoking.store.revoke("acme:1")
    await revoking.sweeper.sweep()
    assert state_of(revoking) is State.REVOKED


@pytest.mark.parametrize("state", [State.NEEDS_REAUTH, State.PAUSED, State.ACTIVE])
async def test_whatever_its_state_was(revoking, state):
    revoking.store.put("1", state=state)
    revoking.store.revoke("acme:1")
    await revoking.refresher.refresh(await revoking.claim())
    assert state_of(revoking) is State.REVOKED


async def test_before_its_time_no_request_is_sent(revoking):
    """A bulk revocation can be undone for ten minutes, whatever makes the token due earlier."""
    later = NOON + timedelta(minutes=10)
    revoking.store.put("1")
    revoking.store.revoke("acme:1", not_before=later)
    stored = revoking.store.documents["acme:1"]
    stored.token = replace(stored.token, due_at=NOON)
    await revoking.refresher.refresh(await revoking.claim())
    assert revoking.endpoint.asked == []
    assert stored.token.due_at == later
    assert revoking.events == [TokenScheduled(token="acme:1", provider="acme")]


@pytest.mark.parametrize(
    "reply",
    [answered({}, status=503), unanswered(sent=True), unanswered(sent=False), answered({"error": "x"})],
    ids=["outage", "lost", "not sent", "an error"],
)
async def test_a_revocation_that_did_not_succeed_is_tried_again(revoking, reply):
    """Later, with the token as it is. A lost reply is no doubt: a revocation may be repeated."""
    revoking.store.put("1")
    revoking.store.revoke("acme:1")
    authority(revoking).revocation = reply
    await revoking.refresher.refresh(await revoking.claim())
    stored = revoking.store.documents["acme:1"]
    assert (stored.token.state, stored.owner, stored.token.doubt) == (State.REVOKING, None, None)
    assert stored.token.refresh_token is not None
    assert stored.token.due_at is not None
    assert stored.token.due_at > NOON
    [postponed] = revoking.observed(TokenRevocationPostponed)
    assert postponed.tries == 1
    authority(revoking).revocation = None
    revoking.clock.passed = stored.token.due_at - NOON
    await revoking.refresher.refresh(await revoking.claim())
    assert state_of(revoking) is State.REVOKED


async def test_after_seven_days_an_operator_is_called(revoking):
    """State and secrets stay, and the daemon goes on trying."""
    revoking.store.put("1")
    revoking.store.revoke("acme:1")
    authority(revoking).revocation = answered({}, status=503)
    revoking.clock.passed = FAILED_AFTER
    await revoking.refresher.refresh(await revoking.claim())
    [failed] = revoking.observed(TokenRevocationFailed)
    assert failed.due_at == NOON + FAILED_AFTER + timedelta(days=1)
    token = revoking.store.documents["acme:1"].token
    assert token.state is State.REVOKING
    assert token.refresh_token is not None


async def test_a_provider_without_a_revocation_is_the_operators_and_nothing_is_sent(world):
    world.store.put("1")
    world.store.revoke("acme:1")
    await world.refresher.refresh(await world.claim())
    assert world.endpoint.asked == []
    [failed] = world.observed(TokenRevocationFailed)
    assert failed.failure.code == "no_revocation"


async def test_a_refresh_in_flight_leaves_its_successor_to_the_revocation(revoking):
    """J3: the order comes while the request is running. Its successor is stored, the state stays, and the successor is
    what is revoked.
    """
    revoking.store.put("1")
    claim = await revoking.claim()
    gate = revoking.endpoint.hanging["/token"] = asyncio.Event()
    refresh = asyncio.create_task(revoking.refresher.refresh(claim))
    await revoking.endpoint.was_asked.wait()
    revoking.store.revoke("acme:1")
    gate.set()
    await refresh
    stored = revoking.store.documents["acme:1"]
    assert stored.token.state is State.REVOKING
    assert revoking.store.refresh_token("acme:1") == "refresh-1"
    assert stored.token.due_at == NOON
    assert authority(revoking).alive
    await revoking.refresher.refresh(await revoking.claim())
    assert not authority(revoking).alive
    assert state_of(revoking) is State.REVOKED


@pytest.mark.parametrize(
    "reply",
    [answered({"error": "invalid_grant"}, status=400), answered({}, status=503), unanswered(sent=False)],
    ids=["rejected", "outage", "not sent"],
)
async def test_whatever_a_refresh_in_flight_brings_the_order_stays(revoking, reply):
    revoking.store.put("1")
    claim = await revoking.claim()
    revoking.store.revoke("acme:1")
    revoking.endpoint.answer = lambda request: reply
    await revoking.refresher.refresh(claim)
    token = revoking.store.documents["acme:1"].token
    assert (token.state, token.due_at) == (State.REVOKING, NOON)


async def test_a_doubt_is_settled_before_the_revocation(revoking):
    """The provider has rotated and its reply was lost: one more refresh brings the successor, which is revoked."""
    revoking.store.put("1")
    authority(revoking).lost_replies = 1
    await revoking.refresher.refresh(await revoking.claim())
    revoking.store.revoke("acme:1")
    await revoking.refresher.refresh(await revoking.claim())
    assert revoking.store.refresh_token("acme:1") == "refresh-1"
    await revoking.refresher.refresh(await revoking.claim())
    assert not authority(revoking).alive
    assert [one.url.rpartition("/")[2] for one in revoking.endpoint.asked] == ["token", "token", "revoke"]


async def test_a_doubt_of_several_crashes_is_settled_too(revoking):
    """The retry was claimed, and the process died before it was sent."""
    revoking.store.put("1", doubt=Doubt(since=NOON, tries=2))
    authority(revoking).generation = 1
    revoking.store.revoke("acme:1")
    for _ in range(2):
        await revoking.refresher.refresh(await revoking.claim())
    assert state_of(revoking) is State.REVOKED
    assert not authority(revoking).alive


async def test_a_doubt_that_several_retries_do_not_settle_does_not_hold_the_revocation_up(revoking):
    revoking.store.put("1", doubt=Doubt(since=NOON, tries=6))
    revoking.store.revoke("acme:1")
    await revoking.refresher.refresh(await revoking.claim())
    assert state_of(revoking) is State.REVOKED


async def test_a_rejection_while_a_doubt_is_settled_asks_no_owner_for_a_consent(revoking):
    """The order stands, the doubt is over, and the revocation is next."""
    revoking.store.put("1", doubt=Doubt(since=NOON, tries=1))
    revoking.store.revoke("acme:1")
    authority(revoking).alive = False
    await revoking.refresher.refresh(await revoking.claim())
    token = revoking.store.documents["acme:1"].token
    assert (token.state, token.due_at, token.doubt) == (State.REVOKING, NOON, None)
    assert revoking.observed(TokenNeedsReauth) == []
    await revoking.refresher.refresh(await revoking.claim())
    assert state_of(revoking) is State.REVOKED


async def test_an_unparsed_reply_while_a_doubt_is_settled_holds_nothing_up(revoking):
    """It is kept for operators, and the revocation is next, not another refresh."""
    revoking.store.put("1", doubt=Doubt(since=NOON, tries=1))
    revoking.store.revoke("acme:1")
    revoking.endpoint.answer = lambda request: answered({"inner": {"refresh_token": "refresh-elsewhere"}})
    await revoking.refresher.refresh(await revoking.claim())
    assert list(revoking.journal.parked.values()) == [EntryState.UNPARSED]
    revoking.endpoint.answer = Authority()
    await revoking.refresher.refresh(await revoking.claim())
    assert state_of(revoking) is State.REVOKED


async def test_a_lost_store_leaves_the_order_and_the_revocation_is_repeated(revoking):
    """The provider has revoked, and the store was lost. The lease that remains is a doubt, which a refresh settles. Its
    rejection is no evidence about the provider.
    """
    revoking.store.put("1")
    revoking.store.revoke("acme:1")
    claim = await revoking.claim()
    revoking.store.away = {"record"}
    with pytest.raises(StoreLost):
        await revoking.refresher.refresh(claim)
    assert state_of(revoking) is State.REVOKING
    revoking.store.away = set()
    weighed = []
    for _ in range(2):
        await revoking.refresher.refresh(
            await revoking.claim(), lambda *evidence: bool(weighed.append(evidence))
        )
    assert state_of(revoking) is State.REVOKED
    assert weighed == []
    assert revoking.observed(AnomalyDetected) == []


# ---------------------------------------------------------------- access tokens that are revoked


class ByAccess(Authority):
    """A provider that ends a grant by its living access token only. It calls any other token unknown."""

    access = "access-0"

    def __call__(self, request: Request) -> Reply | NoReply:
        if not request.url.endswith("/revoke"):
            reply = super().__call__(request)
            if not isinstance(reply, Reply) or reply.status != 200:
                return reply
            self.access = f"access-{self.generation}"
            return granted(f"refresh-{self.generation}", access=self.access)
        if self.revocation is not None:
            return self.revocation
        if not self.alive or f"token={self.access}&" not in f"{request.body.decode()}&":
            return answered({"error": "invalid_token"}, status=401)
        self.alive = False
        return answered({})


@pytest.fixture
def by_access(world_of) -> World:
    world = world_of(revoking_provider(revoke=Revocation(token=PresentedToken.ACCESS)))
    world.endpoint.answer = ByAccess()
    return world


def paths(world: World) -> list[str]:
    return [one.url.rpartition("/")[2] for one in world.endpoint.asked]


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_at": NOON, "access_token": Secret("access-0")},
        {"access_token": None},
        {"expires_at": None, "access_token": Secret("access-elsewhere")},
    ],
    ids=["over", "none", "replaced elsewhere"],
)
async def test_no_grant_is_reported_as_revoked_for_an_access_token_that_is_over(by_access, fields):
    """The provider calls it unknown, and the refresh token is alive: a refresh brings the token that is revoked."""
    by_access.store.put("1", **fields)
    by_access.store.revoke("acme:1")
    for _ in range(3):
        if state_of(by_access) is State.REVOKED:
            break
        assert authority(by_access).alive
        by_access.clock.passed += timedelta(minutes=1)
        await by_access.refresher.refresh(await by_access.claim())
    assert state_of(by_access) is State.REVOKED
    assert not authority(by_access).alive
    assert paths(by_access)[-2:] == ["token", "revoke"]


async def test_a_living_access_token_is_revoked_without_a_refresh(by_access):
    by_access.store.put("1", access_token=Secret("access-0"))
    by_access.store.revoke("acme:1")
    await by_access.refresher.refresh(await by_access.claim())
    assert (state_of(by_access), paths(by_access)) == (State.REVOKED, ["revoke"])
    assert not authority(by_access).alive


async def test_an_unknown_access_token_behind_a_rejected_refresh_token_ends_the_order(by_access):
    """The owner has withdrawn the consent: the refresh token is rejected, and nothing else is left to revoke."""
    by_access.store.put("1", access_token=Secret("access-0"), expires_at=NOON)
    by_access.store.revoke("acme:1")
    authority(by_access).alive = False
    for _ in range(2):
        await by_access.refresher.refresh(await by_access.claim())
    assert (state_of(by_access), paths(by_access)) == (State.REVOKED, ["token", "revoke"])


# ---------------------------------------------------------------- late replies


async def late_reply(world: World, *, order: bool = False) -> None:
    """A reply is in the journal, and its token was revoked with the spent refresh token."""
    world.store.put("1")
    claim = await world.claim()
    world.store.away = {"record"}
    with pytest.raises(StoreLost):
        await world.refresher.refresh(claim)
    world.store.away = set()
    stored = world.store.documents["acme:1"]
    state = State.REVOKING if order else State.REVOKED
    stored.token = replace(stored.token, state=state, refresh_token=None, due_at=None)
    world.diary.clear()


@pytest.mark.parametrize("order", [False, True], ids=["revoked", "revoking with another"])
async def test_a_late_reply_of_a_revoked_token_is_revoked_and_forgotten(revoking, order):
    """Nothing alive is left at the provider, and nothing in the journal."""
    await late_reply(revoking, order=order)
    await revoking.sweeper.replay()
    assert not authority(revoking).alive
    assert revoking.journal.kept == {}
    assert revoking.observed(LateReplyRevoked) == [LateReplyRevoked(token="acme:1", provider="acme")]
    assert revoking.observed(TokenRenewed) == []


async def test_a_late_reply_that_can_not_be_revoked_now_stays_in_the_journal(revoking):
    """It is tried again, and not at every sweep."""
    await late_reply(revoking)
    authority(revoking).revocation = answered({}, status=503)
    asked = len(revoking.endpoint.asked)
    await revoking.sweeper.replay()
    await revoking.sweeper.replay()
    assert len(revoking.endpoint.asked) == asked + 1
    assert list(revoking.journal.parked.values()) == [EntryState.UNUSABLE]
    assert len(revoking.observed(TokenUnreadable)) == 1
    authority(revoking).revocation = None
    revoking.clock.passed += timedelta(minutes=5)
    await revoking.sweeper.replay()
    assert not authority(revoking).alive
    assert revoking.journal.kept == {}


async def test_a_late_reply_is_kept_for_operators_where_the_provider_revokes_nothing(world):
    await late_reply(world)
    await world.sweeper.replay()
    assert list(world.journal.parked.values()) == [EntryState.SUPERSEDED]


async def test_a_late_reply_is_kept_where_its_url_needs_what_the_tombstone_has_not(world_of):
    """A tombstone has no variables, so the request can't be addressed: nothing is sent."""
    definition = Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        revoke_url="https://acme.example/${tenant}/revoke",
        variables={"tenant": Variable(pattern=re.compile("[a-z]+"))},
    )
    world = world_of(provider(definition=definition))
    await late_reply(world)
    asked = len(world.endpoint.asked)
    await world.sweeper.replay()
    assert len(world.endpoint.asked) == asked
    assert list(world.journal.parked.values()) == [EntryState.SUPERSEDED]


@pytest.fixture
async def removed(revoking: World) -> World:
    """A reply is in the journal, and its token was removed by an operator."""
    await late_reply(revoking)
    revoking.store.remove("acme:1")
    return revoking


async def test_a_late_reply_of_a_removed_token_is_revoked_and_forgotten(removed):
    """Its successor is held by nothing else, so it would outlive the removal unseen."""
    await removed.sweeper.replay()
    assert not authority(removed).alive
    assert removed.journal.kept == {}
    assert removed.observed(LateReplyRevoked) == [LateReplyRevoked(token="acme:1", provider="acme")]


async def test_a_removal_beside_a_running_request_leaves_no_successor_alive(revoking):
    revoking.store.put("1")
    claim = await revoking.claim()
    revoking.store.remove("acme:1")
    await revoking.refresher.refresh(claim)
    assert not authority(revoking).alive
    assert revoking.journal.kept == {}


async def test_a_successor_that_can_not_be_revoked_yet_waits_in_the_journal(revoking):
    """The token was removed beside the running request, and the provider is away. That is no internal error."""
    revoking.store.put("1")
    authority(revoking).revocation = answered({}, status=503)
    gate = revoking.endpoint.hanging["/token"] = asyncio.Event()
    sweep = asyncio.create_task(revoking.sweeper.sweep())
    await revoking.endpoint.was_asked.wait()
    revoking.store.remove("acme:1")
    gate.set()
    await sweep
    assert revoking.observed(InternalError) == []
    assert len(revoking.journal.kept) == 1
    authority(revoking).revocation = None
    revoking.clock.passed += timedelta(minutes=5)
    await revoking.sweeper.replay()
    assert not authority(revoking).alive
    assert revoking.journal.kept == {}


async def test_a_late_reply_of_a_removed_token_stays_until_it_is_revoked(removed):
    authority(removed).revocation = answered({}, status=503)
    await removed.sweeper.replay()
    assert list(removed.journal.parked.values()) == [EntryState.UNUSABLE]
    authority(removed).revocation = None
    removed.clock.passed += timedelta(minutes=5)
    await removed.sweeper.replay()
    assert not authority(removed).alive
    assert removed.journal.kept == {}


async def is_kept_for_operators(world: World) -> bool:
    """Replay, and return whether the grant is alive and its reply parked. No revocation was asked for."""
    await world.sweeper.replay()
    parked = list(world.journal.parked.values()) == [EntryState.SUPERSEDED]
    return parked and authority(world).alive and "revoke" not in paths(world)


async def test_a_lost_document_is_no_removed_one(revoking):
    """The store may be a restored or a wrong one, and then the reply holds the only living refresh token."""
    await late_reply(revoking)
    del revoking.store.documents["acme:1"]
    assert await is_kept_for_operators(revoking)


async def test_a_removed_token_is_left_where_a_revocation_could_end_another_ones_grant(removed):
    """At this provider it ends every token of the account and client, and no account is known."""
    removed.store.put("2", refresh_token=Secret("refresh-elsewhere"), due_at=None)
    assert await is_kept_for_operators(removed)


async def test_elsewhere_another_token_does_not_matter(world_of):
    """The provider ends only what is presented."""
    world = world_of(revoking_provider(revoke=Revocation(ends=RevocationEnds.TOKEN)))
    world.endpoint.answer = Authority()
    await late_reply(world)
    world.store.remove("acme:1")
    world.store.put("2", refresh_token=Secret("refresh-elsewhere"), due_at=None)
    await world.sweeper.replay()
    assert not authority(world).alive
    assert world.journal.kept == {}


async def test_a_grant_that_another_token_holds_is_never_revoked_for_a_removed_one(world_of):
    """The token was stored under another id."""
    world = world_of(revoking_provider(revoke=Revocation(ends=RevocationEnds.TOKEN)))
    world.endpoint.answer = Authority()
    await late_reply(world)
    world.store.remove("acme:1")
    world.store.put("2", refresh_token=Secret("refresh-0"), due_at=None)
    assert await is_kept_for_operators(world)


async def test_a_removal_leaves_the_grant_as_it_was(revoking):
    """The reply has brought no new refresh token, so nothing has to be ended."""
    revoking.endpoint.answer = lambda request: granted()
    await late_reply(revoking)
    revoking.store.remove("acme:1")
    asked = len(revoking.endpoint.asked)
    await revoking.sweeper.replay()
    assert len(revoking.endpoint.asked) == asked
    assert list(revoking.journal.parked.values()) == [EntryState.SUPERSEDED]


# ---------------------------------------------------------------- races


def seeds() -> Iterator[int]:
    yield from range(200)


async def test_races_of_revocations_and_refreshes_leave_nothing_alive(complaints):
    """An order at any turn of the loop, beside sweeps, lost replies and lost writes: in the end there is a tombstone, and
    the provider accepts no refresh token.
    """
    for seed in seeds():
        chance = Random(seed)
        world = World(providers=[revoking_provider()])
        world.endpoint.answer = Authority()
        world.store.put("1")
        authority(world).lost_replies = chance.choice([0, 0, 1])
        if chance.random() < 0.3:
            world.store.away = {"record"}
        sweep = asyncio.create_task(world.sweeper.sweep())
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        world.store.revoke("acme:1")
        await sweep
        world.store.away = set()
        for _ in range(12):
            token = world.store.documents["acme:1"].token
            if token.state is State.REVOKED and not world.journal.kept:
                break
            world.clock.passed += timedelta(minutes=5)
            await world.sweeper.sweep()
        assert state_of(world) is State.REVOKED, seed
        assert not authority(world).alive, seed
        assert world.journal.kept == {}, seed


async def killed(world: World) -> None:
    """What runs ends where it is, as by SIGKILL. The store, the journal and the provider stay as they are."""
    mine = asyncio.current_task()
    running = [task for task in asyncio.all_tasks() if task is not mine]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    world.endpoint.slow = False


async def test_a_kill_at_any_step_leaves_nothing_alive(complaints):
    """Of a refresh and the revocation behind it. The process that is started afterwards finishes both. In a third of all runs
    the provider is slow: it processes the request, and its reply is lost with the process.
    """
    for seed in seeds():
        chance = Random(seed)
        world = World(providers=[revoking_provider()])
        world.endpoint.answer = Authority()
        if chance.random() < 0.3:
            world.endpoint.slow = True
        world.store.put("1")
        sweep = asyncio.create_task(world.sweeper.sweep())
        ordered = False
        for _ in range(chance.randrange(90)):
            if not ordered and chance.random() < 0.1:
                world.store.revoke("acme:1")
                ordered = True
            if sweep.done():
                sweep = asyncio.create_task(world.sweeper.sweep())
            await asyncio.sleep(0)
        await killed(world)
        world.start()
        if not ordered:
            world.store.revoke("acme:1")
        for _ in range(12):
            if state_of(world) is State.REVOKED and not world.journal.kept:
                break
            world.clock.passed += timedelta(minutes=5)
            await world.sweeper.sweep()
        assert state_of(world) is State.REVOKED, seed
        assert not authority(world).alive, seed
        assert world.journal.kept == {}, seed
