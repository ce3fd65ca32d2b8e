"""None can hurt another: a wrong client secret among many providers, and a provider that hangs beside a healthy one."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import DaemonProcess, Installation
from tests.support import wall_clock

WRONG = "p00"
SWEEP = timedelta(seconds=1)


class Town:
    """Many providers of one daemon: one sandbox for all the good ones, one for the one that is bad."""

    def __init__(
        self, directory: Path, *, uri: str, database: str, good: Sandbox, bad: Sandbox, names: list[str]
    ):
        self.good, self.bad, self.names = good, bad, names
        self._client = AsyncMongoClient(uri, tz_aware=True)
        self.tokens = self._client[database]["tokens"]
        self.place = Installation(
            directory,
            uri=uri,
            database=database,
            providers={name: self.table(name) for name in names},
            refresh={"sweep_every": "1s", "request_timeout": "20s", "lease": "60s", "drain": "25s"},
        )

    def of(self, name: str) -> Sandbox:
        return self.bad if name == WRONG else self.good

    def table(self, name: str, *, secret: str | None = None) -> dict[str, object]:
        of = self.of(name)
        return {
            "token_url": of.token_url,
            "client_auth": "basic",
            "confirm_after": "0s",
            "rotation": "always",
            "client_id": of.client_id,
            "client_secret": secret or of.client_secret,
        }

    def configure(self, table: dict[str, object]) -> None:
        """With this table for the provider that is wrong."""
        self.place.configure({**self.place.tables, f"providers.{WRONG}": table})

    async def put(self, count: int) -> None:
        """So many tokens for each provider, all due now."""
        now = wall_clock.now()
        for name in self.names:
            documents = []
            for consent in self.of(name).consent(count):
                token = f"{name}:{consent['grant']}"
                sealed = {
                    field: self.place.keyring.seal(str(consent[field]), token_id=token, field=field)
                    for field in ("access_token", "refresh_token")
                }
                documents.append(
                    {"_id": token, "provider": name, "account": consent["grant"], "state": "active", **sealed,
                     "issued_at": now - timedelta(hours=1), "expires_at": now + timedelta(minutes=2), "due_at": now}
                )  # fmt: skip
            await self.tokens.insert_many(documents)

    async def states(self) -> Counter[tuple[str, str, bool]]:
        """How many tokens are so: provider, state, renewed."""
        found = self.tokens.find({}, {"provider": 1, "state": 1, "refreshed_at": 1})
        return Counter(
            [(one["provider"], one["state"], one.get("refreshed_at") is not None) async for one in found]
        )

    async def close(self) -> None:
        await self._client.close()


@pytest.fixture
async def town(mongod, database_name, tmp_path):
    async with AsyncExitStack() as closing:
        good, bad = [
            await closing.enter_async_context(Sandbox(SandboxOptions(lifetime=timedelta(minutes=30))))
            for _ in range(2)
        ]

        async def made(providers: int) -> Town:
            names = [f"p{n:02}" for n in range(providers)]
            one = Town(tmp_path / "town", uri=mongod, database=database_name, good=good, bad=bad, names=names)
            closing.push_async_callback(one.close)
            return one

        yield made


async def metrics_of(daemon: DaemonProcess) -> str:
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + "/metrics") as answer:
        return await answer.text()


def asked(sandbox: Sandbox) -> int:
    return sum(len(grant["presented"]) for grant in sandbox.ledger())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "watched", "most"),
    [
        (20, timedelta(seconds=12), 3),
        pytest.param(200, timedelta(minutes=10), 4, marks=pytest.mark.long),
    ],
    ids=["short", "long"],
)
async def test_a_wrong_secret_condemns_nothing_and_disturbs_nobody(town, each, watched, most, capsys):
    """One of 38 providers has a wrong secret: hardly asked, its pause told and measured within a sweep, no token of it
    condemned; all others are renewed on time. With the right secret, a reload ends the pause."""
    place = await town(38)
    place.configure(place.table(WRONG, secret="not-the-secret-of-this-client"))
    await place.put(each)
    begun = time.monotonic()
    async with place.place.running() as daemon:
        told = await daemon.event("provider.paused", within=timedelta(seconds=20))
        noticed = time.monotonic() - begun
        assert (told["provider"], told["reason"]) == (WRONG, "wrong_client")
        assert (
            f'refreshd_provider_paused{{provider="{WRONG}",reason="wrong_client"}} 1.0'
            in await metrics_of(daemon)
        )
        others = [name for name in place.names if name != WRONG]
        async with asyncio.timeout(60):
            while (states := await place.states())[WRONG, "active", False] != each or any(
                states[name, "active", True] != each for name in others
            ):
                await asyncio.sleep(0.2)
        renewed = time.monotonic() - begun
        await asyncio.sleep(max(0.0, watched.total_seconds() - (time.monotonic() - begun)))
        requests = asked(place.bad)
        with capsys.disabled():
            print(
                f"\n38 providers x {each} tokens: paused after {noticed:.1f} s, all others renewed after {renewed:.1f} s, "
                f"{requests} requests with the wrong secret in {time.monotonic() - begun:.0f} s"
            )
        assert requests <= most
        assert {state for name, state, _ in await place.states()} == {"active"}
        assert [line["provider"] for line in daemon.seen("token.postponed")] == [WRONG] * requests
        place.configure(place.table(WRONG))
        daemon.send_signal(signal.SIGHUP)
        await daemon.event("provider.resumed", provider=WRONG, within=timedelta(minutes=6))
        async with asyncio.timeout(60):
            while (await place.states())[WRONG, "active", True] < each - requests:
                await asyncio.sleep(0.2)
        assert await daemon.stop() == 0
    assert place.bad.ledger()
    assert all(grant["revoked_by"] is None for grant in [*place.good.ledger(), *place.bad.ledger()])


@pytest.mark.slow
async def test_a_token_without_its_variable_pauses_nobody(town):
    """Three of them, and due first: they wait, each for itself, and all others of their provider are renewed."""
    place = await town(2)
    base = place.bad.token_url.removesuffix("/token")
    table = {**place.table(WRONG), "token_url": f"{base}/${{leaf}}"}
    place.configure(table)
    place.place.configure({**place.place.tables, f"providers.{WRONG}.variables.leaf": {"pattern": "[a-z]+"}})
    await place.put(30)
    names = [one["_id"] async for one in place.tokens.find({"provider": WRONG}).sort("_id", 1)]
    await place.tokens.update_many({"provider": WRONG}, {"$set": {"vars": {"leaf": "token"}}})
    first = wall_clock.now() - timedelta(minutes=1)
    await place.tokens.update_many({"_id": {"$in": names[:5]}}, {"$set": {"vars": {}, "due_at": first}})
    async with place.place.running() as daemon:
        async with asyncio.timeout(30):
            while (await place.states())[WRONG, "active", True] != 25:
                await asyncio.sleep(0.1)
        assert daemon.seen("provider.paused") == []
        assert await daemon.stop() == 0
    failures = {
        one["_id"]: one["last_failure"]["kind"]
        async for one in place.tokens.find({"last_failure": {"$ne": None}})
    }
    assert failures == dict.fromkeys(names[:5], "misconfigured")


@pytest.mark.slow
async def test_a_hanging_provider_never_takes_another_ones_share(town):
    """Two hundred tokens each, and 64 guaranteed to each: the one hangs and has all of its share in flight, and so has
    the other as soon as it has something due. Nothing is lent without grants. That one's tokens are all renewed before the first timeout of the former."""
    place = await town(2)
    await place.put(200)
    place.bad.add_fault({"kind": "hang", "share": 1.0})
    place.good.add_fault({"kind": "withhold", "share": 1.0})
    async with place.place.running() as daemon:
        await daemon.event("daemon.started")
        async with asyncio.timeout(30):
            while (text := await metrics_of(daemon)) and any(
                f'refreshd_in_flight{{provider="{name}"}} 64.0' not in text for name in place.names
            ):
                await asyncio.sleep(0.02)
        place.good.clear_faults()
        await daemon.event("token.renewed", count=200, provider="p01", within=timedelta(seconds=30))
        assert daemon.seen("token.in_doubt") == []
        place.bad.clear_faults()
