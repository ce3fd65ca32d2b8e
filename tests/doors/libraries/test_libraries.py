"""OAuth libraries at the token endpoint, unchanged: many processes share the tokens of a provider that rotates.

The provider revokes a grant when a spent refresh token is presented again, as the strictest ones do.
"""

import asyncio
import json
import shutil
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.domain.handle import handle_of
from tests.doors.readers.conftest import PACKAGES, PYTHON, missing
from tests.e2e.service import Place, Service, placed
from tests.support import wall_clock

HERE = Path(__file__).parent
LIBRARIES = ("authlib", "requests-oauthlib", "mcp", "openid-client", "simple-oauth2")
IN_JAVASCRIPT = ("openid-client", "simple-oauth2")
LIFETIME = timedelta(seconds=20)  # so that tokens are renewed while the libraries refresh them


def command(library: str) -> list[str]:
    if library in IN_JAVASCRIPT:
        node = shutil.which("node")
        if node is None or not (PACKAGES / library).exists():
            missing("node, or npm packages (npm ci in tests/doors)")
        return [node, str(HERE / "driver.mjs"), library]
    if not PYTHON.exists():
        missing("the packages of requirements/doors.txt (make doors)")
    return [str(PYTHON), str(HERE / "driver.py"), library]


async def store(place: Place, count: int) -> list[str]:
    """Store the grants that the provider has given, and return their ids."""
    ring, tables = place.installation.keyring, place.installation.tables["store"]
    responses = place.sandbox.consent(count)
    names = [f"acme:n{number}" for number in range(count)]
    now = wall_clock.now()
    with MongoClient[dict[str, Any]](str(tables["uri"])) as client:
        client[str(tables["database"])]["tokens"].insert_many(
            {
                "_id": name,
                "provider": "acme",
                "account": name.partition(":")[2],
                "state": "active",
                **{
                    field: ring.seal(str(response[field]), token_id=name, field=field)
                    for field in ("access_token", "refresh_token")
                },
                "issued_at": now,
                "expires_at": now + LIFETIME,
                "due_at": now,
                "revision": 1,
            }
            for name, response in zip(names, responses, strict=True)
        )
    return names


async def run(place: Place, service: Service, library: str, handles: list[str], count: int) -> Counter[str]:
    process = await asyncio.create_subprocess_exec(
        *command(library),
        f"{service.url}/v1/oauth/acme/token",
        service.key,
        f"{place.sandbox.url}/resource",
        str(count),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate(json.dumps(handles).encode())
    assert process.returncode == 0, (library, said.decode()[-3000:])
    return Counter(json.loads(out.decode().splitlines()[-1]))


async def shared(
    mongod: str, directory: Path, *, tokens: int, processes: int, refreshes: int
) -> Counter[str]:
    async with placed(mongod, directory, lifetime=LIFETIME) as place:
        names = await store(place, tokens)
        async with place.installation.running() as daemon, place.serving(await place.key()) as service:
            await daemon.ready()
            handles = [handle_of(name) for name in names]
            done = await asyncio.gather(
                *(
                    run(place, service, LIBRARIES[number % len(LIBRARIES)], handles, refreshes)
                    for number in range(processes)
                )
            )
            assert await daemon.stop() == 0
            assert not service.process.seen("internal.error")
        ledger = place.sandbox.ledger()
    found = sum(done, Counter[str]())
    found["revoked"] = sum(grant["revoked_by"] is not None for grant in ledger)
    found["renewed"] = sum(int(str(grant["generation"])) for grant in ledger)
    for grant in ledger:
        presented = grant["presented"]
        assert isinstance(presented, list)
        seen = Counter(one["sha256"] for one in presented)
        found["presented twice"] += sum(times > 1 for times in seen.values())
    return found


async def test_processes_with_five_libraries_share_tokens_and_lose_none(mongod: str, tmp_path: Path):
    found = await shared(mongod, tmp_path / "place", tokens=10, processes=5, refreshes=30)
    print(dict(found), file=sys.stderr)
    assert found["taken"] == 150
    assert (found["revoked"], found["presented twice"]) == (0, 0)
    assert found["renewed"] >= 10


@pytest.mark.long
async def test_twenty_four_processes_share_fifty_tokens(mongod: str, tmp_path: Path):
    found = await shared(mongod, tmp_path / "place", tokens=50, processes=24, refreshes=500)
    print(dict(found), file=sys.stderr)
    assert found["taken"] == 12_000
    assert (found["revoked"], found["presented twice"]) == (0, 0)
    assert found["renewed"] >= 50
