"""The path of one token: what happens in which order, and what stays when a step is not reached."""

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.anomaly import AnomalyKind
from daemon.domain.claim import StoreLost, Unusable
from daemon.domain.deviation import DriftKind
from daemon.domain.event import (
    AnomalyDetected,
    ProviderAnswered,
    ProviderDrifted,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenScheduled,
    TokenSuperseded,
    TokenUnparsed,
)
from daemon.domain.journal_entry import EntryState, ReplayResult
from daemon.domain.provider import Definition, Rotation, Variable
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure, FailureKind, State
from daemon.refreshing.refresher import LARGE_REPLY, believe
from tests.refreshing.fakes import NOON, answered, granted, provider, unanswered


async def test_a_renewal_is_kept_before_it_is_recorded_and_forgotten_after(world):
    """Ask, keep, record, forget: in this order, each once."""
    world.store.put("1")
    await world.refresher.refresh(await world.claim())
    assert world.diary == ["send", "keep acme:1", "record acme:1", "forget acme:1"]
    assert world.store.refresh_token("acme:1") == "refresh-1"
    assert world.journal.kept == {}
    [renewed] = world.observed(TokenRenewed)
    assert (renewed.token, renewed.rotated, renewed.lead) == ("acme:1", True, timedelta(minutes=4))
    assert len(world.observed(ProviderAnswered)) == 1


@pytest.mark.parametrize(
    ("lived", "window"), [(60, timedelta(minutes=5)), (9, timedelta(minutes=3)), (None, None)]
)
async def test_a_renewal_tells_the_window_that_it_had(world, lived, window):
    """Five minutes, or a third of a shorter life; unknown where nobody knows when the old token was issued."""
    issued = None if lived is None else NOON + timedelta(minutes=4 - lived)
    world.store.put("1", issued_at=issued)
    await world.refresher.refresh(await world.claim())
    [renewed] = world.observed(TokenRenewed)
    assert renewed.window == window


@pytest.mark.parametrize(("doubted", "reported"), [(False, 1), (True, 0)])
async def test_a_provider_that_leaves_its_definition_is_reported_once(world, doubted, reported):
    """After twenty renewals, which are stored all the same. An answer that the circuit breaker doubts is no evidence."""
    known = Definition(
        name="acme", title="Acme", token_url="https://acme.example/token", access_lifetime=timedelta(hours=2)
    )
    world.configured.replace({"acme": replace(provider(), definition=known)})
    for number in range(25):
        name = world.store.put(str(number))
        world.endpoint.answer = lambda request, number=number: granted(access=f"access-{number}")
        await world.refresher.refresh(await world.claim(name), lambda _token, _answer: doubted)
    assert len(world.observed(TokenRenewed)) == 25
    found = world.observed(ProviderDrifted)
    assert [(one.provider, one.kind, one.change) for one in found] == [
        ("acme", DriftKind.LIFETIME, 'access_lifetime = "1h"')
    ] * reported


async def test_the_reply_is_kept_before_it_is_read(world):
    """What can't be read, or trips over its reader, is durable all the same."""
    world.store.put("1", failures=-1)  # a bug of ours further on: the backoff can't be reckoned
    world.endpoint.answer = lambda request: answered({"error": "server_error"}, status=400)
    with pytest.raises(ValueError, match="shift"):
        await world.refresher.refresh(await world.claim())
    assert world.diary == ["send", "keep acme:1"]
    assert world.journal.tokens == {"acme:1"}


async def test_a_request_starts_under_its_claims_deadline(world):
    """The endpoint gets the claim's own, not one reckoned from the time of asking."""
    world.store.put("1")
    claim = await world.claim()
    world.clock.passed = timedelta(seconds=30)
    await world.refresher.refresh(claim)
    assert world.endpoint.deadlines == [claim.deadline]


async def test_without_a_reply_there_is_nothing_to_keep(world):
    """Not sent: a plain postponement, no doubt, the claim given back."""
    world.store.put("1")
    world.endpoint.answer = lambda request: unanswered(sent=False)
    await world.refresher.refresh(await world.claim())
    assert world.diary == ["send", "record acme:1"]
    [postponed] = world.observed(TokenPostponed)
    assert (postponed.failure.kind, postponed.failure.code, postponed.failures) == (
        FailureKind.UNAVAILABLE,
        "timeout",
        1,
    )
    stored = world.store.documents["acme:1"]
    assert (stored.owner, stored.token.doubt) == (None, None)


