"""Events reach their receivers from the real daemon: signed, once while nothing dies, and never by way of one another."""

import asyncio
import base64
import hmac
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.notifying.outbox import MongoOutbox
from daemon.domain.hook import Route
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from tests.e2e.daemon_process import DaemonProcess, Install, Installation
from tests.support import wall_clock
from tests.support.receiver import Receiver

OLD, NEW = b"o" * 32, b"n" * 32
ACME = {"acme": {"token_url": "http://127.0.0.1:1/token", "client_auth": "none", "client_id": "me"}}


def secret(key: bytes) -> str:
    return f'"whsec_{base64.b64encode(key).decode()}"'


def hook(name: str, url: str, text: str, more: str = "") -> str:
    return f'\n[[hooks]]\nname = "{name}"\nurl = "{url}"\nsecret = {text}\nallow_private = true\n{more}\n'


def event(name: str, kind: OwnerEventType = OwnerEventType.NEEDS_REAUTH) -> OwnerEvent:
    return OwnerEvent(
        id=name,
        type=kind,
        at=wall_clock.now(),
        who_acts=Actor.OWNER,
        provider="acme",
        token="acme:1",
        code=name,
    )


@asynccontextmanager
async def outbox(place: Installation, *names: str) -> AsyncIterator[MongoOutbox]:
    """The outbox, as another process of the installation has it."""
    store: Any = place.tables["store"]
    mongo = Mongo(
        uri=Secret(store["uri"]),
        database=store["database"],
        collection="tokens",
        clock=Clock(),
        observe=lambda _event: None,
    )
    try:
        await mongo.adapt()
        yield MongoOutbox(mongo, routes=lambda: [Route(name=name) for name in names])
    finally:
        await mongo.close()


async def text_at(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not found():
            await asyncio.sleep(0.05)


def signed_with(headers: dict[str, str], body: bytes) -> set[bytes]:
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = headers["webhook-signature"].split(" ")
    keys = {key: "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in (OLD, NEW)}
    return {key for key, text in keys.items() if text in signatures}


async def reload(daemon: DaemonProcess) -> None:
    before = len([one for one in daemon.lines if one["event"] == "reload.done"])
    daemon.send_signal(signal.SIGHUP)
    await until(lambda: len([one for one in daemon.lines if one["event"] == "reload.done"]) > before)


async def test_while_a_secret_changes_each_request_has_both_signatures(install: Install) -> None:
    """A receiver changes when it likes: it verifies before, while and after."""
    place = install(ACME)
    plain = place.config.read_text()
    with Receiver() as receiver:
        async with outbox(place, "crm") as box:
            place.config.write_text(plain + hook("crm", receiver.url, secret(OLD)))
            async with place.running() as daemon:
                await daemon.ready()
                for number, text in enumerate(
                    (secret(OLD), f"[{secret(OLD)}, {secret(NEW)}]", secret(NEW)), start=1
                ):
                    place.config.write_text(plain + hook("crm", receiver.url, text))
                    await reload(daemon)
                    await box.add([event(f"e{number}")])
                    await until(lambda n=number: len(receiver.requests) >= n)  # type: ignore[misc]
                assert await daemon.stop() == 0
    assert [signed_with(*one) for one in receiver.requests] == [{OLD}, {OLD, NEW}, {NEW}]
    log = "".join(str(line) for line in daemon.lines)
    assert base64.b64encode(OLD).decode() not in log


async def test_two_replicas_share_the_deliveries(install: Install) -> None:
    """While nothing dies, each event is sent once."""
    first, second = install(ACME), install(ACME)
    with Receiver() as receiver:
        for place in (first, second):
            place.config.write_text(place.config.read_text() + hook("crm", receiver.url, secret(OLD)))
        async with outbox(first, "crm") as box, first.running() as one, second.running() as two:
            await one.ready()
            await two.ready()
            await box.add([event(f"e{n}") for n in range(200)])
            await until(lambda: len({body["data"]["code"] for body in receiver.bodies}) == 200)
            assert await one.stop() == 0
            assert await two.stop() == 0
    assert len(receiver.requests) == 200


async def test_a_receiver_that_fails_delays_no_other_and_gets_its_events_later(install: Install) -> None:
    place = install(ACME)
    up = False
    with Receiver(lambda _body: 204 if up else 500) as failing, Receiver() as living:
        place.config.write_text(
            place.config.read_text()
            + hook("failing", failing.url, secret(OLD))
            + hook("living", living.url, secret(OLD), 'events = ["token.*"]')
        )
        async with outbox(place, "failing", "living") as box, place.running() as daemon:
            await daemon.ready()
            await box.add([event("e1"), event("e2")])
            await until(lambda: len(living.requests) == 2 and len(failing.requests) >= 2)
            line = await daemon.event("hook.failed", hook="failing")
            assert (line["outcome"], line["status"]) == ("refused", 500)
            metrics = await text_at(f"{await daemon.url()}/metrics")
            assert 'refreshd_hook_deliveries_total{hook="living",outcome="delivered"} 2.0' in metrics
            assert 'refreshd_hook_deliveries_total{hook="living",outcome="timeout"} 0.0' in metrics
            up = True
            await until(lambda: len({one["data"]["code"] for one in failing.bodies}) == 2)
            await daemon.event("hook.back", hook="failing")
            assert await daemon.stop() == 0


async def test_without_hooks_nothing_is_asked(
    install: Install, mongo_client: Any, database_name: str
) -> None:
    """Most installations have none, and pay nothing."""
    database = mongo_client[database_name]
    database.command("profile", 2)
    place = install(ACME)
    async with place.running() as daemon:
        await daemon.ready()
        await asyncio.sleep(3)
        assert await daemon.stop() == 0
    database.command("profile", 0)
    asked = {
        one["ns"].partition(".")[2] for one in database["system.profile"].find({"op": {"$ne": "command"}})
    }
    assert "tokens" in asked
    assert asked.isdisjoint({"tokens_outbox", "tokens_hooks"})


@pytest.mark.parametrize("name", ["e1"])
async def test_an_event_of_another_process_is_found_soon(install: Install, name: str) -> None:
    """The access service stores events too, and wakes nobody."""
    place = install(ACME)
    with Receiver() as receiver:
        place.config.write_text(place.config.read_text() + hook("crm", receiver.url, secret(OLD)))
        async with outbox(place, "crm") as box, place.running() as daemon:
            await daemon.ready()
            await box.add([event(name)])
            await until(lambda: len(receiver.requests) == 1)
            assert await daemon.stop() == 0
