"""An alert's whole path, with the real parts: daemon, Prometheus, Alertmanager, and whoever is called.

All goes wrong at the same time, at one provider each, and a fifth stays well: one daemon, one Prometheus, and no more
time than the slowest takes.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.operations.monitoring import HOST, Alertmanager, Prometheus, Receiver, free_port
from tests.support import wall_clock

pytestmark = [pytest.mark.operations, pytest.mark.slow]

NAMES = ("dead", "down", "refused", "throttled", "well")
TOKENS = 25  # of each provider; an outage is called one after 20 that failed alike
PRESS_EVERY = timedelta(seconds=1)
GUESS_EVERY = timedelta(seconds=1)
ON_CALL, BY_DAY = "on-call", "by-day"

# What goes wrong, the alert that says so, and who is to be called.
EXPECTED = (
    ("dead", "RefreshdNeedsReauthRising", BY_DAY),
    ("down", "RefreshdProviderOutage", BY_DAY),
    ("refused", "RefreshdClientRefused", ON_CALL),
    ("throttled", "RefreshdThrottled", BY_DAY),
    ("throttled", "RefreshdRefreshesFailing", BY_DAY),
)
OF_ACCESS = ("RefreshdAccessRefused", "RefreshdAnomalies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Five providers, one daemon, and who hears of it."""

    sandboxes: dict[str, Sandbox]
    place: Installation
    daemon: DaemonProcess
    tokens: Any
    prometheus: Prometheus
    receiver: Receiver

    async def told(self, status: str) -> None:
        """Wait until every expected alert was told to be so, to whom it should be."""
        await asyncio.gather(
            *(self.receiver.arrived(status, alert, provider=name, who=who) for name, alert, who in EXPECTED),
            *(self.receiver.arrived(status, alert, job="refreshd", who=BY_DAY) for alert in OF_ACCESS),
        )

    def believe(self, secret: str) -> None:
        """Reload with this client secret for the provider that will refuse it, or not."""
        tables = dict(self.place.tables)
        tables["providers.refused"] = {**tables["providers.refused"], "client_secret": secret}
        self.place.configure(tables)
        self.daemon.send_signal(signal.SIGHUP)

    async def press(self) -> None:
        """All that rests is due now, again and again: traffic, as applications may wish for it."""
        while True:
            now = wall_clock.now()
            resting = {"state": "active", "lease": None, "due_at": {"$gt": now}}
            await self.tokens.update_many(resting, {"$set": {"due_at": now}})
            await asyncio.sleep(PRESS_EVERY.total_seconds())


async def test_what_goes_wrong_is_told_and_so_is_its_end(
    mongod: str, database_name: str, tmp_path: Path, prometheus: str, alertmanager: str
):
    """Dead grants, an outage, a wrong secret, a throttle, guesses at access keys, and then the daemon's own end: each alert reaches whom it is
    for, and is resolved once all is well; the provider that stays well is never named."""
    async with AsyncExitStack() as closing:
        sandboxes = {
            name: await closing.enter_async_context(
                Sandbox(SandboxOptions(lifetime=timedelta(minutes=10), seed=7))
            )
            for name in NAMES
        }
        receiver = await closing.enter_async_context(Receiver())
        calls = Alertmanager(alertmanager, tmp_path / "alertmanager", receiver=receiver)
        port, access = free_port(), free_port()
        targets = [f"{HOST}:{port}", f"{HOST}:{access}"]
        watch = Prometheus(prometheus, tmp_path / "prometheus", targets=targets, alertmanager=calls)
        place = Installation(
            tmp_path / "installation",
            uri=mongod,
            database=database_name,
            providers={name: client(sandbox) for name, sandbox in sandboxes.items()},
            server={"port": port},
            access={"port": 0, "admin_port": access},
        )
        client_of_ours = await closing.enter_async_context(AsyncMongoClient(mongod, tz_aware=True))
        tokens = client_of_ours[database_name]["tokens"]
        for name, sandbox in sandboxes.items():
            await tokens.insert_many(documents(name, sandbox, place))
        await closing.enter_async_context(calls.running())
        service = await closing.enter_async_context(place.serving())
        await service.url()
        await closing.enter_async_context(watch.running())
        async with place.running() as daemon:
            scene = Scene(
                sandboxes=sandboxes,
                place=place,
                daemon=daemon,
                tokens=tokens,
                prometheus=watch,
                receiver=receiver,
            )
            async with going_on(scene.press()):
                await at_rest(scene)
                await go_wrong(scene)
                async with going_on(guess(await service.url())):
                    await scene.told("firing")
                await come_right(scene)
                await scene.told("resolved")
            await daemon.stop(signal.SIGKILL)
            await receiver.arrived("firing", "RefreshdDown", instance=f"{HOST}:{port}", who=ON_CALL)
        async with place.running():
            await receiver.arrived("resolved", "RefreshdDown", instance=f"{HOST}:{port}", who=ON_CALL)
        assert [call for call in receiver.calls if call[2].get("provider") == "well"] == []


