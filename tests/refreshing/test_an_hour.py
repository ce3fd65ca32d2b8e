"""An hour of simulated time, sweep by sweep: what a dead grant costs, and how an outage ends."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain.circuit_breaker import Reason
from daemon.domain.provider import Definition
from daemon.domain.reply import NoReply
from daemon.domain.token import Doubt, State
from tests.refreshing.fakes import NOON, answered, granted, provider
from tests.refreshing.test_lane import done

SWEEP = timedelta(seconds=15)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DEAD = answered({"error": "invalid_grant"}, status=400)
DOWN = answered({"error": "temporarily_unavailable"}, status=503)


async def pass_time(world, until):
    """Sweep after sweep, and once more whenever a doubt comes due, as the daemon does."""
    while world.clock.passed < until:
        await world.sweeper.sweep()
        for lane in world.sweeper.lanes.values():
            await done(lane)
        due = [one.token.due_at for one in world.store.documents.values() if one.token.doubt is not None]
        soon = min((at - NOON for at in due if at is not None and at > world.clock.now()), default=until)
        world.clock.passed = min(world.clock.passed + SWEEP, max(soon, world.clock.passed + MINUTE / 60))


def asked(world):
    return Counter(request.body for request in world.endpoint.asked)


@pytest.mark.parametrize("confirm_after", [None, MINUTE, 10 * MINUTE])
@pytest.mark.parametrize("doubt", [None, Doubt(since=NOON, tries=1)])
async def test_a_dead_grant_costs_at_most_two_requests(world_of, confirm_after, doubt):
    """In an hour, confirmation and doubt together; then it rests until its owner consents again."""
    known = Definition(
        name="acme", title="Acme", token_url="https://acme.example/token", confirm_after=confirm_after
    )
    world = world_of(provider(definition=known))
    name = world.store.put("dead", doubt=doubt)
    world.store.documents[name].owner = None if doubt is None else "me"
    world.endpoint.answer = lambda request: DEAD
    await pass_time(world, HOUR)
    assert len(world.endpoint.asked) <= 2 - (doubt is not None)
    assert world.store.documents[name].token.state is State.NEEDS_REAUTH


async def test_a_grant_that_dies_without_a_word_costs_two_requests(world_of):
    """No answer to the first, a rejection of the second: that was both."""
    world = world_of(provider())
    name = world.store.put("dead")
    replies = [NoReply(code="timeout", message="none", sent=True, asked_at=NOON), DEAD]
    world.endpoint.answer = lambda request: replies[min(len(world.endpoint.asked), 2) - 1]
    await pass_time(world, HOUR)
    assert len(world.endpoint.asked) == 2
    assert world.store.documents[name].token.state is State.NEEDS_REAUTH


@pytest.mark.parametrize("status", [503, 400], ids=["in doubt", "refused"])
async def test_after_an_outage_of_an_hour_all_is_renewed_within_five_minutes(world_of, status):
    """Four hundred tokens, eight in flight: never more, and while it lasts the provider is hardly asked."""
    world = world_of(provider(share=8))
    for n in range(400):
        world.store.put(str(n))
    world.endpoint.answer = lambda request: replace(DOWN, status=status)
    await pass_time(world, HOUR)
    assert world.store.paused["acme"].reason is Reason.OUTAGE
    during = len(world.endpoint.asked)
    world.endpoint.answer = lambda request: replace(granted("refresh-1"), asked_at=world.clock.now())
    await pass_time(world, HOUR + 5 * MINUTE)
    assert world.store.paused == {}
    assert {one.token.refresh_token.reveal() for one in world.store.documents.values()} == {"refresh-1"}
    assert world.endpoint.most_in_flight <= 8
    assert len(world.endpoint.asked) - during == 400
    assert during <= 200  # of some 16,000 without a rest: a probe a minute, and what it leaves in doubt
