"""A provider's rest, on a real MongoDB: written once, probed by one, ended by the first, and never over an operator's."""

import asyncio
from dataclasses import replace

import pytest
from bson import Code, Int64

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.pause_events import PauseEvents
from daemon.adapters.mongo.pauses import MongoPauses, pause_of
from daemon.adapters.mongo.resting import pause_of_one, resting
from daemon.domain.circuit_breaker import Pause, Reason, probe_after
from daemon.domain.provider import Definition, Provider
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock

RING = KeyRing({"k": bytes(32)}, active="k")
ACME = Provider(
    definition=Definition(name="acme", title="Acme", token_url="https://acme.test/token"),
    client_id="me",
    client_secret=Secret("canary-secret"),
)


@pytest.fixture
async def mongo(mongod, database_name):
    store = Mongo(
        uri=Secret(mongod), database=database_name, collection="tokens", clock=Clock(), observe=lambda _: None
    )
    await store.prepare()
    yield store
    await store.close()


async def stored(mongo) -> Pause:
    return pause_of(await mongo.providers.find_one({"_id": "acme"}))


async def test_a_pause_is_written_once(mongo):
    """Replicas notice at the same time: the first one's stays, with the first probe soon after it."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await asyncio.gather(*(pauses.pause(ACME, Reason.WRONG_CLIENT) for _ in range(8)))
    first = await stored(mongo)
    await pauses.pause(ACME, Reason.OUTAGE)
    assert await stored(mongo) == first == await pause_of_one(mongo, "acme")
    assert await pause_of_one(mongo, "other") is None
    assert (first.reason, first.probes) == (Reason.WRONG_CLIENT, 0)
    assert first.next_probe_at == first.next_retry_at == first.since + probe_after(Reason.WRONG_CLIENT, 0)
    assert mongo.up


async def test_one_replica_takes_the_turn_to_probe(mongo):
    """All others see that it is taken; the next one comes later."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(ACME, Reason.MISCONFIGURED)
    seen = await stored(mongo)
    turns = await asyncio.gather(*(pauses.take_turn(ACME, seen) for _ in range(8)))
    assert sorted(turns) == [False] * 7 + [True]
    later = await stored(mongo)
    assert later.probes == 1
    assert later.next_probe_at >= later.since + probe_after(Reason.MISCONFIGURED, 1)


async def test_the_turn_of_a_token_that_is_not_proven_puts_off_no_proven_one(mongo):
    """And is taken by one replica alone, too."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(ACME, Reason.MISCONFIGURED)
    seen = await stored(mongo)
    turns = await asyncio.gather(*(pauses.take_turn(ACME, seen, False) for _ in range(8)))
    assert sorted(turns) == [False] * 7 + [True]
    later = await stored(mongo)
    assert (later.probes, later.retries, later.next_probe_at) == (0, 1, seen.next_probe_at)
    assert later.next_retry_at > seen.next_retry_at
    assert await pauses.take_turn(ACME, later)


async def test_a_sweep_sees_the_whole_pause(mongo):
    """Every field that a probe goes by: else its turn could never be taken."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(ACME, Reason.MISCONFIGURED)
    assert await pauses.take_turn(ACME, await stored(mongo), False)
    assert await pauses.take_turn(ACME, await stored(mongo), True)
    seen = (await resting(mongo))["acme"]
    assert seen == await stored(mongo)
    assert (seen.probes, seen.retries) == (1, 1)


async def test_a_pause_of_an_earlier_version_can_be_probed(mongo):
    """It counts no retries."""
    now = mongo.clock.now().replace(microsecond=0)
    row = {"reason": "outage", "since": now, "next_probe_at": now, "probes": 2, "client": "x"}
    await mongo.providers.insert_one({"_id": "acme", "paused": row})
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    seen = await stored(mongo)
    assert (seen.retries, seen.next_retry_at) == (0, None)
    assert await pauses.take_turn(ACME, seen, False)
    assert (await stored(mongo)).retries == 1


@pytest.mark.parametrize(
    "count",
    [
        None,
        -1,
        -9,
        2**31 - 1,
        2**31,
        Int64(2**63 - 1),
        Int64(-(2**63)),
        3.0,
        float("nan"),
        "x",
        True,
        [],
        [5],
        {},
        Code("x"),
    ],
)
@pytest.mark.parametrize("field", ["probes", "retries"])
@pytest.mark.parametrize("proven", [False, True])
async def test_a_pause_with_an_odd_count_is_probed_by_one_replica(mongo, field, count, proven):
    """Else nobody would probe, and the provider would rest until an operator looks."""
    now = mongo.clock.now().replace(microsecond=0)
    row = {
        "reason": "outage",
        "since": now,
        "next_probe_at": now,
        "next_retry_at": now,
        "probes": 0,
        "retries": 0,
    }
    await mongo.providers.insert_one({"_id": "acme", "paused": row | {field: count}})
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    seen = await stored(mongo)
    assert await pauses.take_turn(ACME, seen, proven)
    assert not await pauses.take_turn(ACME, seen, proven)
    assert await pauses.take_turn(ACME, await stored(mongo), proven)


