"""`refreshd connect` with oidc-provider, through its own pages: pushed requests, rotation, and the device flow."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pymongo import MongoClient

from tests.doors.readers.conftest import PACKAGES, missing
from tests.e2e import connecting
from tests.e2e.connected_application import Session
from tests.e2e.connected_application import connecting as connecting_service
from tests.e2e.daemon_process import Installation
from tests.e2e.owner_browser import owner
from tests.e2e.service import placed
from tests.support.ports import free_port

HERE = Path(__file__).parent
SECRET = "s p+c/i:a%l-and-long-enough-for-every-algorithm"
START_LIMIT = 30


@asynccontextmanager
async def oidc_provider(*redirect_uris: str) -> AsyncIterator[str]:
    """The server as long as the block lasts, with the redirect URIs of its clients. Yields its issuer."""
    node = shutil.which("node")
    if node is None or not (PACKAGES / "oidc-provider").exists():
        missing("node, or npm packages (npm ci in tests/doors)")
    process = await asyncio.create_subprocess_exec(
        node,
        str(HERE / "oidc.mjs"),
        *redirect_uris,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_LIMIT)
        yield json.loads(line)["issuer"]
    finally:
        process.kill()
        await process.communicate()


def hosted(issuer: str) -> dict[str, object]:
    """The section of the client that takes no pushed requests."""
    return {
        "token_url": f"{issuer}/token",
        "authorize_url": f"{issuer}/auth",
        "scopes": ["openid", "offline_access"],
        "account_from": "id_token.sub",
        "authorize_params": {"prompt": "consent"},
        "rotation": "always",
        "client_auth": "basic",
        "client_id": "hosted",
        "client_secret": SECRET,
    }


async def test_an_account_is_connected_in_each_way_and_renewed_for_generations(
    mongod: str, database_name: str, tmp_path: Path
) -> None:
    """The account is the ID token's, and the server has refused nothing but polls that came before the owner."""
    port = free_port()
    async with oidc_provider(connecting.callback(port)) as issuer:
        common: dict[str, object] = {
            "token_url": f"{issuer}/token",
            "scopes": ["openid", "offline_access"],
            "account_from": "id_token.sub",
            "rotation": "always",
        }
        web = {
            **common,
            "authorize_url": f"{issuer}/auth",
            "par_url": f"{issuer}/request",
            "authorize_params": {"prompt": "consent"},
            "client_auth": "basic",
            "client_id": "web",
            "client_secret": SECRET,
        }
        device = {
            **common,
            "device_url": f"{issuer}/device/auth",
            "client_auth": "none",
            "client_id": "device",
        }
        place = Installation(
            tmp_path / "place", uri=mongod, database=database_name, providers={"web": web, "device": device}
        )
        names = ["web:loopback", "web:paste", "device:device"]
        with MongoClient[dict[str, Any]](mongod) as client:
            tokens = client[database_name]["tokens"]
            async with place.running() as daemon:
                await daemon.ready()
                async with (
                    owner(login="ann", password="any") as first,
                    owner(login="bob", password="any") as second,
                    owner(login="cy", password="any") as third,
                ):
                    ended = await asyncio.gather(
                        connecting.by_loopback(place, "web", "loopback", first, port=port),
                        connecting.by_paste(place, "web", "paste", second, port=port),
                        connecting.by_device(place, "device", "device", third),
                    )
                for one, name in zip(ended, names, strict=True):
                    assert one.code == 0, (one, daemon.logs)
                    assert json.loads(one.stdout)["missing_scopes"] == []
                    assert json.loads(one.stdout)["id"] == name
                await connecting.renewed(daemon, tokens, names)
                assert await daemon.stop() == 0, daemon.logs
            stored = {one["_id"]: (one["state"], one["provider_account"]) for one in tokens.find()}
        async with aiohttp.ClientSession() as session, session.get(f"{issuer}/errors") as reply:
            refused = set(json.loads(await reply.text()))
    assert stored == {
        name: ("active", person) for name, person in zip(names, ("ann", "bob", "cy"), strict=True)
    }
    assert refused <= {"authorization_pending"}
    assert [line["event"] for line in daemon.lines if line["level"] in ("warning", "error")] == []


async def test_an_application_connects_an_account_that_is_renewed_for_generations(
    mongod: str, tmp_path: Path
) -> None:
    """By the link, the button, the server's own sign-in and consent, the callback and the completion."""
    port = free_port()
    callback = f"http://127.0.0.1:{port}/connect/callback/hosted"
    async with (
        oidc_provider(callback, callback) as issuer,
        placed(mongod, tmp_path / "place") as place,
        connecting_service(place, port=port, others={"hosted": hosted(issuer)}) as (service, daemon),
        owner(login="ann", password="any") as browser,
    ):
        await Session(service).connect("hosted", "new", browser)
        with MongoClient[dict[str, Any]](mongod) as client:
            tokens = client[str(place.installation.tables["store"]["database"])]["tokens"]
            await connecting.renewed(daemon, tokens, ["hosted:new"])
            (stored,) = tokens.find()
        assert (await service.get("/v1/tokens/hosted/new")).status == 200
    assert (stored["state"], stored["provider_account"], stored["subject"]) == ("active", "ann", "user-17")
