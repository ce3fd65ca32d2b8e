"""The device flow by plain HTTP: the device begins, the owner enters the code, the device polls."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from daemon.sandbox.endpoint import DEVICE_CODE
from tests.sandbox.owner import Owner


class Device(Owner):
    """An owner's other hand."""

    async def begin(self, **form: str | None) -> tuple[int, Any]:
        sent = {"client_id": self.sandbox.client_id, "scope": "read write", **form}
        return await self.ask(
            {name: value for name, value in sent.items() if value is not None}, "/device_authorization"
        )

    async def poll(self, code: str) -> tuple[int, Any]:
        client = {"client_id": self.sandbox.client_id, "client_secret": self.sandbox.client_secret}
        return await self.ask({"grant_type": DEVICE_CODE, "device_code": code, **client})


@pytest.fixture
async def device(start_sandbox: Any) -> Device:
    return Device(await start_sandbox(device_interval=timedelta()))


async def test_from_the_code_on_the_screen_to_the_tokens(device: Device) -> None:
    """The page shows what is asked; fewer scopes are the owner's choice here too."""
    status, told = await device.begin()
    assert status == 200
    assert set(told) == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval"
    }  # fmt: skip
    assert re.fullmatch("[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}", told["user_code"])
    assert (told["expires_in"], told["interval"]) == (900, 0)
    assert told["verification_uri"] == device.sandbox.url + "/device"
    assert (await device.poll(told["device_code"]))[1]["error"] == "authorization_pending"
    async with device.peer.session.get(told["verification_uri_complete"]) as page:
        assert re.findall(r'name="scope" value="([^"]*)" checked>', await page.text()) == ["read", "write"]
    form = {"decision": "approve", "listed": "1", "scope": "write", "account": "tv"}
    assert (await device.press(told["verification_uri_complete"], form))[0] == 200
    status, tokens = await device.poll(told["device_code"])
    assert (status, tokens["scope"], tokens["account"]) == (200, "write", "tv")
    assert (await device.peer.refresh(tokens["refresh_token"]))[0] == 200
    [consent] = await device.consents()
    assert [line["outcome"] for line in consent["presented"]] == ["authorization_pending", "granted"]


async def test_the_owner_may_refuse_the_device(device: Device) -> None:
    """It is told at its next poll."""
    _, told = await device.begin()
    assert (await device.press(told["verification_uri_complete"], {"decision": "deny"}))[0] == 200
    assert (await device.poll(told["device_code"]))[1]["error"] == "access_denied"
    assert await device.grants() == []


async def test_a_device_that_polls_too_fast_is_told_to_slow_down(start_sandbox: Any) -> None:
    """The sandbox's own interval is that of the standard."""
    device = Device(await start_sandbox())
    _, told = await device.begin()
    assert told["interval"] == 5
    errors = [(await device.poll(told["device_code"]))[1]["error"] for _ in range(2)]
    assert errors == ["authorization_pending", "slow_down"]


async def test_a_wrong_user_code_finds_no_device(device: Device) -> None:
    """Neither by the page nor by its button; a decided one is wrong too."""
    _, told = await device.begin()
    page = told["verification_uri"]
    assert await _status(device, page) == 200
    for wrong in ("", "AAAA-BBBB", "<b>", "é" * 500):
        address = f"{page}?{urlencode({'user_code': wrong})}"
        assert await _status(device, address) == 400
        assert (await device.press(address))[0] == 400
    assert (await device.press(page))[0] == 400
    address = told["verification_uri_complete"].lower().replace("-", "")
    assert (await device.press(address))[0] == 200
    assert (await device.press(address))[0] == 400


async def _status(device: Device, address: str) -> int:
    async with device.peer.session.get(address) as reply:
        return int(reply.status)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_id": "other"}, "invalid_client"),
        ({"client_id": None}, "invalid_client"),
        ({"client_secret": "wrong"}, "invalid_client"),
    ],
    ids=str,
)
async def test_a_device_of_another_client_can_not_begin(device: Device, form: Any, error: str) -> None:
    """No code is made."""
    assert (await device.begin(**form))[1]["error"] == error
    assert await device.consents() == []


async def test_a_device_code_alone_is_not_enough(device: Device) -> None:
    """A poll without it, or with another's, has no effect."""
    await device.begin()
    client = {"client_id": device.sandbox.client_id, "client_secret": device.sandbox.client_secret}
    assert (await device.ask({"grant_type": DEVICE_CODE, **client}))[1]["error"] == "invalid_request"
    assert (await device.poll("4/unknown"))[1]["error"] == "invalid_grant"
    [consent] = await device.consents()
    assert consent["presented"] == []


async def test_the_beginning_fails_on_request(device: Device) -> None:
    """And only the beginning."""
    await device.peer.fault(kind="throttle", at="device", count=1, retry_after=3)
    assert (await device.begin())[0] == 429
    _, told = await device.begin()
    await device.press(told["verification_uri_complete"])
    await device.peer.fault(kind="garbage", at="device", count=1)
    assert (await device.poll(told["device_code"]))[0] == 200


async def test_a_provider_without_a_device_flow_has_no_such_address(start_sandbox: Any) -> None:
    """The printed line says so, and the grant type is unknown."""
    device = Device(await start_sandbox(name="box"))
    assert device.sandbox.describe()["device_url"] is None
    async with device.peer.session.post(device.sandbox.url + "/device_authorization") as reply:
        assert reply.status == 404
    assert (await device.poll("4/x"))[1]["error"] == "unsupported_grant_type"
