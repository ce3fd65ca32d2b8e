"""One bad thing never delays the others: bugs, pages, pauses, losses and reloads in one lane."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.token_endpoint.rate_limiter import LeakyBucket
from daemon.domain.circuit_breaker import OUTAGE_THRESHOLD, Pause, Reason
from daemon.domain.claim import StoreLost, Unusable
from daemon.domain.event import (
    LaneFailed,
    ProviderPaused,
    SweepFailed,
    SweepFinished,
    TokenRenewed,
    TokenUnreadable,
)
from daemon.domain.provider import Definition, Rate
from daemon.domain.reply import NoReply, Reply
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt
from tests.refreshing.fakes import NOON, answered, granted, provider, unanswered
from tests.refreshing.test_lane import done, until

PAGE = Reply(
    status=200,
    content_type="text/html",
    retry_after=None,
    whole=True,
    asked_at=NOON,
    body=b"<html><body><h1>We are down for maintenance</h1></body></html>",
)
DOWN = answered({"error": "temporarily_unavailable"}, status=503)
REFUSED = answered({"error": "invalid_client"}, status=401)


async def swept(world, times=1):
    for _ in range(times):
        await world.sweeper.sweep()
        for lane in world.sweeper.lanes.values():
            await done(lane)
        world.clock.passed += timedelta(seconds=15)


def grant_now(world, successor="refresh-1"):
    world.endpoint.answer = lambda request: replace(granted(successor), asked_at=world.clock.now())


def put(world, count):
    for n in range(count):
        world.store.put(str(n))


def resting(world, reason, **fields):
    """A pause that another replica wrote, followed by our lane."""
    lane = world.lane(world.providers[0])
    fields = {"since": NOON, "next_probe_at": NOON, "next_retry_at": NOON, "client": "our client", **fields}
    world.store.paused["acme"] = Pause(reason=reason, **fields)
    lane.health.follow(world.store.paused["acme"])
    return lane


# ---------------------------------------------------------------- tokens that met a bug


async def test_a_token_that_met_a_bug_is_taken_up_again_after_a_new_consent(world):
    """Its result could not be recorded, perhaps for want of a key. This process renews it, not only the next one."""
    name = world.store.put("1")
    world.endpoint.answer = lambda request: unanswered(sent=False)
    world.store.broken[name] = Unusable(
        "the stored document can't be compared: key 'b' is not on the key ring"
    )
    await swept(world)
    assert [event.code for event in world.observed(TokenUnreadable)] == ["unusable"]
    world.store.broken.clear()
    world.store.consent(name)
    grant_now(world, "refresh-2")
    await swept(world, times=4 * 6)
    assert world.store.refresh_token(name) == "refresh-2"


async def test_a_token_whose_reply_waits_in_the_journal_is_not_put_in_quarantine_too(world):
    """The replay frees it as soon as it can be recorded."""
    name = world.store.put("1")
    grant_now(world)
    world.store.broken[name] = ZeroDivisionError("a bug")
    await swept(world)
    world.store.broken.clear()
    await swept(world)
    assert world.store.refresh_token(name) == "refresh-1"
    world.store.documents[name].token = replace(world.store.documents[name].token, due_at=NOON)
    grant_now(world, "refresh-2")
    await swept(world)
    assert world.store.refresh_token(name) == "refresh-2"


async def test_a_reload_gives_a_token_in_quarantine_another_chance(world):
    """Its definition or a key may have been corrected."""
    name = world.store.put("1")
    world.endpoint.answer = lambda request: unanswered(sent=False)
    world.store.broken[name] = ZeroDivisionError("a bug")
    await swept(world)
    world.store.broken.clear()
    grant_now(world)
    await swept(world)
    assert len(world.endpoint.asked) == 1
    world.sweeper.lanes["acme"].use(world.providers[0])
    await swept(world)
    assert world.store.refresh_token(name) == "refresh-1"


# ---------------------------------------------------------------- claims that did not start


async def test_a_probe_that_could_not_take_its_turn_gives_its_claims_back(world):
    """MongoDB is lost between the claim and the turn: nothing was presented, so nothing may stay claimed."""
    put(world, 1)
    lane = resting(world, Reason.OUTAGE)

    async def lost(*_):
        raise StoreLost("away")

    world.pauses.take_turn = lost
    with pytest.raises(StoreLost):
        await lane.work()
    assert {one.owner for one in world.store.documents.values()} == {None}


async def test_a_probe_does_not_start_in_a_lane_that_stops(world):
    """The stop came while it was claimed: it is given back."""
    put(world, 1)
    lane = resting(world, Reason.OUTAGE)
    probe = world.store.probe

    async def stopped_meanwhile(*args, **more):
        batch = await probe(*args, **more)
        lane.stop()
        return batch

    world.store.probe = stopped_meanwhile
    await lane.work()
    assert world.endpoint.asked == []
    assert {one.owner for one in world.store.documents.values()} == {None}


async def test_each_claim_that_did_not_start_is_given_back_though_one_release_fails(world):
    """Two claims wait; releasing the first fails, and the second is tried too."""
    lane = world.lane(world.providers[0])
    put(world, 2)
    first = await world.store.claim(world.providers[0], limit=1, busy=[])
    second = await world.store.claim(world.providers[0], limit=1, busy=[first.items[0].token.id])
    lane._bulkhead.waiting.extend([*first.items, *second.items])
    tried = []

    async def release(claims):
        tried.append(claims[0].id)
        if len(tried) == 1:
            raise StoreLost("away")

    world.store.release = release
    with pytest.raises(StoreLost):
        await lane._bulkhead.give_back(world.store)
    assert tried == [first.items[0].id, second.items[0].id]


async def test_what_is_claimed_starts_although_the_journal_was_unwritable_for_a_moment(world):
    """The last in flight ends in that moment; nothing else would wake the lane."""
    put(world, 7)
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane = world.lane(world.providers[0])
    lane._prefetch.begin = lambda now: None
    lane._prefetch.count = 4
    lane._prefetch.measure = lambda now, share: None
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 4 and lane._bulkhead.waiting)
    fill = lane._bulkhead.fill

    def fill_while_unwritable():
        world.journal._works = False
        try:
            fill()
        finally:
            world.journal._works = True

    lane._bulkhead.fill = fill_while_unwritable
    gate.set()
    await until(lambda: not lane.in_flight)
    lane._bulkhead.fill = fill
    await asyncio.wait_for(work, 5)
    await done(lane)
    assert len(world.observed(TokenRenewed)) == 7


# ---------------------------------------------------------------- whose trouble it is


@pytest.mark.parametrize("code", ["not_kept", "too_late"])
async def test_our_own_trouble_is_no_outage_of_the_provider(world_of, code):
    """Our disk is full, or we slept: nothing was sent. The provider is not paused for all replicas."""
    world = world_of(provider(share=64))
    put(world, 3 * OUTAGE_THRESHOLD)
    world.endpoint.answer = lambda request: NoReply(
        code=code, message="-", sent=False, asked_at=world.clock.now()
    )
    await swept(world)
    assert world.store.paused == {}
    assert {one.token.failures for one in world.store.documents.values()} == {0}


async def test_a_page_instead_of_a_reply_does_not_take_every_token_off_the_schedule(world_of):
    """A maintenance page with status 200: three in a row let the provider rest, and all are renewed after it."""
    world = world_of(provider(share=64))
    put(world, 1000)
    world.endpoint.answer = lambda request: PAGE
    await swept(world)
    assert world.store.paused["acme"].reason is Reason.UNPARSED
    assert all(one.token.due_at is not None for one in world.store.documents.values())
    assert len(world.endpoint.asked) <= 64
    grant_now(world)
    await swept(world, times=8)
    renewed = [
        one for one in world.store.documents.values() if one.token.refresh_token == Secret("refresh-1")
    ]
    assert len(renewed) == 1000


async def test_a_page_instead_of_a_reply_does_not_end_a_rest(world_of):
    """An outage, and then the provider's edge answers a probe with 200 and a page."""
    world = world_of(provider(share=64))
    put(world, 500)
    world.store.paused["acme"] = Pause(
        reason=Reason.OUTAGE, since=NOON, next_probe_at=NOON, client="our client"
    )
    world.endpoint.answer = lambda request: PAGE
    await swept(world)
    assert world.store.paused["acme"].reason is Reason.OUTAGE
    assert len(world.endpoint.asked) == 1