async def test_sent_and_not_answered_it_is_in_doubt_and_stays_ours(world):
    """Written down as a doubt with a retry within seconds, and the lease with the one who asked."""
    world.store.put("1")
    world.endpoint.answer = lambda request: unanswered(sent=True)
    await world.refresher.refresh(await world.claim())
    [doubt] = world.observed(TokenInDoubt)
    assert (doubt.tries, doubt.due_at) == (1, NOON + timedelta(seconds=2))
    stored = world.store.documents["acme:1"]
    assert stored.owner == "me"
    assert stored.token.doubt is not None


async def test_an_unparsed_success_is_parked_for_people(world):
    """A success whose refresh token stands in an unknown place: kept, told, and the old value not asked about again."""
    world.store.put("1")
    world.endpoint.answer = lambda request: answered({"inner": {"refresh_token": "refresh-elsewhere"}})
    await world.refresher.refresh(await world.claim())
    assert world.diary == ["send", "keep acme:1", "record acme:1", "park acme:1 unparsed"]
    assert list(world.journal.parked.values()) == [EntryState.UNPARSED]
    assert len(world.observed(TokenUnparsed)) == 1
    assert world.store.documents["acme:1"].token.due_at is None


async def test_a_missing_refresh_token_where_one_always_comes_is_parked(world_of):
    """The access token is stored, the reply stays for people to look at."""
    always = Definition(
        name="acme", title="Acme", token_url="https://acme.example/token", rotation=Rotation.ALWAYS
    )
    world = world_of(provider(definition=always))
    world.store.put("1")
    world.endpoint.answer = lambda request: granted(None)
    await world.refresher.refresh(await world.claim())
    assert world.diary[-1] == "park acme:1 unparsed"


async def test_a_lost_store_leaves_the_reply_in_the_journal(world):
    """Whoever holds the only copy of a successor doesn't let go of it."""
    world.store.put("1")
    claim = await world.claim()
    world.store.away = {"record"}
    with pytest.raises(StoreLost):
        await world.refresher.refresh(claim)
    assert world.diary == ["send", "keep acme:1", "record acme:1"]
    assert world.journal.tokens == {"acme:1"}
    assert world.observed(TokenRenewed) == []


async def test_a_superseded_successor_is_parked(world):
    """A newer consent won; the successor that came too late is kept sealed for a while."""
    world.store.put("1")
    claim = await world.claim()
    world.store.consent("acme:1")
    await world.refresher.refresh(claim)
    assert world.diary[-1] == "park acme:1 superseded"
    assert world.store.refresh_token("acme:1") == "refresh-consent"
    [told] = world.observed(TokenSuperseded)
    assert told.successor


@pytest.mark.parametrize(
    "reply",
    [granted(None), answered({"error": "invalid_grant"}, status=400), answered({}, status=503)],
    ids=["no refresh token", "rejected", "outage"],
)
async def test_a_superseded_reply_without_a_successor_is_forgotten(world, reply):
    """It holds nothing that anybody could miss."""
    world.store.put("1")
    claim = await world.claim()
    world.store.consent("acme:1")
    world.endpoint.answer = lambda request: reply
    await world.refresher.refresh(claim)
    assert world.diary[-1] == "forget acme:1"
    [told] = world.observed(TokenSuperseded)
    assert not told.successor


@pytest.mark.parametrize(
    "fields", [{"state": State.PAUSED}, {"state": State.NEEDS_REAUTH}, {"refresh_token": None}]
)
async def test_a_token_that_must_not_be_presented_is_put_to_rest(world, fields):
    """Paused, dead, or with nothing to present: no request, and not due any more."""
    world.store.put("1", **fields)
    await world.refresher.refresh(await world.claim())
    assert world.diary == ["record acme:1"]
    assert world.endpoint.asked == []
    assert world.store.documents["acme:1"].token.due_at is None
    assert world.events == [TokenScheduled(token="acme:1", provider="acme")]


