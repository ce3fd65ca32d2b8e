"""The sandbox's consent in a browser: pages without a script, whose buttons lead where they must and nowhere else."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.operations.browser import CHROMIUM, Tab, tab
from tests.operations.owner_pages import application

pytestmark = [
    pytest.mark.operations,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]


LONG = "https://www.example.com/auth/<calendar>.events.public.readonly"


@pytest.fixture
async def page(address: str) -> AsyncIterator[Tab]:
    async with tab(address) as one:
        await one.show(width=390, height=844, dark=True, scripts=False)
        yield one


def request(sandbox: Sandbox, redirect_uri: str) -> str:
    asked = {"response_type": "code", "client_id": sandbox.client_id, "redirect_uri": redirect_uri}
    return f"{sandbox.authorize_url}?{urlencode(asked | {'scope': f'read {LONG}', 'state': 's1'})}"


async def test_an_owner_leaves_a_scope_out_and_is_another_account(page: Tab) -> None:
    """The policy lets the button's redirect through to the client, and the console stays silent."""
    async with Sandbox() as sandbox, application("/callback") as (redirect_uri, got):
        await page.go(request(sandbox, redirect_uri))
        assert await page.value("document.documentElement.scrollWidth") <= 390
        boxes = "[...document.querySelectorAll('[name=scope]')]"
        assert await page.value(f"{boxes}.map(e => [e.value, e.checked])") == [
            ["read", True],
            [LONG, True],
        ]
        await page.value(f"{boxes}[1].click()")
        await page.value("document.querySelector('[name=account]').value = 'you'")
        await page.press("[value=approve]")
        assert await page.value("document.title") == "back"
        [answer] = got
        [consent] = sandbox.consents()
    assert (answer["state"], answer["iss"], "code" in answer) == ("s1", sandbox.url, True)
    assert (consent["account"], consent["scopes"], consent["state"]) == ("you", ["read"], "approved")
    assert page.complaints == []


async def test_an_owner_denies(page: Tab) -> None:
    """The client gets the error."""
    async with Sandbox() as sandbox, application("/callback") as (redirect_uri, got):
        await page.go(request(sandbox, redirect_uri))
        await page.press("[value=deny]")
    assert [(answer["error"], answer["state"]) for answer in got] == [("access_denied", "s1")]
    assert page.complaints == []


async def test_an_owner_types_the_code_of_a_device(page: Tab) -> None:
    """From the empty page to the last one."""
    async with (
        Sandbox(SandboxOptions(device_interval=timedelta())) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        form = {"client_id": sandbox.client_id, "scope": "read"}
        async with session.post(str(sandbox.device_url), data=form) as reply:
            told: Any = await reply.json()
        await page.go(told["verification_uri"])
        await page.value(f"document.querySelector('[name=user_code]').value = '{told['user_code'].lower()}'")
        await page.press("button")
        await page.press("[value=approve]")
        assert await page.value("document.querySelector('h1').innerText") == "The device is connected"
        [consent] = sandbox.consents()
    assert (consent["state"], consent["account"]) == ("approved", "me")
    assert page.complaints == []


async def test_another_sites_form_decides_nothing(page: Tab) -> None:
    """A page on another port sends the sandbox's form in the owner's name."""
    async with Sandbox() as sandbox, application("/callback") as (redirect_uri, got):
        await page.go(redirect_uri)
        await page.value(
            "document.body.innerHTML = '<form method=post><button name=decision value=approve></form>';"
            f"document.forms[0].action = '{request(sandbox, redirect_uri)}'"
        )
        await page.press("button")
        assert "another site" in await page.value("document.body.innerText")
        assert sandbox.consents() == []
    assert got == [{}]


async def test_no_page_can_be_framed(page: Tab) -> None:
    """A button that is not seen can't be trusted."""
    await page.show(width=390, height=844, dark=False)
    async with Sandbox() as sandbox, application("/callback") as (redirect_uri, _):
        await page.go(redirect_uri)
        await page.value(
            "new Promise(done => { const frame = document.createElement('iframe');"
            f"frame.onload = done; frame.src = '{request(sandbox, redirect_uri)}'; document.body.append(frame) }})"
        )
        assert any("frame" in complaint for complaint in page.complaints)
