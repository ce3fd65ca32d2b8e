"""What is guaranteed to nobody is lent: a provider that has all the tokens need not keep to its share."""

import asyncio
from dataclasses import replace

from daemon.domain.event import TokenRenewed
from daemon.refreshing.spare import Spare
from tests.refreshing.fakes import granted, provider, unanswered
from tests.refreshing.test_lane import done, until


def lane_of(world, one, spare):
    return world.lane(one, spare=spare)


def hang(world):
    world.endpoint.hanging["acme"] = gate = asyncio.Event()
    return gate


async def test_a_lane_that_gets_grants_borrows_what_is_free(world_of):
    """Sixteen in all, four guaranteed to each of two: eight are free."""
    acme, other = provider(share=4), provider("other", share=4)
    world, spare = world_of(acme, other), Spare(16)
    spare.guarantee([acme, other])
    for n in range(40):
        world.store.put(str(n))
    lane = lane_of(world, acme, spare)
    lane.health.granting = True
    gate = hang(world)
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight == 12)
    assert spare.free == 0
    gate.set()
    await work
    await done(lane)
    assert len(world.observed(TokenRenewed)) == 40
    assert spare.free == 8


async def test_a_lane_that_gets_no_answers_keeps_to_its_share(world_of):
    """A provider that hangs must not hold what others could use."""
    acme = provider(share=4)
    world, spare = world_of(acme), Spare(16)
    spare.guarantee([acme])
    for n in range(40):
        world.store.put(str(n))
    world.endpoint.answer = lambda request: unanswered(sent=True)
    lane = lane_of(world, acme, spare)
    lane.health.granting = True
    await lane.work()
    await done(lane)
    world.endpoint.most_in_flight = 0
    gate = hang(world)
    lane.health.follow(None)
    work = asyncio.create_task(lane.work())
    await until(lambda: world.endpoint.in_flight >= 1)
    for _ in range(100):
        await asyncio.sleep(0)
    assert world.endpoint.most_in_flight <= 4
    gate.set()
    lane.stop()
    await work


async def test_what_is_lent_is_never_anothers_guaranteed_share(world_of):
    """One lane has borrowed everything; the other starts its own four without waiting."""
    acme, other = provider(share=4), provider("other", share=4)
    world, spare = world_of(acme, other), Spare(16)
    spare.guarantee([acme, other])
    for n in range(40):
        world.store.put(str(n))
        world.store.put(str(n), of="other")
    first, second = lane_of(world, acme, spare), lane_of(world, other, spare)
    first.health.granting = second.health.granting = True
    gate = hang(world)
    world.endpoint.hanging["other"] = gate
    works = [asyncio.create_task(first.work())]
    await until(lambda: world.endpoint.in_flight == 12)
    works.append(asyncio.create_task(second.work()))
    await until(lambda: world.endpoint.in_flight == 16)
    assert len(second.in_flight) == 4
    gate.set()
    await asyncio.gather(*works)


async def test_the_operators_limit_is_never_passed(world_of):
    """However much is free."""
    acme = replace(provider(share=6), most=6)
    world, spare = world_of(acme), Spare(100)
    spare.guarantee([acme])
    for n in range(40):
        world.store.put(str(n))
    world.endpoint.answer = lambda request: granted("refresh-1")
    lane = lane_of(world, acme, spare)
    lane.health.granting = True
    await lane.work()
    await done(lane)
    assert world.endpoint.most_in_flight <= 6
