"""A provider that rests: one lane alone stops, one probe at a time is sent, and a good answer ends it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from daemon.domain.circuit_breaker import OUTAGE_THRESHOLD, Pause, Reason
from daemon.domain.event import ProviderPaused, ProviderResumed, TokenRenewed
from daemon.domain.provider import Definition
from daemon.domain.token import Doubt
from tests.refreshing.fakes import NOON, SetRate, answered, granted, provider
from tests.refreshing.test_lane import done, until

REFUSED = answered({"error": "invalid_client"}, status=401)
DOWN = answered({"error": "temporarily_unavailable"}, status=400)


def put(world, count, **fields):
    """So many that were renewed before."""
    for n in range(count):
        world.store.put(str(n), **{"refreshed_at": NOON - timedelta(hours=1), **fields})


async def worked(lane):
    await lane.work()
    await done(lane)


async def test_a_wrong_client_is_noticed_by_the_first_request(world):
    """Two hundred are due and four may be in flight: one is asked, and the provider rests."""
    put(world, 200)
    world.endpoint.answer = lambda request: REFUSED
    await worked(world.lane(world.providers[0], proven=False))
    assert len(world.endpoint.asked) == 1
    assert world.store.paused["acme"].reason is Reason.WRONG_CLIENT


async def test_a_good_first_answer_opens_the_lane(world):
    """Then as many as its share allows."""
    put(world, 20)
    await worked(world.lane(world.providers[0], proven=False))
    assert world.store.limits[0] == 1
    assert max(world.store.limits) >= 4
    assert len(world.observed(TokenRenewed)) == 20


async def test_a_first_request_that_hangs_does_not_hold_up_the_others(world):
    """No answer for a while is no refusal."""
    put(world, 4)
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    lane = world.lane(world.providers[0], proven=False)
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 1)
    world.clock.passed += timedelta(seconds=3)
    await asyncio.wait_for(until(lambda: world.endpoint.in_flight == 4), 5)
    assert world.observed(TokenRenewed) == []
    gate.set()
    await work
    await done(lane)


async def rest(world, reason=Reason.WRONG_CLIENT, *, client="our client"):
    """A pause that another replica wrote, seen by our lane."""
    lane = world.lane(world.providers[0])
    pause = Pause(reason=reason, since=NOON, next_probe_at=NOON + timedelta(seconds=30), client=client)
    world.store.paused["acme"] = pause
    lane.health.follow(pause)
    return lane


async def test_a_resting_provider_is_asked_nothing_until_its_probe_is_due(world):
    """Then one token alone, and as it fails nothing more until the next turn."""
    put(world, 5)
    world.endpoint.answer = lambda request: REFUSED
    lane = await rest(world)
    await worked(lane)
    assert world.endpoint.asked == []
    world.clock.passed = timedelta(seconds=30)
    await worked(lane)
    lane.health.follow(world.store.paused["acme"])
    await worked(lane)
    assert len(world.endpoint.asked) == 1
    assert world.store.paused["acme"].probes == 1


async def test_a_good_probe_ends_the_rest_and_all_others_follow(world):
    """In the same pass."""
    put(world, 9)
    lane = await rest(world)
    world.clock.passed = timedelta(seconds=30)
    await worked(lane)
    assert world.store.paused == {}
    assert len(world.observed(TokenRenewed)) == 9


async def test_the_probe_of_another_replica_is_not_sent_twice(world):
    """It took the turn first: what we had claimed is given back, unasked."""
    put(world, 2)
    world.pauses.beaten = True
    lane = await rest(world)
    world.clock.passed = timedelta(seconds=30)
    await worked(lane)
    assert world.endpoint.asked == []
    assert {stored.owner for stored in world.store.documents.values()} == {None}


async def test_another_client_is_tried_at_once_and_only_once(world):
    """The configuration was changed: no need to wait for the next probe."""
    put(world, 3)
    world.endpoint.answer = lambda request: REFUSED
    lane = await rest(world, client="another client")
    await worked(lane)
    lane.health.follow(world.store.paused["acme"])
    await worked(lane)
    assert len(world.endpoint.asked) == 1


async def test_an_operators_pause_is_never_probed(world):
    """Not even when another client is configured."""
    put(world, 3)
    lane = await rest(world, Reason.OPERATOR, client="another client")
    world.clock.passed = timedelta(days=1)
    await worked(lane)
    assert world.endpoint.asked == []


async def test_an_outage_lets_the_provider_rest_and_other_lanes_go_on(world_of):
    """So many failures in a row; the other provider's tokens are all renewed."""
    world = world_of(provider("acme"), provider("other"))
    for n in range(3 * OUTAGE_THRESHOLD):
        world.store.put(str(n))
        world.store.put(str(n), of="other")
    world.endpoint.answer = lambda request: DOWN if "acme" in request.url else granted("refresh-1")
    await world.sweeper.sweep()
    assert world.store.paused["acme"].reason is Reason.OUTAGE
    asked = [request for request in world.endpoint.asked if "acme" in request.url]
    assert OUTAGE_THRESHOLD <= len(asked) <= OUTAGE_THRESHOLD + 4
    assert len(world.observed(TokenRenewed)) == 3 * OUTAGE_THRESHOLD
    await world.sweeper.sweep()
    assert [event.reason for event in world.observed(ProviderPaused)] == [Reason.OUTAGE]
    world.endpoint.answer = lambda request: granted("refresh-1")
    world.clock.passed = timedelta(minutes=6)
    await world.sweeper.sweep()
    await world.sweeper.sweep()
    assert [event.provider for event in world.observed(ProviderResumed)] == ["acme"]
    assert {token.split(":")[0] for token in (event.token for event in world.observed(TokenRenewed))} == {
        "acme",
        "other",
    }