async def at_rest(scene: Scene) -> None:
    """All is renewed and counted, every provider has accepted its client, and nothing is alarmed about it."""
    await scene.daemon.ready()
    for name in NAMES:
        await scene.prometheus.until(
            f'refreshd_refreshes_total{{provider="{name}", outcome="renewed"}} >= {TOKENS}'
            f' and on (provider) refreshd_tokens{{state="needs_reauth"}} == 0'
        )
    assert scene.receiver.calls == []


async def go_wrong(scene: Scene) -> None:
    scene.sandboxes["dead"].add_fault({"kind": "dead_grant", "count": 3})
    scene.sandboxes["down"].add_fault({"kind": "outage"})
    scene.sandboxes["throttled"].add_fault({"kind": "throttle", "share": 0.5})
    scene.believe("no longer the right one")


async def guess(url: str) -> None:
    """A stranger presents wrong access keys to the access service, again and again, each second from one more address:
    what one burst adds leaves Prometheus' short window before a busy machine has looked at it.
    """
    for n in range(1, 255):
        connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{n}", 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            for _ in range(15):
                async with session.get(
                    f"{url}/v1/tokens/well/one", headers={"Authorization": "Bearer wrong"}
                ) as answer:
                    assert answer.status in (401, 429)
        await asyncio.sleep(GUESS_EVERY.total_seconds())


async def come_right(scene: Scene) -> None:
    """The faults end; the operator does what the documents say, and the owners of the dead ones consent again."""
    for sandbox in scene.sandboxes.values():
        sandbox.clear_faults()
    scene.believe(scene.sandboxes["refused"].client_secret)
    dead = await scene.tokens.find({"state": "needs_reauth"}).to_list()
    assert {one["provider"] for one in dead} == {"dead"}
    assert len(dead) == 3
    done = await scene.place.refreshd("resume", "down", *(one["_id"] for one in dead))
    assert done.code == 0, done.stderr


@asynccontextmanager
async def going_on(work: Awaitable[None]) -> AsyncIterator[None]:
    """`work` beside the block; whatever breaks it breaks the test."""
    task = asyncio.ensure_future(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def client(sandbox: Sandbox) -> dict[str, object]:
    return {
        "token_url": sandbox.token_url,
        "client_id": sandbox.client_id,
        "client_secret": sandbox.client_secret,
        "client_auth": "basic",
        "confirm_after": "0s",
    }


def documents(name: str, sandbox: Sandbox, place: Installation) -> list[dict[str, Any]]:
    """Consents, written as an application may, due now."""
    now = wall_clock.now()
    made = []
    for consent in sandbox.consent(TOKENS):
        identity = f"{name}:{consent['grant']}"
        made.append(
            {
                "_id": identity,
                "provider": name,
                "account": consent["grant"],
                "state": "active",
                **{
                    field: place.keyring.seal(str(consent[field]), token_id=identity, field=field)
                    for field in ("access_token", "refresh_token")
                },
                "issued_at": now,
                "expires_at": now + timedelta(minutes=10),
                "due_at": now,
                "revision": 1,
            }
        )
    return made