async def test_a_new_document_that_expires_later_is_scheduled_and_not_asked_about(world):
    """An application inserted it with a date that came too early: it gets its own."""
    world.store.put("1", revision=None, expires_at=NOON + timedelta(hours=2))
    await world.refresher.refresh(await world.claim())
    assert world.endpoint.asked == []
    due_at = world.store.documents["acme:1"].token.due_at
    assert due_at is not None
    assert due_at > NOON + timedelta(hours=1)


async def test_a_request_that_can_not_be_built_is_the_operators(world_of):
    """A missing URL variable: not sent anywhere, nothing kept, and postponed with a reason."""
    tenant = Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/${tenant}/token",
        variables={"tenant": Variable(pattern=re.compile("[a-z]+"))},
    )
    world = world_of(provider(definition=tenant))
    world.store.put("1")
    await world.refresher.refresh(await world.claim())
    assert world.diary == ["record acme:1"]
    [postponed] = world.observed(TokenPostponed)
    assert (postponed.failure.kind, postponed.failure.code) == (FailureKind.MISCONFIGURED, "not_sendable")


async def test_a_rejection_is_told_and_its_reply_forgotten(world):
    """The owner must consent again; nothing in that reply is worth keeping."""
    world.store.put("1")
    world.endpoint.answer = lambda request: answered({"error": "invalid_grant"}, status=400)
    await world.refresher.refresh(await world.claim())
    assert world.diary[-1] == "forget acme:1"
    assert len(world.observed(TokenNeedsReauth)) == 1
    assert world.store.documents["acme:1"].token.state is State.NEEDS_REAUTH


async def test_a_reply_that_the_disk_refused_is_recorded_all_the_same(world):
    """Keeping failed although a reply came: MongoDB gets it, and then nothing is held back any more."""
    world.store.put("1")
    claim = await world.claim()
    world.journal.disk_full = True
    await world.refresher.refresh(claim)
    assert world.store.refresh_token("acme:1") == "refresh-1"
    assert world.journal.kept == {}


@pytest.mark.parametrize(
    ("reply", "overtaken", "conclusion"),
    [
        (granted("refresh-1"), False, ReplayResult.RECORDED),
        (granted("refresh-1"), True, ReplayResult.SUPERSEDED),
        (answered({"inner": {"refresh_token": "refresh-elsewhere"}}), False, ReplayResult.UNPARSED),
    ],
    ids=["recorded", "superseded", "unparsed"],
)
async def test_a_replay_says_what_became_of_the_reply(world, reply, overtaken, conclusion):
    """The same way as a fresh reply, from the kept entry on."""
    world.store.put("1")
    claim = await world.claim()
    entry = await world.journal.keep(claim, reply)
    if overtaken:
        world.store.consent("acme:1")
    assert (await world.refresher.conclude(claim, entry)).journal_result == conclusion


async def test_a_replay_uses_no_grant_that_is_not_allowed(world):
    """The operator withdrew it, or a document's author wrote it since: the reply stays in the journal."""
    world.store.put("1")
    claim = await world.claim()
    entry = await world.journal.keep(claim, granted("refresh-1"))
    changed = replace(claim, token=replace(claim.token, grant="client_credentials"))
    with pytest.raises(Unusable, match="does not allow"):
        await world.refresher.conclude(changed, entry)
    assert entry.key in world.journal.kept
    assert world.store.refresh_token("acme:1") == "refresh-0"


async def test_a_reply_that_is_concluded_twice_changes_nothing(world):
    """A crash between record and forget: the replay finds its own successor there."""
    world.store.put("1")
    claim = await world.claim()
    entry = await world.journal.keep(claim, granted("refresh-1"))
    await world.refresher.conclude(claim, entry)
    stored = replace(world.store.documents["acme:1"])
    assert (await world.refresher.conclude(claim, entry)).journal_result == "recorded"
    assert world.store.documents["acme:1"] == stored


async def test_large_replies_are_read_one_in_each_turn_of_the_loop(world):
    """Each may take some 50 ms: all of them in one turn would hold up whatever else is ready."""
    turn, read_in = 0, []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def noting(token, answer):
        read_in.append(turn)
        return believe(token, answer)

    for n in range(4):
        world.store.put(str(n))
    batch = await world.store.claim(world.providers[0], limit=4, busy=())
    large = {"access_token": "access-1", "refresh_token": "refresh-1", "padding": "x" * LARGE_REPLY}
    world.endpoint.answer = lambda request: answered(large)
    counting = asyncio.create_task(count_turns())
    await asyncio.gather(*(world.refresher.refresh(claim, noting) for claim in batch.items))
    counting.cancel()
    assert len(set(read_in)) == 4


