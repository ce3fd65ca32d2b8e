"""The whole daemon as a real process, against a real MongoDB and the sandbox: what it promises under faults."""

import asyncio
import hashlib
import signal
import time
from datetime import timedelta

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.adapters.keyring import KeyRing
from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.support import wall_clock

COUNT = 60
FILLED_IN = {
    "vars": {},
    "extra": {},
    "meta": {},
    "last_used_at": {"$type": "null"},
}  # what an application left out


class Store:
    """The tokens as an application sees them."""

    def __init__(self, mongod: str, database_name: str) -> None:
        self.client = AsyncMongoClient(mongod, tz_aware=True)
        self.tokens = self.client[database_name]["tokens"]
        self.keyring = KeyRing({"none": bytes(32)}, active="none")  # the installation's, once there is one

    async def insert(self, consents: list[dict], *, lifetime: timedelta = timedelta(minutes=2)) -> None:
        """Write tokens as an application may, all due now."""
        now = wall_clock.now()
        await self.tokens.insert_many(
            {
                "_id": f"sandbox:{consent['grant']}",
                "provider": "sandbox",
                "account": consent["grant"],
                "state": "active",
                **{
                    field: self.keyring.seal(
                        consent[field], token_id=f"sandbox:{consent['grant']}", field=field
                    )
                    for field in ("access_token", "refresh_token")
                },
                "issued_at": now - timedelta(hours=1),
                "expires_at": now + lifetime,
                "due_at": now,
            }
            for consent in consents
        )

    async def all_due(self) -> None:
        """As `refreshd refresh` does for each."""
        await self.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})

    async def all_renewed(self) -> None:
        """Renew every token once more, after the requests in flight: their failures put a token off, by a minute or more if
        it has failed several times.
        """
        await self.settle(lambda documents: not any((d.get("lease") or {}).get("claim") for d in documents))
        before = wall_clock.now()
        await self.all_due()
        await self.settle(
            lambda documents: all((d.get("refreshed_at") or before) > before for d in documents)
        )

    async def current(self) -> dict[str, str]:
        """The sha256 of each stored refresh token, by grant."""
        return {
            document["account"]: hashlib.sha256(
                self.keyring.open(
                    document["refresh_token"], token_id=document["_id"], field="refresh_token"
                ).encode()
            ).hexdigest()
            async for document in self.tokens.find({})
        }

    async def settle(self, predicate, *, within: float = 40) -> None:
        """Wait until `predicate` of all documents holds. Polls the database: nothing else tells a stranger."""
        limit = time.monotonic() + within
        while True:
            documents = await self.tokens.find({}).to_list()
            if predicate(documents):
                return
            assert time.monotonic() < limit, [d for d in documents if d.get("last_failure")][:3]
            await asyncio.sleep(0.2)


@pytest.fixture
async def store(mongod, database_name):
    store = Store(mongod, database_name)
    yield store
    await store.client.close()


@pytest.fixture
async def sandbox():
    """Starts sandboxes and stops them."""
    running = []

    async def start(**options) -> Sandbox:
        one = Sandbox(SandboxOptions(lifetime=timedelta(minutes=10), seed=7, **options))
        await one.start()
        running.append(one)
        return one

    yield start
    for one in running:
        await one.stop()


@pytest.fixture
def place(install, store):
    """An installation that has the sandbox for its provider."""

    def make(sandbox: Sandbox) -> Installation:
        client = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
        installation = install(
            {"sandbox": {"token_url": sandbox.token_url, "concurrency": 256, **client}}, refresh=REFRESH
        )
        store.keyring = installation.keyring
        return installation

    return make


REFRESH = {"sweep_every": "1s", "request_timeout": "2s", "lease": "24s", "drain": "10s"}


async def metrics_of(daemon) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{await daemon.url()}/metrics") as answer:
        return await answer.text()


def current_of(ledger: list[dict]) -> dict[str, str]:
    return {grant["id"]: grant["current"] for grant in ledger}


@pytest.mark.slow
async def test_with_a_grace_window_no_fault_costs_a_grant(place, store, sandbox):
    """Every fault the sandbox knows strikes a fifth of the requests; with 60 s of grace no family is revoked, and in
    the end the database holds for each grant what the provider's ledger calls current."""
    provider = await sandbox(grace=timedelta(seconds=60))
    installation = place(provider)
    await store.insert(provider.consent(COUNT))
    for kind in ("hang", "reset", "error", "outage"):
        for after in (True, False):
            provider.add_fault({"kind": kind, "share": 0.04, "after_processing": after})
    for kind in ("throttle", "garbage", "cut", "slow", "huge", "wrong_type"):
        provider.add_fault(
            {"kind": kind, "share": 0.04, "retry_after": 1}
            if kind == "throttle"
            else {"kind": kind, "share": 0.04}
        )
    async with installation.running() as daemon:
        await daemon.ready()
        await store.settle(lambda documents: sum(d.get("revision", 0) > 0 for d in documents) == COUNT)
        for _ in range(3):
            await store.all_due()
            await asyncio.sleep(1.5)
        provider.clear_faults()
        await store.all_renewed()
        assert await daemon.stop() == 0
        ledger = provider.ledger()
        assert [grant["revoked_by"] for grant in ledger] == [None] * COUNT
        assert await store.current() == current_of(ledger)
        struck = {one["fault"] for grant in ledger for one in grant["presented"]} - {None}
        assert len(struck) >= 7, f"too few kinds of faults struck: {struck}"


