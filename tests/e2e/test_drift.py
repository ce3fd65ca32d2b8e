"""A provider changes while the daemon runs: it is reported within 20 renewals, and the reported lines are right."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import PATIENCE, DaemonProcess
from tests.support import wall_clock

TOKENS, WITHIN = 8, 20
SOON = {"sweep_every": "1s", "request_timeout": "5s", "lease": "30s", "drain": "20s"}


async def behave(sandbox: Sandbox, **wish: object) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{sandbox.url}/behaviour", json=wish) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def put_tokens(tokens: Any, keyring: Any, sandbox: Sandbox) -> None:
    now = wall_clock.now()
    for consent in sandbox.consent(TOKENS):
        name = f"sandbox:{consent['grant']}"
        sealed = {
            field: keyring.seal(str(consent[field]), token_id=name, field=field)
            for field in ("access_token", "refresh_token")
        }
        about = {"_id": name, "provider": "sandbox", "account": consent["grant"], "state": "active"}
        await tokens.insert_one({**about, **sealed, "expires_at": now + timedelta(minutes=1), "due_at": now})


def renewer(daemon: DaemonProcess, tokens: Any, event: str) -> Callable[[], Awaitable[None]]:
    """Return what makes all tokens due, and waits until each has had its reply."""

    async def once() -> None:
        before = len(daemon.seen(event))
        await tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while len(daemon.seen(event)) < before + TOKENS:
                await asyncio.sleep(0.05)

    return once


def renewals_before(daemon: DaemonProcess, kind: str, *, after: int) -> int:
    """Return how many replies came after the line numbered `after`, until the drift was reported."""
    lines = daemon.lines[after:]
    [at] = [
        number
        for number, line in enumerate(lines)
        if line["event"] == "provider.drifted" and line["kind"] == kind
    ]
    return sum(line["event"] in ("token.renewed", "token.postponed") for line in lines[:at])


async def test_a_provider_that_changes_is_reported_with_the_lines_to_change(install, mongod, database_name):
    """Lifetime, rotation, fields and error codes, each once; the reload with the reported lines ends it."""
    async with Sandbox(SandboxOptions(lifetime=timedelta(hours=1))) as sandbox:
        await behave(sandbox, changes_every=0, fields={"region": "eu"})
        client = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
        shipped = {"access_lifetime": "1h", "rotation": "never", "keep": ["region"]}
        url = {"token_url": sandbox.token_url}
        place = install({"sandbox": {**url, **client, **shipped}}, refresh=SOON)
        async with AsyncMongoClient(mongod, tz_aware=True) as mongo, place.running() as daemon:
            tokens = mongo[database_name]["tokens"]
            await daemon.ready()
            renew = renewer(daemon, tokens, "token.renewed")
            await put_tokens(tokens, place.keyring, sandbox)
            for _ in range(4):
                await renew()
            assert daemon.seen("provider.drifted") == []

            await behave(sandbox, lifetime=7200, changes_every=1, fields={"api_domain": "eu-7.acme.test"})
            changed_at = len(daemon.lines)
            for _ in range(3):
                await renew()
            await daemon.event("provider.drifted", kind="lifetime")
            found = {line["kind"]: line for line in daemon.seen("provider.drifted")}
            assert {kind: line["change"] for kind, line in found.items()} == {
                "lifetime": 'access_lifetime = "2h"',
                "rotation": 'rotation = "sometimes"',
                "new_field": 'keep = ["region", "api_domain"]',
                "missing_field": "keep = []",
            }
            assert "eu-7" not in str(found)
            for kind in found:
                assert renewals_before(daemon, kind, after=changed_at) <= WITHIN, kind

            corrected = {"access_lifetime": "2h", "rotation": "sometimes", "keep": ["api_domain"]}
            place.configure({**place.tables, "providers.sandbox": {**url, **client, **corrected}})
            daemon.send_signal(signal.SIGHUP)
            await daemon.event("reload.done")
            for _ in range(4):
                await renew()
            assert len(daemon.seen("provider.drifted")) == 4

            await behave(sandbox, code="grant_gone")
            for grant in sandbox.ledger():
                await withdraw(sandbox, str(grant["id"]))
            changed_at = len(daemon.lines)
            await renewer(daemon, tokens, "token.postponed")()
            line = await daemon.event("provider.drifted", kind="error_code")
            assert line["change"].startswith('{ field = "error", values = ["grant_gone"] }')
            assert renewals_before(daemon, "error_code", after=changed_at) <= WITHIN
            async with (
                aiohttp.ClientSession() as session,
                session.get(await daemon.url() + "/metrics") as answer,
            ):
                text = await answer.text()
            for kind in (*found, "error_code"):
                assert f'refreshd_provider_drift_total{{kind="{kind}",provider="sandbox"}} 1.0' in text
            assert await daemon.stop() == 0


async def withdraw(sandbox: Sandbox, grant: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.delete(f"{sandbox.url}/grants/{grant}") as answer,
    ):
        assert answer.status == 200
