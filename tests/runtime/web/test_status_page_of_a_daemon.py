"""The status page of a real daemon: its numbers are the store's and its own."""

import asyncio
from datetime import timedelta

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.faults.stage import Stage

TOKENS = 3
WITHIN = 180  # the store is counted every 15 s, and less often if that takes long


@pytest.mark.slow
async def test_it_tells_what_was_renewed_and_what_falls_due(mongod, database_name, tmp_path):
    """Three tokens renewed by this instance, and due again within the hour."""
    async with Sandbox(SandboxOptions(lifetime=timedelta(minutes=20))) as sandbox:
        stage = Stage(tmp_path, uri=mongod, database=database_name, sandbox=sandbox)
        place = stage.install(concurrency=4)
        await stage.consent(TOKENS)
        async with place.running() as daemon, aiohttp.ClientSession(await daemon.ready()) as client:
            await daemon.event("token.renewed", count=TOKENS)
            async with asyncio.timeout(WITHIN):
                while True:
                    async with client.get("/status") as answer:
                        status = await answer.json()
                    if sum(status["due_next_hour"] or ()) == TOKENS and not status["overdue"]:
                        break  # counted after the last renewal
                    await asyncio.sleep(0.2)
            async with client.get("/") as answer:
                page = await answer.text()
        await stage.close()
    assert len(status["due_next_hour"]) == 12
    assert {name: sum(counts) for name, counts in status["last_hour"]["outcomes"].items()} == {
        "renewed": TOKENS
    }
    assert sum(lead is not None for lead in status["last_hour"]["shortest_lead_seconds"]) >= 1
    assert status["providers"]["sandbox"]["states"] == {"active": TOKENS}
    for words in ("All is well", "3 tokens fall due", "3 in total", "none was late", status["instance"]):
        assert words in page
