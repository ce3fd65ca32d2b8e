"""No secret in any output: canaries in every secret position, a provider that echoes them back, and a search."""

import asyncio
import time
from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import aiohttp
import pytest
from aiohttp import web
from pymongo import AsyncMongoClient

from tests.support import wall_clock

# Short ones too: what is shorter than a token-like run is only masked by those who know it.
CLIENT_SECRET = "cs-canary/1+"
REFRESH = [f"rt-canary/{number}+" for number in range(8)] + ["rt-canary-" + "x" * 80]
ACCESS = "at-canary-0"
NEW_REFRESH = "rt-canary-successor"
NEW_ACCESS = "at-canary-successor"
URI_PASSWORD = "pw-canary!1"
BEARER = "bearer-canary-1"


def echo(status: int, make):
    async def answer(request: web.Request) -> web.Response:
        sent = (await request.read()).decode()
        presented = next(one for one in REFRESH if quote_plus(one) in sent)
        return web.Response(status=status, content_type="application/json", text=make(presented, sent))

    return answer


ANSWERS = {
    "granted": echo(
        200, lambda *_: f'{{"access_token":"{NEW_ACCESS}","refresh_token":"{NEW_REFRESH}","expires_in":3600}}'
    ),
    "dead": echo(
        400, lambda rt, _: f'{{"error":"invalid_grant","error_description":"bad {rt} of {CLIENT_SECRET}"}}'
    ),
    "client": echo(
        401, lambda rt, sent: f'{{"error":"invalid_client","error_description":"{CLIENT_SECRET} {rt}"}}'
    ),
    "outage": echo(500, lambda rt, sent: f'{{"error":"{rt}","message":"{sent[:200]}"}}'),
    "garbage": echo(200, lambda rt, sent: f"<html>{rt} {sent}"),
    "odd": echo(200, lambda rt, sent: f'{{"error":["{rt}"],"refreshToken":"{NEW_REFRESH}"}}'),
    "nested": echo(400, lambda rt, sent: f'{{"error":{{"code":"{rt}","message":"{CLIENT_SECRET}"}}}}'),
    "text": echo(403, lambda rt, sent: f"{rt} {sent} {CLIENT_SECRET}"),
}


@pytest.fixture
async def echoing():
    """A token endpoint for each way of giving away what it was sent."""
    app = web.Application()
    for name, answer in ANSWERS.items():
        app.router.add_post(f"/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def forms(secret: str) -> set[str]:
    """A secret as it is, and as libraries write it."""
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        b64encode(secret.encode()).decode(),
        repr(secret)[1:-1],
    }


CANARIES = {
    form for one in (CLIENT_SECRET, *REFRESH, ACCESS, NEW_REFRESH, NEW_ACCESS, BEARER) for form in forms(one)
}


def found_in(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


def everything_in(directory: Path) -> str:
    return "".join(
        path.read_bytes().decode("latin-1")
        for path in directory.rglob("*")
        if path.is_file() and path.name != "config.toml"
    )


async def test_canaries_are_found_nowhere(install, mongod, database_name, echoing):
    """Eight kinds of answers that echo what was sent, at debug level: no canary in the logs, on any endpoint, in the
    state directory, or in the database."""
    providers = {
        name: {
            "token_url": f"{echoing}/{name}",
            "client_auth": "basic" if number % 2 else "post",
            "confirm_after": "0s",
            "client_id": "us",
            "client_secret": CLIENT_SECRET,
        }
        for number, name in enumerate(ANSWERS)
    }
    place = install(
        providers, log={"format": "json", "level": "debug"}, server={"port": 0, "bearer_token": BEARER}
    )
    client = AsyncMongoClient(mongod, tz_aware=True)
    tokens = client[database_name]["tokens"]
    now = wall_clock.now()
    for number, name in enumerate(ANSWERS):
        token = f"{name}:acme"
        await tokens.insert_one(
            {
                "_id": token,
                "provider": name,
                "account": "acme",
                "state": "active",
                "access_token": place.keyring.seal(ACCESS, token_id=token, field="access_token"),
                "refresh_token": place.keyring.seal(REFRESH[number], token_id=token, field="refresh_token"),
                "expires_at": now + timedelta(minutes=1),
                "due_at": now,
            }
        )
    async with place.running() as daemon:
        await daemon.ready()
        limit = time.monotonic() + 20
        while await tokens.count_documents({"revision": {"$gte": 1}}) < len(ANSWERS):
            assert time.monotonic() < limit, daemon.logs[-2000:]
            await asyncio.sleep(0.1)
        pages = ""
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {BEARER}"}) as session:
            for path in ("/", "/metrics", "/status", "/readyz", "/livez", "/nowhere"):
                async with session.get(await daemon.url() + path) as answer:
                    pages += await answer.text()
        assert "refreshd_refreshes_total" in pages
        assert await daemon.stop() == 0
    stored = str(await tokens.find({}).to_list())
    await client.close()
    for form in (place.key.hex(), b64encode(place.key).decode()):
        assert form not in daemon.logs + pages + stored + everything_in(place.directory)
    assert "last_failure" in stored
    assert "token.renewed" in daemon.logs
    assert found_in(daemon.logs) == []
    assert found_in(pages) == []
    assert found_in(everything_in(place.directory)) == []
    assert found_in(stored) == []


async def test_a_uri_that_mongodb_refuses_keeps_its_password_to_itself(install, mongod):
    """A wrong login leaves the daemon up and not ready, says so, and does not say the password."""
    netloc = urlsplit(mongod).netloc
    place = install({})
    tables = {
        **place.tables,
        "store": {"uri": f"mongodb://us:{quote(URI_PASSWORD)}@{netloc}/?directConnection=true"},
    }
    place.configure({**tables, "log": {"format": "json", "level": "debug"}})
    async with place.running() as daemon:
        lost = await daemon.event("store.lost")
        assert "rejected the credentials of us" in lost["message"]
        async with aiohttp.ClientSession() as session, session.get(await daemon.url() + "/readyz") as answer:
            assert answer.status == 503
            body = await answer.text()
        assert await daemon.stop() == 0
    for text in (daemon.logs, body):
        assert not [form for form in forms(URI_PASSWORD) if form in text]
