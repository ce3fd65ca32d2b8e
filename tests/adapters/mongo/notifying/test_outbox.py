"""The outbox in the real MongoDB: an event is stored once for each hook that takes it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.adapters.mongo.notifying.outbox import MongoOutbox, OutboxRefused
from daemon.domain.claim import StoreLost
from daemon.domain.hook import Route
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from tests.adapters.mongo.mongo_bench import Bench

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
CRM, MAIL = Route(name="crm"), Route(name="mail", events=("provider.*",))


def event(name: str = "e1", **changes: Any) -> OwnerEvent:
    fields: dict[str, Any] = {
        "id": name,
        "type": OwnerEventType.NEEDS_REAUTH,
        "at": NOON,
        "who_acts": Actor.OWNER,
        "provider": "xero",
        "token": "xero:acme",
        "account": "acme",
        "revision": 7,
    }
    return OwnerEvent(**{**fields, **changes})


@pytest.fixture(autouse=True)
def _empty(bench: Bench) -> Iterator[None]:
    yield
    bench.database.drop_collection("tokens_outbox")
    bench.database.drop_collection("tokens_hooks")


def outbox(bench: Bench, *routes: Route) -> MongoOutbox:
    bench.store()
    return MongoOutbox(bench.mongos[-1], routes=lambda: routes)


def stored(bench: Bench) -> list[dict[str, Any]]:
    return list(bench.database["tokens_outbox"].find({}).sort("_id"))


async def test_an_event_is_stored_once_for_each_hook_that_takes_it(bench: Bench) -> None:
    """One document for each receiver, so that each has a schedule of its own."""
    paused = event("e2", type=OwnerEventType.PROVIDER_PAUSED, token=None, account=None)
    await outbox(bench, CRM, MAIL).add([event(), paused])
    assert [(one["event"], one["hook"]) for one in stored(bench)] == [
        ("e1", "crm"),
        ("e2", "crm"),
        ("e2", "mail"),
    ]
    assert {key: (stored(bench))[0][key] for key in ("type", "at", "token", "revision", "state")} == {
        "type": "token.needs_reauth",
        "at": NOON,
        "token": "xero:acme",
        "revision": 7,
        "state": "waiting",
    }


async def test_a_second_report_of_an_event_changes_nothing(bench: Bench) -> None:
    """The relay repeats itself after a crash; a delivery that has ended must not begin again."""
    await outbox(bench, CRM).add([event()])
    bench.database["tokens_outbox"].update_one({}, {"$set": {"state": "delivered"}, "$unset": {"due_at": ""}})
    before = stored(bench)
    await outbox(bench, CRM).add([event(), event("e2")])
    assert (stored(bench))[0] == before[0]
    assert [one["event"] for one in stored(bench)] == ["e1", "e2"]


async def test_without_a_hook_nothing_is_stored(bench: Bench) -> None:
    """Events that nobody receives must not pile up."""
    await outbox(bench).add([event()])
    assert stored(bench) == []


async def test_a_refusal_is_no_duplicate(bench: Bench) -> None:
    """A validator or a unique index of the operator's would lose the event if it counted as stored."""
    bench.database["tokens_outbox"].create_index("provider", unique=True, name="own")
    with pytest.raises(OutboxRefused, match="a unique index of its own"):
        await outbox(bench, CRM).add([event(), event("e2"), event("e3", provider="zoho")])
    assert [one["event"] for one in stored(bench)] == ["e1", "e3"]  # the others are stored all the same


async def test_a_validator_refuses_an_event(bench: Bench) -> None:
    """Any other error of a document is an error, too."""
    bench.database["tokens_outbox"].insert_one({})
    bench.database.command("collMod", "tokens_outbox", validator={"type": {"$exists": False}})
    with pytest.raises(OutboxRefused, match="code 121"):
        await outbox(bench, CRM).add([event()])


async def test_an_outage_is_a_lost_store(bench: Bench) -> None:
    """The caller tries again, and leaves the event where it was."""
    crm = outbox(bench, CRM)
    with (
        bench.fault("insert", times=4, errorCode=91, closeConnection=False),
        pytest.raises(StoreLost) as lost,
    ):
        await crm.add([event()])
    assert not isinstance(lost.value, OutboxRefused)
