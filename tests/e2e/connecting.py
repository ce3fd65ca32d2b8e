"""`refreshd connect` in its three ways beside a provider's own consent pages, and the life of the tokens afterwards."""

import asyncio
from datetime import timedelta
from typing import Any

import aiohttp
from pymongo.collection import Collection

from tests.e2e.daemon_process import DaemonProcess, Finished, Installation
from tests.e2e.owner_browser import OwnerBrowser
from tests.support import wall_clock

ALLOW = ("allow", "Authorize")
OPEN = "Open this address"
GENERATIONS = 10

Tokens = Collection[dict[str, Any]]


def callback(port: int) -> str:
    return f"http://127.0.0.1:{port}/callback"


async def by_loopback(
    place: Installation, provider: str, account: str, browser: OwnerBrowser, *, port: int, press: Any = ALLOW
) -> Finished:
    """The browser ends at the command's own listener."""
    command = ("connect", provider, account, "--port", str(port), "--json")
    async with place.asking(*command) as dialogue:
        to = await browser.walk(await dialogue.following(OPEN), until=callback(port), press=press)
        async with aiohttp.ClientSession() as session, session.get(to) as page:
            assert page.status == 200
        return await dialogue.ended()


async def by_paste(
    place: Installation, provider: str, account: str, browser: OwnerBrowser, *, port: int, press: Any = ALLOW
) -> Finished:
    """The owner copies the address on which the browser ended."""
    command = ("connect", provider, account, "--paste", "--port", str(port), "--json")
    async with place.asking(*command) as dialogue:
        to = await browser.walk(await dialogue.following(OPEN), until=callback(port), press=press)
        return await dialogue.ended(stdin=f"{to}\n")


async def by_device(
    place: Installation,
    provider: str,
    account: str,
    browser: OwnerBrowser,
    *,
    press: Any = None,
) -> Finished:
    """The owner enters the code that the command shows."""
    async with place.asking("connect", provider, account, "--device", "--yes", "--json") as dialogue:
        page = await dialogue.following("This consent becomes")
        browser.answers["user_code"] = await dialogue.following("and enter this code")
        await browser.walk(page, press=press)
        return await dialogue.ended()


async def renewed(daemon: DaemonProcess, tokens: Tokens, names: list[str]) -> None:
    """Let the daemon renew these tokens for generations, each as soon as the one before is stored."""

    async def one(name: str) -> None:
        for count in range(1, GENERATIONS + 1):
            wish = {"$set": {"due_at": wall_clock.now()}}
            await asyncio.to_thread(tokens.update_one, {"_id": name}, wish)
            await daemon.event("token.renewed", token=name, count=count, within=timedelta(seconds=60))

    await asyncio.gather(*map(one, names))