# ---------------------------------------------------------------- a refresh token that somebody else used


def used_before(_request):
    body = {"error": "invalid_grant", "error_description": "Refresh token already used"}
    return answered(body, status=400)


async def test_a_token_that_somebody_else_used_is_an_anomaly(world):
    """The provider says so, and refreshd has presented it once."""
    world.store.put("1")
    world.endpoint.answer = used_before
    await world.refresher.refresh(await world.claim())
    [anomaly] = world.observed(AnomalyDetected)
    assert (anomaly.kind, anomaly.key, anomaly.count) == (AnomalyKind.REUSE_REFUSED, "acme:1", 1)
    assert anomaly.id == "anomaly:reuse_refused:acme:1:2026-11-21T12"


async def test_after_a_doubt_it_may_have_been_refreshd_itself(world):
    world.store.put("1")
    world.endpoint.answer = lambda request: unanswered(sent=True)
    await world.refresher.refresh(await world.claim())
    world.clock.passed = timedelta(seconds=3)
    world.endpoint.answer = used_before
    await world.refresher.refresh(await world.claim())
    assert len(world.observed(TokenNeedsReauth)) == 1
    assert world.observed(AnomalyDetected) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"doubt": Doubt(since=NOON, tries=1, asker="other")},
        {"last_failure": Failure(kind=FailureKind.UNAVAILABLE, code="http_429", message="", at=NOON)},
        {"failures": 1},
    ],
)
async def test_another_replica_may_have_presented_it_before(world, fields):
    """This process has not, but the document says that somebody has."""
    world.store.put("1", **fields)
    world.endpoint.answer = used_before
    await world.refresher.refresh(await world.claim())
    assert len(world.observed(TokenNeedsReauth)) == 1
    assert world.observed(AnomalyDetected) == []


async def test_a_token_that_an_application_wrote_back_was_used_by_refreshd(world):
    """Its renewal spent it, and then the application stored its old copy once more."""
    world.store.put("1", refresh_token=Secret("mine"))
    await world.refresher.refresh(await world.claim())
    world.store.put("1", refresh_token=Secret("mine"))
    world.endpoint.answer = used_before
    await world.refresher.refresh(await world.claim())
    assert world.observed(AnomalyDetected) == []


async def test_a_provider_that_says_so_of_every_token_is_not_believed(world):
    world.store.put("1")
    world.endpoint.answer = used_before
    await world.refresher.refresh(await world.claim(), lambda token, answer: True)
    assert world.observed(AnomalyDetected) == []


async def test_a_dead_grant_alone_is_no_anomaly(world):
    world.store.put("1")
    world.endpoint.answer = lambda request: answered({"error": "invalid_grant"}, status=400)
    await world.refresher.refresh(await world.claim())
    assert len(world.observed(TokenNeedsReauth)) == 1
    assert world.observed(AnomalyDetected) == []


async def test_the_result_of_a_token_that_was_replaced_in_the_meantime_is_no_anomaly(world):
    """The application has stored a new consent, so it may well be the one who used the old one."""
    world.store.put("1")
    claim = await world.claim()
    world.store.put("1")
    world.endpoint.answer = used_before
    await world.refresher.refresh(claim)
    assert len(world.observed(TokenSuperseded)) == 1
    assert world.observed(AnomalyDetected) == []


async def test_a_rejection_that_has_to_be_confirmed_is_reported_once(world_of):
    confirmed = Definition(
        name="acme", title="Acme", token_url="https://acme.example/token", confirm_after=timedelta(minutes=1)
    )
    world = world_of(provider(definition=confirmed))
    world.store.put("1")
    world.endpoint.answer = used_before
    await world.refresher.refresh(await world.claim())
    world.clock.passed = timedelta(minutes=10)
    await world.refresher.refresh(await world.claim())
    assert len(world.observed(TokenNeedsReauth)) == 1
    assert len(world.observed(AnomalyDetected)) == 1
