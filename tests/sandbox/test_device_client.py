"""The daemon's own requests and readings of the device flow, at the sandbox in the way of each provider that has one."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon.domain.code_reply import CodeGrant, read_code_reply
from daemon.domain.consent_request import ConsentFailureKind, ConsentKind, ConsentRequest
from daemon.domain.device_flow import (
    LONGEST_LIFE,
    DeviceCode,
    answer_of,
    device_code_request,
    poll_again,
    read_device_code,
)
from daemon.domain.provider import Provider
from daemon.domain.reply import Reply
from daemon.domain.request import Request, device_request
from daemon.domain.secret import Secret
from daemon.runtime.config.providers.definitions import shipped
from daemon.sandbox import recorded

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
NAMES = sorted(
    name for name in recorded.names() if name in shipped() and shipped()[name].device_url is not None
)
SLOWER = timedelta(seconds=5)


class Client:
    """A client of one sandbox."""

    def __init__(self, peer: Any, name: str) -> None:
        self.peer, self.sandbox = peer, peer.sandbox
        definition = replace(
            shipped()[name],
            token_url=peer.sandbox.token_url,
            device_url=peer.sandbox.device_url,
            variables={},
            params={},
        )
        self.provider = Provider(
            definition=definition,
            client_id=peer.sandbox.client_id,
            client_secret=Secret(peer.sandbox.client_secret),
        )

    async def send(self, request: Request) -> Reply:
        async with self.peer.session.request(
            request.method, request.url, data=request.body, headers=dict(request.headers)
        ) as reply:
            return Reply(
                status=reply.status,
                content_type=reply.headers.get("Content-Type", ""),
                retry_after=reply.headers.get("Retry-After"),
                body=await reply.read(),
                whole=True,
                asked_at=NOW,
            )

    async def begin(self) -> DeviceCode:
        request, _ = device_code_request(
            self.provider, scopes=("offline_access", "read"), variables={}, now=NOW
        )
        reply = await self.send(request)
        found = read_device_code(self.provider, reply)
        assert isinstance(found, DeviceCode), (found, reply.body)
        return found

    async def poll(self, code: DeviceCode) -> Reply:
        return await self.send(
            device_request(self.provider, device_code=code.device_code, variables={}, now=NOW)
        )

    def again(self, reply: Reply, interval: timedelta) -> timedelta | None:
        return poll_again(self.provider.definition, reply, interval)

    async def decide(self, code: DeviceCode, decision: str) -> None:
        """The owner enters the code and presses a button."""
        form = {"decision": decision, "user_code": code.user_code}
        async with self.peer.session.post(code.page, params={"user_code": code.user_code}, data=form) as page:
            assert page.status == 200, await page.text()


Start = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize("name", NAMES)
async def test_a_code_that_is_polled_too_fast_is_polled_more_slowly(start_sandbox: Start, name: str) -> None:
    """Whatever status and words the provider has for both answers."""
    client = Client(await start_sandbox(name=name), name)
    code = await client.begin()
    assert code.interval >= timedelta(seconds=1)
    assert client.again(await client.poll(code), code.interval) == code.interval
    assert client.again(await client.poll(code), code.interval) == code.interval + SLOWER


@pytest.mark.parametrize("name", NAMES)
async def test_an_owners_consent_becomes_a_grant(start_sandbox: Start, name: str) -> None:
    """At the first poll after it."""
    client = Client(await start_sandbox(name=name, device_interval=timedelta(0)), name)
    code = await client.begin()
    assert client.again(await client.poll(code), code.interval) is not None
    await client.decide(code, "approve")
    reply = await client.poll(code)
    assert client.again(reply, code.interval) is None
    found = read_code_reply(client.provider, request_of(name), reply, now=NOW)
    assert isinstance(found, CodeGrant), (found, reply.body)
    assert found.consent.refresh_token is not None


@pytest.mark.parametrize("name", NAMES)
async def test_an_owners_refusal_ends_the_polls(start_sandbox: Start, name: str) -> None:
    """With its own kind."""
    client = Client(await start_sandbox(name=name, device_interval=timedelta(0)), name)
    code = await client.begin()
    await client.decide(code, "deny")
    reply = await client.poll(code)
    assert client.again(reply, code.interval) is None
    failure = read_code_reply(client.provider, request_of(name), reply, now=NOW)
    assert not isinstance(failure, CodeGrant)
    assert answer_of(failure).kind is ConsentFailureKind.DENIED


@pytest.mark.parametrize("name", NAMES)
async def test_a_code_that_has_expired_ends_the_polls(start_sandbox: Start, name: str) -> None:
    """With its own kind too."""
    client = Client(await start_sandbox(name=name), name)
    code = await client.begin()
    for consent in client.sandbox._consents:
        consent.expires_at -= LONGEST_LIFE
    reply = await client.poll(code)
    assert client.again(reply, SLOWER) is None
    failure = read_code_reply(client.provider, request_of(name), reply, now=NOW)
    assert not isinstance(failure, CodeGrant)
    assert answer_of(failure).kind is ConsentFailureKind.EXPIRED


def request_of(name: str) -> ConsentRequest:
    return ConsentRequest(
        id="c1",
        kind=ConsentKind.DEVICE,
        provider=name,
        account="7",
        code=Secret("device"),
        redirect_uri="",
        expires_at=NOW + timedelta(minutes=15),
    )
