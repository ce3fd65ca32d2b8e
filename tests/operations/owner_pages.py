"""The other ends of an owner's way in a real browser: an application's page, and a walk through a provider's pages."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from tests.operations.browser import Tab

LIMIT = 60  # seconds
BACK = "document.title === 'back'"


@asynccontextmanager
async def application(path: str = "/connected") -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """A page on another port, and the queries that it got."""
    got: list[dict[str, str]] = []

    async def connected(request: web.Request) -> web.Response:
        got.append(dict(request.query))
        text = '<link rel="icon" href="data:,"><title>back</title>'  # no browser asks for /favicon.ico
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get(path, connected)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{path}", got
    finally:
        await runner.cleanup()


async def walk(
    page: Tab, url: str, *, until: str, answers: Mapping[str, str], press: str | None = None
) -> str:
    """Go from page to page until the address begins with `until`, and return it. `answers`: what the owner types, by the
    fields' names. `press`: the selector of the button to use where there is one, else the first one.
    """
    step = f"""(() => {{
      if (document.readyState !== 'complete') return '';
      if (location.href.startsWith({json.dumps(until)})) return location.href;
      const form = document.forms[0];
      if (!form || form.dataset.pressed) return '';
      form.dataset.pressed = 'yes';
      for (const [name, text] of Object.entries({json.dumps(dict(answers))}))
        if (form.elements[name]) form.elements[name].value = text;
      (form.querySelector({json.dumps(press or "button")}) || form.querySelector('button, [type=submit]')).click();
      return '' }})()"""
    await page.go(url)
    async with asyncio.timeout(LIMIT):
        while True:
            with suppress(AssertionError):  # the page that was asked has just gone
                if reached := await page.value(step):
                    return str(reached)
            await asyncio.sleep(0.05)
