"""What only the Python package does: other HTTP clients, the MCP SDK, forked processes, and its types."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.adapters.keyring import KeyRing
from tests.doors.readers.api import Api
from tests.doors.readers.house import ROOT, House

VECTORS = json.loads((ROOT / "tests" / "vectors" / "sealed.json").read_text())
Program = Callable[..., str]


@pytest.fixture
def program(python: tuple[str, dict[str, str]], house: House, tmp_path: Path) -> Program:
    """Runs a program with the wheel, over HTTP. Returns its output."""
    interpreter, environment = python

    def run(code: str, transport: str = "http", **more: str) -> str:
        Path(tmp_path, "program.py").write_text(code)
        done = subprocess.run(
            [interpreter, "-W", "error", "program.py"],
            cwd=tmp_path,
            env=environment | house.environment(transport) | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def sent(api: Api) -> list[str | None]:
    return [one["authorization"] for one in api.seen]


def test_requests_sends_the_token_and_once_more_after_a_401(house: House, api: Api, program: Program) -> None:
    """With the same body; a file is read again from where it stood, and a generator is sent once."""
    house.add("requests")
    before = house.access_token("requests")
    api.refused.add(before)
    out = program(
        """
import io, os, requests
from refreshd_reader import Tokens
tokens = Tokens.from_env()
auth = tokens.auth("sandbox", "requests")
file = io.BytesIO(b"skipped apples"); file.read(8)
with requests.Session() as session:
    print(session.post(os.environ["API"] + "/api/orders", data=file, auth=auth).status_code)
    print(session.get(os.environ["API"] + "/away", auth=auth).status_code)
    print(session.post(os.environ["API"] + "/api/orders", data=iter([b"one"]), auth=auth).status_code)
""",
        API=api.url,
    )
    after = f"Bearer {house.access_token('requests')}"
    assert out.split() == ["200", "401", "200"]
    assert sent(api) == [f"Bearer {before}", after, after, None, after]
    assert [one["body"] for one in api.seen] == ["apples", "apples", "", "", "one"]


def test_aiohttp_sends_the_token_and_once_more_after_a_401(house: House, api: Api, program: Program) -> None:
    """A redirect to another origin gets none."""
    house.add("aiohttp")
    before = house.access_token("aiohttp")
    api.refused.add(before)
    out = program(
        """
import asyncio, os, aiohttp
from refreshd_reader import AsyncTokens
async def main():
    async with AsyncTokens.from_env() as tokens, aiohttp.ClientSession() as session:
        middlewares = (tokens.middleware("sandbox", "aiohttp"),)
        url = os.environ["API"]
        async with session.post(url + "/api/orders", data="two apples", middlewares=middlewares) as answer:
            print(answer.status)
        async with session.get(url + "/away", middlewares=middlewares) as answer:
            print(answer.status)
asyncio.run(main())
""",
        API=api.url,
    )
    after = f"Bearer {house.access_token('aiohttp')}"
    assert out.split() == ["200", "401"]
    assert sent(api) == [f"Bearer {before}", after, after, None]
    assert [one["body"] for one in api.seen][:2] == ["two apples", "two apples"]


def test_the_mcp_sdk_gets_the_token_and_stores_a_new_one(house: House, program: Program) -> None:
    """Its TokenStorage is fulfilled by shape, and its own HTTP client takes `auth`."""
    house.add("mcp")
    before = house.access_token("mcp")
    consent = {name: value for name, value in house.consent().items() if name != "grant"}
    out = program(
        """
import asyncio, json, os, httpx2
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.shared.auth import OAuthClientMetadata, OAuthToken
from refreshd_reader import AsyncTokens
from refreshd_reader.mcp import RefreshdTokenStorage
async def main():
    async with AsyncTokens.from_env() as tokens:
        storage: TokenStorage = RefreshdTokenStorage(tokens, "sandbox", "mcp")
        metadata = OAuthClientMetadata(redirect_uris=["http://127.0.0.1:1/callback"])
        provider = OAuthClientProvider("http://127.0.0.1:1", metadata, storage)
        await provider._initialize()
        print(provider.context.current_tokens.access_token)
        print(provider.context.current_tokens.refresh_token)
        await storage.set_tokens(OAuthToken(**json.loads(os.environ["CONSENT"])))
        print((await storage.get_tokens()).access_token)
        print(await RefreshdTokenStorage(tokens, "sandbox", "not-connected").get_tokens())
        print(isinstance(tokens.auth("sandbox", "mcp"), httpx2.Auth))
asyncio.run(main())
""",
        CONSENT=json.dumps(consent),
    )
    assert out.split() == [before, "None", house.access_token("mcp"), "None", "True"]
    assert house.access_token("mcp") == consent["access_token"] != before


@pytest.mark.parametrize("transport", ["http", "mongodb"])
def test_a_forked_process_has_connections_of_its_own(house: House, program: Program, transport: str) -> None:
    """Both go on reading, and get what they asked for."""
    for account in ("fork-0", "fork-1", "fork-2"):
        if not house.tokens.find_one({"_id": f"sandbox:{account}"}):
            house.add(account)
    out = program(
        """
import os, sys, warnings
warnings.simplefilter("ignore")  # pymongo warns about its own client in a fork, which is not used there
from refreshd_reader import Tokens
tokens = Tokens.from_env()
tokens.get("sandbox", "fork-0")
child = os.fork()
name = "fork-1" if child else "fork-2"
print(name, tokens.get("sandbox", name).access_token, flush=True)
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
os._exit(0)
""",
        transport,
    )
    lines = sorted(out.splitlines())
    assert lines == [f"{name} {house.access_token(name)}" for name in ("fork-1", "fork-2")]


def test_the_package_opens_every_vector_and_refuses_the_rest(program: Program, tmp_path: Path) -> None:
    """Of the sealed access tokens that every implementation has to open."""
    cases = [case for case in VECTORS["opens"] + VECTORS["refused"] if case["field"] == "access_token"]
    lines = {}
    for case in cases:
        ring = KeyRing({case["key_id"]: bytes.fromhex(case["master_hex"])}, active=case["key_id"])
        key = ring.field_key("access_token")
        lines[case["key_id"]] = {"field": "access_token", "key_id": case["key_id"], "key_hex": key.hex()}
    out = program(
        """
import base64, json, os
from pathlib import Path
from refreshd_reader import Unavailable
from refreshd_reader.sealing import ReaderKeys
given = json.loads(Path("given.json").read_text())
for line in given["lines"]:
    line["key"] = base64.b64encode(bytes.fromhex(line.pop("key_hex"))).decode()
Path("r.jsonl").write_text("".join(json.dumps(line) + chr(10) for line in given["lines"]))
keys = ReaderKeys(Path("r.jsonl"))
def opened(case):
    try:
        return keys.open(case["sealed"], case["token_id"])
    except Unavailable:
        return None
print(json.dumps([opened(case) for case in given["cases"]]))
"""
        if Path(tmp_path, "given.json").write_text(
            json.dumps({"lines": list(lines.values()), "cases": cases})
        )
        else ""
    )
    assert json.loads(out) == [case.get("plaintext") for case in cases]


@pytest.mark.parametrize("client", ["python", "node"])
def test_a_cached_token_costs_little_time_and_memory(
    client: str, python: tuple[str, dict[str, str]], node: tuple[str, Path]
) -> None:
    """A hit under 50 microseconds, and 10,000 tokens under 10 MB."""
    command = [python[0], "bench.py"] if client == "python" else [node[0], "--expose-gc", "bench.js"]
    folder = ROOT / "clients" / client
    done = subprocess.run(
        command, cwd=folder, env=python[1], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
