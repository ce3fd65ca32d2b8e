"""A consent that an application began, in a browser: pages without a script, light and dark, and the way through them.

With REFRESHD_PICTURES=DIRECTORY the screenshots are written there.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.provider import Definition, Provider
from daemon.sandbox import Sandbox
from tests.e2e.connected_application import Session, connecting
from tests.e2e.service import placed
from tests.operations.browser import CHROMIUM, Tab, tab
from tests.operations.owner_pages import BACK, application
from tests.runtime.access_web.connect_service import Service

pytestmark = [
    pytest.mark.operations,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]
LIMIT = 30  # seconds
SIZES = {"wide": (1280, 900), "phone": (390, 844), "narrow": (320, 568)}


@pytest.fixture
async def page(address: str) -> AsyncIterator[Tab]:
    async with tab(address) as one:
        await one.show(width=390, height=844, dark=False, scripts=False)
        yield one


async def press(page: Tab, selector: str, *, until: str) -> None:
    """Click, and wait for the page on which the expression `until` is true. Pages that only lead on lie between."""
    await page.value(f"document.querySelector({selector!r}).click()")
    await led_to(page, until)


async def led_to(page: Tab, until: str) -> None:
    """Wait for the page on which the expression `until` is true."""
    async with asyncio.timeout(LIMIT):
        while True:
            with suppress(AssertionError):  # the page that was asked has just gone
                if await page.value(f"document.readyState === 'complete' && ({until})"):
                    return
            await asyncio.sleep(0.05)


HEADING = "document.querySelector('h1')?.innerText"
CONSENT = "!!document.querySelector('[value=approve]')"


def provider(sandbox: Sandbox) -> Provider:
    definition = Definition(
        name="acme",
        title="Acme Accounting",
        token_url=sandbox.token_url,
        authorize_url=sandbox.authorize_url,
        scopes=("read", "write"),
    )
    return Provider(definition=definition, client_id=sandbox.client_id)


@asynccontextmanager
async def world(*, unbound: bool = False) -> AsyncIterator[tuple[Service, str, list[dict[str, str]]]]:
    async with Sandbox() as sandbox, application() as (return_url, got):
        service = Service(
            public=None, unbound=unbound, providers=(provider(sandbox),), return_urls=(return_url,)
        )
        await service.start()
        try:
            yield service, return_url, got
        finally:
            await service.stop()


async def test_an_owner_connects_an_account(page: Tab) -> None:
    """The policy lets the button through to the provider and back to the application, and the console stays silent."""
    async with world() as (service, return_url, got):
        begun = await service.begin(return_url=return_url, subject="user-17")
        await page.go(begun["connect_url"])
        await press(page, "button", until=CONSENT)
        await press(page, "[value=approve]", until=BACK)
        [answer] = got
        assert set(answer) == {"connect", "connect_code"}
        assert (await service.complete(begun["id"], answer["connect_code"]))[0] == 200
        [(bound, _)] = service.bound
        await page.go(begun["connect_url"])  # an owner who goes back
        assert await page.value(HEADING) == "This link does not work"
        assert await page.value("document.cookie") == ""
    assert bound == "acme:me"
    assert [one for one in page.complaints if "404" not in one] == []


async def test_a_double_click_uses_the_link_once(page: Tab) -> None:
    """A second request would find the link used, and the browser shows the answer to the last one."""
    async with world() as (service, return_url, _):
        service.consents.takes = timedelta(seconds=1)
        begun = await service.begin(return_url=return_url, subject="user-17")
        await page.go(begun["connect_url"])
        await page.double_click("button")
        await led_to(page, f"({CONSENT}) || {HEADING} === 'This link does not work'")
        assert await page.value(CONSENT)
    assert [one for one in page.requests if one == begun["connect_url"]] == [begun["connect_url"]] * 2


async def test_an_application_gets_a_token_by_way_of_a_browser(
    page: Tab, mongod: str, tmp_path: Path
) -> None:
    """With the real service, the real daemon and MongoDB: link, button, consent, callback, return_url, completion."""
    async with (
        placed(mongod, tmp_path / "place") as place,
        application() as (return_url, got),
        connecting(place, return_url) as (service, _),
    ):
        session = Session(service)
        begun = await session.begin(return_url=return_url)
        await page.go(begun["connect_url"])
        await press(page, "button", until=CONSENT)
        await press(page, "[value=approve]", until=BACK)
        [answer] = got
        done = await session.complete(answer["connect"], answer["connect_code"])
        assert (done.status, done.json["state"]) == (200, "done")
        assert (await service.get("/v1/tokens/acme/new")).json["subject"] == "user-17"
    assert page.complaints == []


async def test_an_owner_denies(page: Tab) -> None:
    async with world() as (service, return_url, got):
        begun = await service.begin(return_url=return_url)
        await page.go(begun["connect_url"])
        await press(page, "button", until=CONSENT)
        await press(page, "[value=deny]", until=BACK)
    assert got == [{"connect": begun["id"], "error": "access_denied"}]
    assert page.complaints == []


async def test_another_site_presses_no_button(page: Tab) -> None:
    """A page on another port sends the form of a link that it knows, as a form and from a frame."""
    async with world() as (service, return_url, got):
        begun = await service.begin(return_url=return_url)
        await page.go(return_url)
        await page.value("document.body.innerHTML = '<form method=post><button>x</button></form>'")
        await page.value(f"document.forms[0].action = '{begun['connect_url']}'")
        await press(page, "button", until=f"{HEADING} === 'The button was not pressed here'")
        await page.go(begun["connect_url"])
        await press(page, "button", until=CONSENT)  # the link was not spent
    assert got == [{}]


async def test_no_page_can_be_framed(page: Tab) -> None:
    await page.show(width=390, height=844, dark=False)
    async with world() as (service, return_url, _):
        begun = await service.begin(return_url=return_url)
        await page.go(return_url)
        await page.value(
            "new Promise(done => { const frame = document.createElement('iframe');"
            f"frame.onload = done; frame.src = '{begun['connect_url']}'; document.body.append(frame) }})"
        )
        assert any("frame" in complaint for complaint in page.complaints)


async def shown(service: Service, return_url: str, name: str) -> str:
    """The address of a page with long and hostile names in it."""
    if name == "gone":
        return f"{service.server.url}/connect/{'x' * 43}"
    key, kept = service.world.key("acme:*")
    service.world.keys[kept.id] = replace(kept, name="Billing-and-more")
    more: dict[str, Any] = {} if name == "bound" else {"code_challenge": None}
    begun = await service.begin(
        key=key,
        account="company-7 <b>of a rather long name</b> " + "x" * 60,
        subject="anna@example.com",
        return_url=return_url,
        **more,
    )
    return str(begun["connect_url"])


@pytest.mark.parametrize(
    ("name", "shape", "dark"), list(product(("bound", "unbound", "gone"), SIZES, (False, True)))
)
async def test_it_fits_asks_for_nothing_and_complains_of_nothing(
    page: Tab, name: str, shape: str, dark: bool
) -> None:
    width, height = SIZES[shape]
    async with world(unbound=True) as (service, return_url, _):
        url = await shown(service, return_url, name)
        await page.show(width=width, height=height, dark=dark, scripts=False)
        await page.go(url)
        assert await page.value("document.documentElement.scrollWidth") <= width
        wider = "[...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        assert await page.value(f"{wider}.map(e => e.outerHTML.slice(0, 80))") == []
        assert await page.value("document.querySelectorAll('b, script').length") == 0
        png = await page.screenshot()
    assert [one for one in page.requests if one != url] == []
    assert [one for one in page.complaints if name != "gone"] == []
    if directory := os.environ.get("REFRESHD_PICTURES"):
        Path(directory, f"{name}-{shape}-{'dark' if dark else 'light'}.png").write_bytes(png)


@pytest.mark.parametrize("dark", [False, True])
async def test_every_text_can_be_read(page: Tab, dark: bool) -> None:
    """The contrast of each text with its ground is 4.5 or more (WCAG AA)."""
    contrast = """(() => {
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
      const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (c !== 'rgba(0, 0, 0, 0)') return c } return 'rgb(255, 255, 255)' };
      return [...document.body.querySelectorAll('p, h1, dt, dd, small, button, strong, .mark')].map(e => {
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
        return [e.outerHTML.slice(0, 60), (a + 0.05) / (b + 0.05)] }).filter(one => one[1] < 4.5) })()"""
    async with world(unbound=True) as (service, return_url, _):
        for name in ("bound", "unbound", "gone"):
            await page.show(width=390, height=844, dark=dark, scripts=False)
            await page.go(await shown(service, return_url, name))
            assert await page.value(contrast) == []


async def test_it_can_be_used_by_keyboard_and_names_its_parts(page: Tab) -> None:
    async with world() as (service, return_url, _):
        begun = await service.begin(return_url=return_url)
        await page.go(begun["connect_url"])
        await page("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert await page.value("document.activeElement.innerText") == "Continue to Acme Accounting"
        assert await page.value("document.querySelectorAll('h1').length") == 1
        assert await page.value("document.documentElement.lang") == "en"
        assert await page.value("document.title") == "Connect Acme Accounting"