async def test_a_turn_is_gone_when_the_pause_has_ended_or_is_another(mongo):
    """It was ended and began anew since it was read."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(ACME, Reason.OUTAGE)
    seen = await stored(mongo)
    await pauses.resume(ACME)
    assert not await pauses.take_turn(ACME, seen)
    await asyncio.sleep(0.005)  # a pause is known by its beginning, in milliseconds
    await pauses.pause(ACME, Reason.OUTAGE)
    assert not await pauses.take_turn(ACME, seen)


async def test_an_operators_pause_is_neither_overwritten_nor_ended(mongo):
    """Whatever the provider answers."""
    await mongo.providers.insert_one({"_id": "acme", "paused": {"reason": "operator", "by": "me@here"}})
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(ACME, Reason.OUTAGE)
    await pauses.resume(ACME)
    assert (await mongo.providers.find_one({"_id": "acme"}))["paused"] == {
        "reason": "operator",
        "by": "me@here",
    }


async def test_a_client_is_known_by_a_fingerprint_that_tells_nothing(mongo):
    """Another secret or another URL is another client; the secret is not in the database."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(ACME, Reason.WRONG_CLIENT)
    other = replace(ACME, client_secret=Secret("another"))
    moved = replace(ACME, definition=replace(ACME.definition, token_url="https://acme.test/other"))
    assert len({pauses.client_of(one) for one in (ACME, other, moved)}) == 3
    assert (await stored(mongo)).client == pauses.client_of(ACME)
    assert "canary" not in str(await mongo.providers.find_one({"_id": "acme"}))


@pytest.mark.parametrize(
    "odd",
    [
        "yes",
        {},
        {"reason": 7},
        {"reason": "else"},
        {"reason": Code("outage")},
        {"reason": "outage", "probes": "x", "retries": True, "next_probe_at": 5, "client": Code("x")},
    ],
)
def test_what_is_not_understood_is_a_pause_all_the_same(odd):
    """Somebody wrote it by hand: nothing is asked until it is understood."""
    pause = pause_of({"_id": "acme", "paused": odd})
    assert pause.reason in (Reason.OPERATOR, Reason.OUTAGE)
    assert pause.probes == 0


async def test_a_pause_that_probes_would_prolong_names_no_probe(mongo):
    """A refused call of this provider costs a grant: only its outage is probed, or another client."""
    spending = replace(ACME, definition=replace(ACME.definition, spends_on_refusal=True))
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.pause(spending, Reason.WRONG_CLIENT)
    first = await stored(mongo)
    assert (first.next_probe_at, first.next_retry_at) == (None, None)
    assert await pauses.take_turn(spending, first)
    assert (await stored(mongo)).next_probe_at is None
    await pauses.resume(spending)
    await pauses.pause(spending, Reason.OUTAGE)
    assert (await stored(mongo)).next_probe_at is not None


async def test_a_pause_and_its_end_are_events_whoever_reads_them(mongo):
    """The document keeps the last pause that is over. What another program has stored is no event."""
    pauses = MongoPauses(mongo, keyring=lambda: RING)
    await pauses.resume(ACME)
    assert await PauseEvents(mongo).events() == []
    await pauses.pause(ACME, Reason.WRONG_CLIENT)
    since = (await stored(mongo)).since
    [paused] = await PauseEvents(mongo).events()
    assert (paused.type, paused.provider, paused.at, paused.kind) == (
        "provider.paused",
        "acme",
        since,
        Reason.WRONG_CLIENT.value,
    )
    await pauses.resume(ACME)
    await pauses.resume(ACME)
    [resumed] = await PauseEvents(mongo).events()
    assert (resumed.type, resumed.id.partition(":")[2]) == ("provider.resumed", paused.id.partition(":")[2])
    for value in ("text", [], {"since": "x"}, Code("x()"), 7):
        await mongo.providers.update_one({"_id": "acme"}, {"$set": {"paused": value, "resumed": value}})
        assert await PauseEvents(mongo).events() == []
    await pauses.resume(ACME)
    assert await PauseEvents(mongo).events() == []
