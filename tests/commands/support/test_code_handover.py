"""A code on its way to a daemon: what ends the wait of the command."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.commands.support.code_handover import follow_device, hand_over
from daemon.commands.support.failure import Exit, Failed
from daemon.domain.consent_request import (
    ConsentFailure,
    ConsentFailureKind,
    ConsentKind,
    ConsentResult,
    identified,
)
from tests.adapters.mongo.connecting.consent_bench import REQUEST, Bench

OURS = identified(REQUEST)
ID = OURS.id
SHORT = timedelta(milliseconds=300)
RESULT = ConsentResult(scope="read", missing_scopes=("write",), expires_at=None)


@pytest.fixture
async def bench(mongod: str, database_name: str, mongo_client: Any) -> AsyncIterator[Bench]:
    found = Bench(mongod, database_name, mongo_client)
    yield found
    await found.mongo.close()


async def taken(bench: Bench) -> MongoConsents:
    """Play the daemon, which takes the code as soon as it is there."""
    daemon = bench.of("daemon")
    while not await daemon.waiting(["acme"]):
        await asyncio.sleep(0.02)
    (waiting,) = await daemon.waiting(["acme"])
    bench.ids["c1"] = waiting.id
    assert await daemon.take(waiting.id) is not None
    return daemon


async def handed(bench: Bench, **limits: timedelta) -> ConsentResult:
    return await hand_over(bench.of("command"), OURS, state_hash="h", **limits)


async def test_the_result_of_the_daemon_is_returned(bench: Bench) -> None:
    """With the scopes that were not granted."""
    waiting = asyncio.create_task(handed(bench))
    await (await taken(bench)).done(ID, RESULT)
    assert await waiting == RESULT


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConsentFailureKind.REFUSED, Exit.FAILED),
        (ConsentFailureKind.OTHER_ACCOUNT, Exit.FAILED),
        (ConsentFailureKind.UNAVAILABLE, Exit.UNAVAILABLE),
    ],
)
async def test_a_failure_of_the_daemon_is_raised(bench: Bench, kind: ConsentFailureKind, code: Exit) -> None:
    """In its words."""
    waiting = asyncio.create_task(handed(bench))
    await (await taken(bench)).failed(ID, ConsentFailure(kind=kind, message="because"))
    with pytest.raises(Failed, match=r"because") as raised:
        await waiting
    assert raised.value.code is code


async def test_without_a_daemon_the_code_is_withdrawn(bench: Bench) -> None:
    """A daemon that starts later finds nothing to present."""
    with pytest.raises(Failed, match="no daemon has taken") as raised:
        await handed(bench, taken_within=SHORT)
    assert raised.value.code is Exit.UNAVAILABLE
    bench.ids["c1"] = ID
    document = bench.document()
    assert (document["state"], document["code"], document["code_verifier"]) == ("failed", None, None)
    assert document["failure"]["kind"] == "expired"
    assert await bench.of("daemon").take(ID) is None


async def test_a_daemon_that_does_not_finish_is_named(bench: Bench) -> None:
    """What it took is not withdrawn."""
    waiting = asyncio.create_task(handed(bench, ended_within=SHORT))
    await taken(bench)
    with pytest.raises(Failed, match="not finished") as raised:
        await waiting
    assert raised.value.code is Exit.UNAVAILABLE
    assert bench.document()["state"] == "asked"


async def test_a_request_that_vanishes_is_an_end(bench: Bench) -> None:
    """Somebody has dropped the collection."""
    waiting = asyncio.create_task(handed(bench))
    await taken(bench)
    bench.consents.delete_many({})
    with pytest.raises(Failed, match="no longer"):
        await waiting


DEVICE = identified(
    replace(REQUEST, kind=ConsentKind.DEVICE, code_verifier=None, redirect_uri="", interval=timedelta(0))
)


async def followed(bench: Bench) -> ConsentResult:
    return await follow_device(bench.of("command"), DEVICE, state_hash="h", life=timedelta(minutes=15))


async def test_a_device_code_is_followed_through_its_polls(bench: Bench) -> None:
    """Each of them leaves the request waiting, and the last one ends it."""
    waiting = asyncio.create_task(followed(bench))
    daemon = await taken(bench)
    for _ in range(2):
        await daemon.wait_again(DEVICE.id, None)
        assert await daemon.take(DEVICE.id) is not None
    assert not waiting.done()
    await daemon.done(DEVICE.id, RESULT)
    assert await waiting == RESULT


async def test_a_command_that_is_ended_ends_the_polls(bench: Bench) -> None:
    """Also if it is ended in the middle of one."""
    waiting = asyncio.create_task(followed(bench))
    daemon = await taken(bench)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0.05)
    await daemon.wait_again(DEVICE.id, None)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bench.ids["c1"] = DEVICE.id
    document = bench.document()
    assert (document["state"], document["code"]) == ("failed", None)
    assert await daemon.waiting(["acme"]) == []