async def test_a_probe_takes_a_healthy_token_however_long_others_are_due(world):
    """The oldest due are those that fail for good: they would keep the provider at rest."""
    for n in range(20):
        world.store.put(f"bad-{n}", failures=50, refresh_token=Secret("bad"))
    world.store.put("good", due_at=NOON, refresh_token=Secret("good"))
    lane = resting(world, Reason.MISCONFIGURED)
    world.endpoint.answer = lambda request: (
        granted("refresh-1") if b"good" in request.body else answered({"error": "own"}, status=400)
    )
    await lane.work()
    await done(lane)
    assert b"good" in world.endpoint.asked[0].body
    assert world.store.paused == {}


async def test_a_failing_token_that_probes_does_not_make_a_healthy_one_wait(world):
    """Only failing ones are due; then a healthy one comes due, and is asked in the next sweep."""
    world.store.put("bad", failures=3, refresh_token=Secret("bad"))
    later = NOON + timedelta(minutes=20)
    ends = later + timedelta(minutes=5)
    world.store.put("good", due_at=later, expires_at=ends, refresh_token=Secret("good"), refreshed_at=NOON)
    world.sweeper.lanes["acme"] = resting(world, Reason.MISCONFIGURED)
    world.endpoint.answer = lambda request: (
        replace(granted("refresh-1"), asked_at=world.clock.now())
        if b"good" in request.body
        else answered({"error": "unauthorized_client"}, status=400)
    )
    await swept(world, times=82)
    assert world.observed(TokenRenewed) != []
    assert world.observed(TokenRenewed)[0].lead > timedelta(minutes=4)


