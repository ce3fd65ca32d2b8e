"""`refreshd connect` with django-oauth-toolkit, through its own sign-in, consent and device pages."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.e2e import connecting
from tests.e2e.connected_application import Session
from tests.e2e.connected_application import connecting as connecting_service
from tests.e2e.daemon_process import Install
from tests.e2e.oauth_server.foreign_server import StartServer, digest
from tests.e2e.owner_browser import owner
from tests.e2e.service import placed
from tests.support.ports import free_port

ACCEPT, DENY = ("action", "accept"), ("action", "deny")
WAYS = ("loopback", "paste", "device")


@pytest.mark.slow
async def test_an_account_is_connected_in_each_way_and_renewed_for_generations(
    install: Install, foreign_server: StartServer, mongod: str, database_name: str
) -> None:
    """Each grant is one family of the server, whose last refresh token is the stored one."""
    port = free_port()
    server = await foreign_server(
        lifetime=timedelta(hours=1), consents=len(WAYS), redirect_uri=connecting.callback(port)
    )
    base = server.token_url.removesuffix("/token/")
    browsing = {**server.provider, "authorize_url": f"{base}/authorize/", "scopes": ["read", "write"]}
    device = {
        **{key: value for key, value in server.provider.items() if key != "client_secret"},
        "client_auth": "none",
        "client_id": "a-device",
        "device_url": f"{base}/device-authorization/",
        "scopes": ["read"],
    }
    place = install({"foreign": browsing, "appliance": device})
    names = ["foreign:loopback", "foreign:paste", "appliance:device"]
    with MongoClient[dict[str, Any]](mongod) as client:
        tokens = client[database_name]["tokens"]
        async with place.running() as daemon:
            await daemon.ready()
            async with (
                owner(username="person-0", password="person-0") as first,
                owner(username="person-1", password="person-1") as second,
                owner(username="person-2", password="person-2") as third,
            ):
                ended = await asyncio.gather(
                    connecting.by_loopback(place, "foreign", "loopback", first, port=port),
                    connecting.by_paste(place, "foreign", "paste", second, port=port),
                    connecting.by_device(place, "appliance", "device", third, press=ACCEPT),
                )
            for done, name in zip(ended, names, strict=True):
                assert done.code == 0, (done, daemon.logs)
                assert json.loads(done.stdout)["id"] == name
            await connecting.renewed(daemon, tokens, names)
            assert await daemon.stop() == 0, daemon.logs
        documents = list(tokens.find())
    assert [line["event"] for line in daemon.lines if line["level"] in ("warning", "error")] == []
    assert {one["_id"]: one["state"] for one in documents} == dict.fromkeys(names, "active")
    families = server.families()
    for person, name in enumerate(names):
        (document,) = (one for one in documents if one["_id"] == name)
        stored = place.keyring.open(document["refresh_token"], token_id=name, field="refresh_token")
        family = families[f"person-{person}"]
        assert (family.issued, family.working) == (1 + connecting.GENERATIONS, {digest(stored)})


@pytest.mark.slow
async def test_an_application_connects_an_account_that_is_renewed_for_generations(
    foreign_server: StartServer, mongod: str, tmp_path: Path
) -> None:
    """By the link, the button, the server's own sign-in and consent, the callback and the completion."""
    port = free_port()
    server = await foreign_server(
        lifetime=timedelta(hours=1),
        consents=1,
        redirect_uri=f"http://127.0.0.1:{port}/connect/callback/foreign",
    )
    base = server.token_url.removesuffix("/token/")
    foreign = {**server.provider, "authorize_url": f"{base}/authorize/", "scopes": ["read", "write"]}
    async with (
        placed(mongod, tmp_path / "place") as place,
        connecting_service(place, port=port, others={"foreign": foreign}) as (service, daemon),
        owner(username="person-0", password="person-0") as browser,
    ):
        await Session(service).connect("foreign", "hosted", browser, press=connecting.ALLOW)
        assert (await service.get("/v1/tokens/foreign/hosted")).json["scope"] == "read write"
        with MongoClient[dict[str, Any]](mongod) as client:
            tokens = client[str(place.installation.tables["store"]["database"])]["tokens"]
            await connecting.renewed(daemon, tokens, ["foreign:hosted"])
            (stored,) = tokens.find()
    working = place.installation.keyring.open(
        stored["refresh_token"], token_id="foreign:hosted", field="refresh_token"
    )
    family = server.families()["person-0"]
    assert (family.issued, family.working) == (1 + connecting.GENERATIONS, {digest(working)})


@pytest.mark.long  # the same steps are tested without the real server
async def test_an_owner_who_refuses_connects_nothing(
    install: Install, foreign_server: StartServer, mongod: str, database_name: str
) -> None:
    """By the button of the consent page, and by the one of the device page."""
    port = free_port()
    server = await foreign_server(
        lifetime=timedelta(hours=1), consents=1, redirect_uri=connecting.callback(port)
    )
    base = server.token_url.removesuffix("/token/")
    place = install(
        {
            "foreign": {**server.provider, "authorize_url": f"{base}/authorize/", "scopes": ["read"]},
            "appliance": {
                "token_url": server.token_url,
                "client_auth": "none",
                "client_id": "a-device",
                "device_url": f"{base}/device-authorization/",
                "scopes": ["read"],
            },
        }
    )
    async with place.running() as daemon:
        await daemon.ready()
        async with owner(username="person-0", password="person-0") as browser:
            page, device = await asyncio.gather(
                connecting.by_loopback(place, "foreign", "me", browser, port=port, press=None),
                connecting.by_device(place, "appliance", "me", browser, press=DENY),
            )
        assert await daemon.stop() == 0
    for done in (page, device):
        assert done.code == 1
        assert "access_denied" in done.stderr
    with MongoClient[dict[str, Any]](mongod) as client:
        assert client[database_name]["tokens"].count_documents({}) == 0
