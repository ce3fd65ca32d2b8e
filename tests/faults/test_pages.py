"""A provider answers with a maintenance page, status 200, while a lot is due: it is asked little, and nothing is left."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.faults.stage import Stage
from tests.support import wall_clock

TOKENS, CONCURRENCY = 2_000, 64
LASTS = timedelta(minutes=5)
RENEWED_WITHIN = timedelta(minutes=2)
MOST_ASKED = 40  # beyond those in flight when the page came
MOST_KEPT = 32 * 1024 * 1024  # bytes of the journal's files


@pytest.mark.long
async def test_what_a_page_kept_waiting_is_renewed_within_two_minutes_of_its_end(
    mongod: str, database_name: str, tmp_path: Path, capsys
):
    """Two thousand tokens are due. For five minutes some forty requests are made, the journal stays small, and
    afterwards nobody has to do anything."""
    async with AsyncExitStack() as closing:
        sandbox = await closing.enter_async_context(Sandbox(SandboxOptions(lifetime=timedelta(minutes=30))))
        stage = Stage(tmp_path, uri=mongod, database=database_name, sandbox=sandbox, sweep_every="15s")
        closing.push_async_callback(stage.close)
        place = stage.install(concurrency=CONCURRENCY)
        await stage.consent(CONCURRENCY)
        async with place.running() as daemon:
            await stage.until(lambda: stage.refreshes() == CONCURRENCY, of=daemon)
            sandbox.add_fault({"kind": "page"})
            await stage.consent(TOKENS)
            await asyncio.sleep(LASTS.total_seconds())
            sandbox.clear_faults()
            ended = wall_clock.now()
            await stage.settled(lambda one: one.get("refreshed_at") is not None, within=RENEWED_WITHIN)
            took = wall_clock.now() - ended
            await daemon.stop()
        asked = [
            one for grant in stage.ledger() for one in grant["presented"] if one["outcome"] == "fault:page"
        ]
        kept = sum(file.stat().st_size for file in (place.directory / "state").glob("journal.db*"))
        with capsys.disabled():
            print(
                f"\n{len(asked)} requests met the page, all was renewed {took.total_seconds():.0f} s after its end, "
                f"journal {kept >> 20} MB"
            )
        assert len(asked) <= CONCURRENCY + MOST_ASKED
        assert kept < MOST_KEPT
        assert await stage.differing() == [] == stage.revoked()
