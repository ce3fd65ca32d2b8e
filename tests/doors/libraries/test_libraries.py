"""OAuth libraries at the token endpoint, unchanged: many processes share the tokens of a provider that rotates.

The provider revokes a grant when a spent refresh token is presented again, as the strictest ones do.
"""

import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.domain.handle import handle_of
from daemon.sandbox import Sandbox, SandboxOptions
from tests.doors.readers.conftest import PACKAGES, PYTHON, missing
from tests.e2e.service import Place, Service, placed
from tests.support import wall_clock

HERE = Path(__file__).parent
LIBRARIES = ("authlib", "requests-oauthlib", "mcp", "openid-client", "simple-oauth2")
IN_JAVASCRIPT = ("openid-client", "simple-oauth2")
Ledger = Sequence[Mapping[str, object]]
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
    url, resource = f"{service.url}/v1/oauth/acme/token", f"{place.sandbox.url}/resource"
    return await counted(command(library), url, service.key, resource, str(count), stdin=json.dumps(handles))


async def counted(program: list[str], *arguments: str, stdin: str = "") -> Counter[str]:
    """Run the program, and return the counts that it prints last."""
    process = await asyncio.create_subprocess_exec(
        *program,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate(stdin.encode())
    assert process.returncode == 0, (program, said.decode()[-3000:])
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
    return sum(done, Counter[str]()) + lost(ledger)


def lost(ledger: Ledger) -> Counter[str]:
    """What the provider has seen."""
    found = Counter[str]()
    found["revoked"] = sum(grant["revoked_by"] is not None for grant in ledger)
    found["renewed"] = sum(int(str(grant["generation"])) for grant in ledger)
    for grant in ledger:
        presented = grant["presented"]
        assert isinstance(presented, list)
        seen = Counter(one["sha256"] for one in presented)
        found["presented twice"] += sum(times > 1 for times in seen.values())
    return found


async def sharing_a_file(directory: Path, *, tokens: int, processes: int, refreshes: int) -> Counter[str]:
    """The same without refreshd: the processes share the real refresh tokens through a file."""
    file = directory / "tokens.json"
    async with Sandbox(SandboxOptions(lifetime=LIFETIME)) as sandbox:
        file.write_text(json.dumps({f"n{one}": grant for one, grant in enumerate(sandbox.consent(tokens))}))
        client = sandbox.client_id, sandbox.client_secret
        program = [str(PYTHON), str(HERE / "file_driver.py")]
        arguments = sandbox.token_url, *client, f"{sandbox.url}/resource", str(refreshes), str(file)
        done = await asyncio.gather(*(counted(program, *arguments) for _ in range(processes)))
        return sum(done, Counter[str]()) + lost(sandbox.ledger())


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


@pytest.mark.long
async def test_twenty_four_processes_that_share_a_file_lose_grants(tmp_path: Path):
    """What the door is for: whoever refreshes with a token that another process has spent ends the grant."""
    found = await sharing_a_file(tmp_path, tokens=50, processes=24, refreshes=500)
    print(dict(found), file=sys.stderr)
    assert found["revoked"] > 0