async def test_a_provider_whose_kept_replies_crowd_the_disk_is_asked_nothing_more(world_of):
    """By this replica, which says so once; the others go on."""
    world = world_of(provider("acme"), provider("other"))
    world.store.put("1")
    world.store.put("1", of="other")
    world.journal.crowded = {"acme"}
    await swept(world, times=20)
    assert world.store.paused == {}
    assert [(event.provider, event.reason) for event in world.observed(ProviderPaused)] == [
        ("acme", "unparsed")
    ]
    assert [event.provider for event in world.observed(TokenRenewed)] == ["other"]
    world.journal.crowded = set()
    await swept(world)
    assert [event.provider for event in world.observed(TokenRenewed)] == ["other", "acme"]


# ---------------------------------------------------------------- pauses, reloads and lanes that fail


async def test_after_another_replicas_pause_one_goes_first(world):
    """It may have ended too early: an answer comes before many are asked."""
    put(world, 8)
    lane = resting(world, Reason.OUTAGE, next_probe_at=NOON + timedelta(hours=1))
    lane.health.follow(None)
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert world.endpoint.in_flight == 1
    gate.set()
    await work
    await done(lane)


async def test_after_its_own_pause_one_goes_first(world):
    """Also when somebody else has ended it."""
    put(world, 40)
    lane = world.lane(world.providers[0])
    world.endpoint.answer = lambda request: DOWN
    await lane.work()
    await done(lane)
    assert world.store.paused["acme"].reason is Reason.OUTAGE
    world.endpoint.most_in_flight = 0
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane.health.follow(None)
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 1)
    for _ in range(50):
        await asyncio.sleep(0)
    assert world.endpoint.most_in_flight == 1
    gate.set()
    await work


