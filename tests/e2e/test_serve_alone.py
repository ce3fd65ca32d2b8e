"""What the access service can't do: it has no key that opens a refresh token, and no way to a provider."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.e2e.service import Place, placed
from tests.support import prepared

STORED, PUT = 1000, 50
RUN = re.compile(rb"[A-Za-z0-9+/=._-]{44,}")  # holds the middle of each refresh token of the sandbox

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="needs root and unshare, for a network namespace and to read another process's memory",
)


@pytest.fixture
async def place(mongod: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(mongod, tmp_path / "place") as one:
        yield one


def found_in_memory(pid: int, texts: Iterable[str]) -> set[str]:
    """The texts, runs of token characters of one length, that the process has anywhere in its memory.

    Each run in memory is looked up window by window: an alternation of a thousand texts takes a minute.
    """
    wanted = {text.encode() for text in texts}
    (size,) = {len(text) for text in wanted}
    assert all(RUN.fullmatch(text) for text in wanted)
    found: set[str] = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, *rest = line.split()
            begin, end = (int(bound, 16) for bound in place.split("-"))
            if not rights.startswith("r") or rest[-1].startswith("[v"):
                continue
            memory.seek(begin)
            try:
                content = memory.read(end - begin)
            except OSError:
                continue
            for run in RUN.findall(content):
                windows = (run[at : at + size] for at in range(len(run) - size + 1))
                found.update(window.decode() for window in windows if window in wanted)
    return found


async def test_no_refresh_token_is_or_stays_in_its_memory(place: Place, monkeypatch: pytest.MonkeyPatch):
    """It starts as in production: by itself once more, so that it overwrites what it frees.

    The middle of each text is looked for: what malloc overwrites last is the first bytes of freed memory."""
    middle = slice(16, 60)
    monkeypatch.setattr(subprocess, "Popen", prepared.REAL)
    stored = place.sandbox.consent(STORED)
    await _store(place, stored)
    key = await place.key()
    async with place.serving(key) as service:
        for number in range(0, STORED, 10):
            assert (await service.get(f"/v1/tokens/acme/n{number}")).status == 200
        held = found_in_memory(service.process.pid, [str(one["refresh_token"])[middle] for one in stored])
        assert not held

        new = place.sandbox.consent(PUT)
        for number, response in enumerate(new):
            answer = await service.ask("PUT", f"/v1/tokens/acme/new-{number}", json=response)
            assert answer.status == 201, answer
        await asyncio.sleep(0.2)
        assert not found_in_memory(service.process.pid, [str(one["refresh_token"])[middle] for one in new])


async def _store(place: Place, responses: list[dict[str, object]]) -> None:
    """Store them as `jsonl` rows, which takes one command."""
    ring = place.installation.keyring
    store = place.installation.tables["store"]
    with MongoClient[dict[str, Any]](str(store["uri"])) as client:
        client[str(store["database"])]["tokens"].insert_many(
            {
                "_id": f"acme:n{number}",
                "provider": "acme",
                "account": f"n{number}",
                "state": "active",
                **{
                    name: ring.seal(str(one[name]), token_id=f"acme:n{number}", field=name)
                    for name in ("access_token", "refresh_token")
                },
            }
            for number, one in enumerate(responses)
        )


async def test_every_route_works_without_a_way_out(tmp_path: Path):
    """In a network namespace of its own, which has no interface but loopback: see tests/e2e/namespace.py."""
    process = await asyncio.create_subprocess_exec(
        *("unshare", "-n", sys.executable, "-m", "tests.e2e.namespace", str(tmp_path)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
