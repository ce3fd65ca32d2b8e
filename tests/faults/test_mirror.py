"""An application that was not changed goes on reading its file, while its tokens rotate and the daemon is killed."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from daemon.domain.mirrored import STAND_IN
from tests.faults.stage import quantiles
from tests.support import wall_clock

READ_EVERY = timedelta(milliseconds=10)
LIFETIME = timedelta(seconds=6)

pytestmark = pytest.mark.alone


@dataclass(slots=True)
class OldApplication:
    """Reads the whole file every 10 ms, as it always did, and remembers each account's newest token."""

    file: Path
    reads: int = 0
    torn: int = 0
    older: int = 0
    seen: int = 0  # tokens in all reads
    live: int = 0  # of them, those with their refresh token
    newest: dict[str, int] = field(default_factory=dict)
    lags: list[timedelta] = field(default_factory=list)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def read_on() -> None:
            while not over.is_set():
                self.read()
                await asyncio.sleep(READ_EVERY.total_seconds())

        task = asyncio.create_task(read_on())
        try:
            yield
        finally:
            over.set()
            await task

    def read(self) -> None:
        try:
            text = self.file.read_text()
        except FileNotFoundError:
            return
        self.reads += 1
        try:
            tokens: dict[str, Any] = json.loads(text)
        except ValueError:
            self.torn += 1
            return
        now = wall_clock.timestamp() * 1000
        for account, token in tokens.items():
            ends, known = token["expiresAt"], self.newest.get(account)
            self.seen += 1
            self.live += token["refreshToken"] != STAND_IN
            if known is not None and ends < known:
                self.older += 1
            if known is not None and ends > known:
                self.lags.append(timedelta(milliseconds=now - (ends - LIFETIME / timedelta(milliseconds=1))))
            self.newest[account] = max(ends, known or 0)


async def never_rotate(url: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{url}/behaviour", json={"changes_every": 0}) as answer,
    ):
        assert answer.ok


@pytest.mark.slow
@pytest.mark.parametrize(
    ("span", "kills", "live"),
    [
        (timedelta(seconds=10), 2, False),
        pytest.param(timedelta(seconds=60), 5, False, marks=pytest.mark.long),
        pytest.param(timedelta(seconds=60), 5, True, marks=pytest.mark.long),
    ],
    ids=["short", "long", "long with refresh tokens"],
)
async def test_an_application_that_was_not_changed_reads_on(stage, tmp_path, span, kills, live, capsys):
    """Never a torn file, never an older token after a newer one; five former versions stay. Never a refresh token,
    unless the mirror is `live` at a provider that doesn't rotate; then always.
    """
    chance = random.Random(7)
    scene = await stage(lifetime=LIFETIME, sweep_every="500ms")
    place = scene.install(concurrency=32, rotation="never" if live else "always")
    if live:
        await never_rotate(scene.sandbox.url)
    file = tmp_path / "tokens.json"
    with place.config.open("a") as config:
        config.write(f'\n[[mirrors]]\nlayout = "token-files"\nprovider = "sandbox"\npath = "{file}"\n')
        config.write('refresh_token = "live"\n' if live else "")
    await scene.consent(200)
    soon = {
        "expires_at": wall_clock.now() + timedelta(seconds=1)
    }  # so that each renewal ends later than the one before
    await scene.tokens.update_many({}, {"$set": soon})
    application = OldApplication(file)
    began = scene.refreshes()
    async with application.reading():
        for run in range(kills + 1):
            async with scene.running(place) as daemon:
                await daemon.event("daemon.started")
                pause = span.total_seconds() / (kills + 1)
                await asyncio.sleep(pause * chance.uniform(0.7, 1.3))
                if run < kills:
                    os.kill(daemon.pid, signal.SIGKILL)
                    continue
                await scene.settled(
                    lambda one: (
                        application.newest.get(one["account"], 0) >= one["expires_at"].timestamp() * 1000 - 1
                    ),
                    within=timedelta(seconds=30),
                )
                assert await daemon.stop() == 0
    rotated = scene.refreshes() - began
    with capsys.disabled():
        print(
            f"\n{rotated} rotations, {application.reads} reads, {len(application.lags)} new tokens seen: lag"
            f" {quantiles(sorted(application.lags))}"
        )
    assert rotated > 20 * span.total_seconds()
    assert application.reads > 20 * span.total_seconds()
    assert (application.torn, application.older) == (0, 0)
    assert application.live == (application.seen if live else 0)
    kept = sorted(tmp_path.glob(".tokens.json.refreshd-*"))
    assert [one.name[-1] for one in kept] == ["1", "2", "3", "4", "5"]
    assert all(json.loads(one.read_text()) for one in kept)
    assert oct(file.stat().st_mode)[-3:] == "600"