async def test_an_outage_does_not_keep_a_doubtful_token_from_its_second_chance(world):
    """Its first reply was lost: the same value is presented once more, rest or not. Nothing else is."""
    put(world, 3)
    doubtful = world.store.put("doubtful", doubt=Doubt(since=NOON, tries=1))
    world.store.documents[doubtful].owner = "me"
    lane = await rest(world, Reason.OUTAGE)
    world.endpoint.answer = lambda request: DOWN
    await worked(lane)
    assert len(world.endpoint.asked) == 1
    assert "record acme:doubtful" in world.diary


async def test_a_second_chance_keeps_to_the_rate_too(world):
    """Three are doubtful, and one request may go: one is claimed, and asked."""
    for n in range(3):
        world.store.documents[world.store.put(str(n), doubt=Doubt(since=NOON, tries=1))].owner = "me"
    world.rate_limiter = SetRate(1)
    lane = await rest(world, Reason.OUTAGE)
    world.endpoint.answer = lambda request: DOWN
    work = asyncio.create_task(lane.work())
    await until(lambda: len(world.endpoint.asked) == 1)
    lane.stop()
    await work
    assert (world.store.limits, len(world.endpoint.asked), world.rate_limiter.allowed) == ([1], 1, 0)


async def test_no_more_is_claimed_than_the_rate_allows(world):
    """What waits for its turn is not claimed: other replicas may have it, and its lease would run."""
    put(world, 10)
    world.rate_limiter = SetRate(3)
    lane = world.lane(world.providers[0])
    work = asyncio.create_task(lane.work())
    await until(lambda: len(world.observed(TokenRenewed)) == 3)
    assert (
        sum(
            stored.owner == "me" or stored.token.refresh_token.reveal() != "refresh-0"
            for stored in world.store.documents.values()
        )
        == 3
    )
    world.rate_limiter.allowed = 2
    world.rate_limiter.more.set()
    await until(lambda: len(world.observed(TokenRenewed)) == 5)
    lane.stop()
    await work
    assert len(world.endpoint.asked) == 5


async def test_a_reload_with_another_client_makes_it_prove_itself(world):
    """One at a time again, until an answer was good."""
    put(world, 8)
    lane = world.lane(world.providers[0])
    known = Definition(name="acme", title="acme", token_url="https://acme.example/other")
    lane.use(provider(definition=known))
    world.endpoint.answer = lambda request: REFUSED
    await worked(lane)
    assert len(world.endpoint.asked) == 1


SPENDING = Definition(
    name="acme", title="acme", token_url="https://acme.example/token", spends_on_refusal=True
)


async def test_where_a_refused_call_spends_the_token_one_grant_is_lost_and_no_probe_follows(world_of):
    """Procore: each probe would cost another customer's grant. Even a client that was accepted before rests at once."""
    world = world_of(provider(definition=SPENDING, share=1))
    put(world, 50)
    lane = world.lane(world.providers[0])
    await worked(lane)
    renewed = len(world.endpoint.asked)
    for name in world.store.documents:
        world.store.documents[name].token = replace(world.store.documents[name].token, due_at=NOON)
    world.endpoint.answer = lambda request: REFUSED
    await worked(lane)
    assert len(world.endpoint.asked) == renewed + 1
    assert world.store.paused["acme"].reason is Reason.WRONG_CLIENT
    lane.health.follow(world.store.paused["acme"])
    for _ in range(5):
        world.clock.passed += timedelta(days=1)
        await worked(lane)
    assert len(world.endpoint.asked) == renewed + 1


async def test_another_client_or_the_operators_word_ends_such_a_pause(world_of):
    """One request each, and the first grant opens the lane again."""
    world = world_of(provider(definition=SPENDING))
    put(world, 9)
    lane = await rest(world, client="another client")
    world.endpoint.answer = lambda request: REFUSED
    await worked(lane)
    assert len(world.endpoint.asked) == 1
    world.store.paused.clear()  # `refreshd resume acme`
    lane.health.follow(None)
    world.endpoint.answer = lambda request: granted("refresh-1")
    world.clock.passed += timedelta(hours=1)
    await worked(lane)
    assert len(world.observed(TokenRenewed)) == 9


async def test_an_outage_is_probed_even_there(world_of):
    """Nobody is told to wait for an operator when a provider is away."""
    world = world_of(provider(definition=SPENDING))
    put(world, 3)
    lane = await rest(world, Reason.OUTAGE)
    world.clock.passed = timedelta(minutes=2)
    await worked(lane)
    assert world.store.paused == {}