@pytest.mark.slow
async def test_without_grace_faults_before_processing_cost_nothing(place, store, sandbox):
    """With grace 0 and reuse that revokes the family, faults that lose no processed reply lose no grant."""
    provider = await sandbox()
    installation = place(provider)
    await store.insert(provider.consent(COUNT))
    for kind in ("hang", "reset", "error", "outage", "cut", "slow"):
        provider.add_fault({"kind": kind, "share": 0.05, "after_processing": False})
    provider.add_fault({"kind": "throttle", "share": 0.05, "retry_after": 1})
    provider.add_fault({"kind": "wrong_type", "share": 0.05})
    async with installation.running() as daemon:
        await daemon.ready()
        for _ in range(3):
            await asyncio.sleep(1.5)
            await store.all_due()
        provider.clear_faults()
        await store.all_renewed()
        assert await daemon.stop() == 0
        ledger = provider.ledger()
        assert [grant["revoked_by"] for grant in ledger] == [None] * COUNT
        assert await store.current() == current_of(ledger)


async def test_without_grace_a_lost_reply_is_counted_as_in_doubt(place, store, sandbox):
    """A processed reply that never reached us is the one loss nobody can prevent: it is counted, presented once more,
    and the token's last word says honestly that a successor may have been in the lost reply."""
    provider = await sandbox()
    installation = place(provider)
    await store.insert(provider.consent(5))
    provider.add_fault({"kind": "reset", "share": 1.0, "count": 5, "after_processing": True})
    async with installation.running() as daemon:
        await daemon.ready()
        await store.settle(lambda documents: all(d["state"] == "needs_reauth" for d in documents))
        assert 'refreshd_in_doubt_total{provider="sandbox"} 5.0' in await metrics_of(daemon)
        document = await store.tokens.find_one({})
        assert document["last_failure"]["kind"] == "rejected"
        assert "an earlier request got no response" in document["last_failure"]["message"]
        assert document["due_at"] is None
        assert document["lease"] is None
        assert [len(grant["presented"]) for grant in provider.ledger()] == [2] * 5
        assert await daemon.stop() == 0


async def test_a_stop_with_200_requests_in_flight_records_every_answer(place, store, sandbox):
    """SIGTERM while 200 requests wait for the provider: every reply is recorded, exit 0, within the drain limit."""
    provider = await sandbox(latency=timedelta(seconds=1.5))
    installation = place(provider)
    await store.insert(provider.consent(200))
    async with installation.running() as daemon:
        limit = time.monotonic() + 15
        while sum(len(grant["presented"]) for grant in provider.ledger()) < 200:
            assert time.monotonic() < limit
            await asyncio.sleep(0.05)
        assert not any(one["replied_at"] for grant in provider.ledger() for one in grant["presented"])
        begun = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert time.monotonic() - begun < 10
        assert await store.current() == current_of(provider.ledger())
        assert await store.tokens.count_documents({"revision": 1, "lease": None, **FILLED_IN}) == 200


async def test_an_application_that_consents_anew_during_a_request_wins(place, store, sandbox):
    """A re-consent that is written while the provider is thinking stays; the late result does not replace it."""
    provider = await sandbox(latency=timedelta(seconds=1))
    installation = place(provider)
    old, new = provider.consent(2)
    await store.insert([old])
    async with installation.running() as daemon:
        limit = time.monotonic() + 15
        while not any(grant["presented"] for grant in provider.ledger()):
            assert time.monotonic() < limit
            await asyncio.sleep(0.02)
        name = f"sandbox:{old['grant']}"
        fresh = store.keyring.seal(new["refresh_token"], token_id=name, field="refresh_token")
        later = wall_clock.now() + timedelta(hours=1)
        await store.tokens.update_one(
            {"_id": name},
            {
                "$set": {
                    "refresh_token": fresh,
                    "access_token": store.keyring.seal(
                        new["access_token"], token_id=name, field="access_token"
                    ),
                    "expires_at": later,
                    "issued_at": wall_clock.now(),
                    "refresh_expires_at": None,
                    "state": "active",
                    "failures": 0,
                    "last_failure": None,
                    "due_at": later - timedelta(minutes=5),
                }
            },
        )
        await daemon.event("token.superseded", token=name)
        document = await store.tokens.find_one({"_id": name})
        assert document["refresh_token"] == fresh
        assert await daemon.stop() == 0