async def test_while_a_provider_rests_one_at_a_time_does_not_end_by_waiting(world):
    """A request that hangs is no sign that the pause is over."""
    put(world, 8)
    lane = resting(world, Reason.OUTAGE)
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    probing = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 1)
    world.clock.passed += timedelta(seconds=3)
    again = asyncio.create_task(lane._pass._wait_for_capacity())
    for _ in range(50):
        await asyncio.sleep(0)
    assert lane.health.slow_start.alone
    gate.set()
    await probing
    await again


async def test_two_clients_do_not_probe_by_turns(world):
    """Ours has tried this pause; that the other replica has another client is no reason to try again at once."""
    put(world, 3)
    world.endpoint.answer = lambda request: REFUSED
    lane = resting(world, Reason.WRONG_CLIENT, client="another client")
    await lane.work()
    later = replace(world.store.paused["acme"], client="another client")
    lane.health.follow(later)
    world.store.paused["acme"] = later
    await lane.work()
    assert len(world.endpoint.asked) == 1


async def test_a_reload_does_not_end_a_pause(world):
    """Another rate says nothing of the outage."""
    put(world, 8)
    lane = resting(world, Reason.OUTAGE, next_probe_at=NOON + timedelta(hours=1))
    lane.use(replace(world.providers[0], share=2))
    await lane.work()
    assert world.endpoint.asked == []


async def test_second_chances_in_an_outage_keep_to_the_share(world):
    """Ten are in doubt, and four may be in flight."""
    for n in range(10):
        world.store.documents[world.store.put(str(n), doubt=Doubt(since=NOON, tries=1))].owner = "me"
    lane = resting(world, Reason.OUTAGE, next_probe_at=NOON + timedelta(hours=1))
    world.endpoint.answer = lambda request: DOWN
    await lane.work()
    await done(lane)
    assert max(world.store.limits) <= 4


async def test_a_reload_with_another_rate_ends_the_wait_for_the_old_one(world):
    """The operator wrote 1/h by mistake, and reloads with what is right."""
    slow = Definition(
        name="acme",
        title="acme",
        token_url="https://acme.example/token",
        rates=(Rate(count=1, per=timedelta(hours=1)),),
    )
    world.providers = [provider(definition=slow)]
    lane = world.lane(world.providers[0])
    lane._rate._make = lambda one: LeakyBucket(*one.definition.rates)
    lane._rate._limiter = LeakyBucket(*slow.rates)
    put(world, 3)
    work = asyncio.create_task(lane.work())
    await until(lambda: len(world.observed(TokenRenewed)) == 1)
    await until(lambda: lane._rate.is_waiting)
    lane.use(provider(definition=replace(slow, rates=())))
    await asyncio.wait_for(work, 5)
    await done(lane)
    assert len(world.observed(TokenRenewed)) == 3


async def test_a_reload_without_another_rate_grants_no_second_burst(world):
    """The bucket is as empty as it was."""
    lane = world.lane(world.providers[0])
    before = lane._rate._limiter
    lane._rate._make = lambda one: LeakyBucket(*one.definition.rates)
    lane.use(replace(world.providers[0], share=2))
    assert lane._rate._limiter is before


async def test_a_lane_whose_every_pass_fails_is_reported_and_no_sweep_of_it_counts_as_good(world):
    """Such as by a document that can't be decoded: each pass in a row is counted."""

    async def claim(*_, **__):
        raise ValueError("InvalidBSON")

    put(world, 1)
    claims, world.store.claim = world.store.claim, claim
    await swept(world, times=5)
    assert len(world.observed(SweepFailed)) == 5
    assert [failed.failures for failed in world.observed(LaneFailed)] == [1, 2, 3, 4, 5]
    world.store.claim = claims
    await swept(world)
    assert len(world.observed(SweepFinished)) == 1
    assert world.observed(LaneFailed)[-1].failures == 0
