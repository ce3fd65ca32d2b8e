"""The daemon dies between a receiver's answer and the note of it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from tests.e2e.test_hooks import OLD, event, hook, outbox, secret
from tests.faults.crashing import CRASHED
from tests.support import wall_clock
from tests.support.receiver import Receiver

PATIENCE = timedelta(seconds=30)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "sent"), [("deliver.answered", 2), ("deliver.settled", 1)])
async def test_a_death_after_the_answer_costs_no_event(stage, mongod, database_name, point, sent):
    """An event whose delivery was not noted is sent once more, with the same id, as soon as its lease has ended. One whose
    delivery was noted is not, and neither is any other."""
    scene = await stage()
    place = scene.install(concurrency=1)
    client = AsyncMongoClient[dict[str, Any]](mongod, tz_aware=True)
    stored = client[database_name]["tokens_outbox"]
    with Receiver() as receiver:
        place.config.write_text(place.config.read_text() + hook("crm", receiver.url, secret(OLD)))
        async with client, outbox(place, "crm") as box:
            async with scene.running(place, point, occurrence=2) as daemon:
                await daemon.ready()
                await box.add([event("first")])
                await until(lambda: stored.count_documents({"state": "delivered"}), 1)
                await box.add([event("second")])
                assert await daemon.ended(within=PATIENCE) == CRASHED, daemon.logs
            assert codes(receiver) == {"first": 1, "second": 1}
            await box.add([event("third")])
            claimed = await stored.find_one({"event": "second"})
            if point == "deliver.answered":
                assert claimed["state"] == "waiting"
                assert claimed["due_at"] > wall_clock.now() + timedelta(seconds=20)  # its lease
                await stored.update_one({"_id": claimed["_id"]}, {"$set": {"due_at": wall_clock.now()}})
            else:
                assert claimed["state"] == "delivered"
            async with scene.running(place) as daemon:
                await until(lambda: stored.count_documents({"state": "delivered"}), 3)
                assert await daemon.stop() == 0
    assert codes(receiver) == {"first": 1, "second": sent, "third": 1}
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 3


def codes(receiver: Receiver) -> Counter[str]:
    return Counter(body["data"]["code"] for body in receiver.bodies)


async def until(count: Callable[[], Any], wanted: int) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while await count() < wanted:
            await asyncio.sleep(0.05)
