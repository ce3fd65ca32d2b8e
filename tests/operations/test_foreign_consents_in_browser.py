"""The sign-in and consent pages of two servers in a real browser, by `refreshd connect` and by an application."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.doors.consents.test_oidc_provider import hosted, oidc_provider
from tests.e2e import connecting
from tests.e2e.connected_application import Session
from tests.e2e.connected_application import connecting as connecting_service
from tests.e2e.oauth_server.foreign_server import ForeignServer
from tests.e2e.service import placed
from tests.operations.browser import CHROMIUM, Tab, tab
from tests.operations.owner_pages import application, walk
from tests.support.ports import free_port

pytestmark = [
    pytest.mark.operations,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH"),
]


@dataclass(frozen=True)
class Foreign:
    """A server's section in the configuration, and what its owner types and presses."""

    provider: Mapping[str, object]
    answers: Mapping[str, str]
    press: str | None = None


Start = Callable[[Path, str], AbstractAsyncContextManager[Foreign]]


@asynccontextmanager
async def django_oauth_toolkit(directory: Path, redirect_uri: str) -> AsyncIterator[Foreign]:
    server = ForeignServer(directory, lifetime=timedelta(hours=1), consents=1, redirect_uri=redirect_uri)
    async with server:
        base = server.token_url.removesuffix("/token/")
        provider = {**server.provider, "authorize_url": f"{base}/authorize/", "scopes": ["read"]}
        yield Foreign(provider, {"username": "person-0", "password": "person-0"}, "[name=allow]")


@asynccontextmanager
async def node_oidc_provider(_: Path, redirect_uri: str) -> AsyncIterator[Foreign]:
    async with oidc_provider(redirect_uri) as issuer:
        yield Foreign(hosted(issuer), {"login": "ann", "password": "any"})


SERVERS = pytest.mark.parametrize("start", [django_oauth_toolkit, node_oidc_provider])


@pytest.fixture
async def page(address: str) -> AsyncIterator[Tab]:
    async with tab(address) as one:
        await one.show(width=390, height=844, dark=False, scripts=False)
        yield one


@SERVERS
async def test_an_operator_connects_an_account(page: Tab, mongod: str, tmp_path: Path, start: Start) -> None:
    """The browser ends on the command's own page."""
    port = free_port()
    back = connecting.callback(port)
    async with start(tmp_path, back) as server, placed(mongod, tmp_path / "place") as place:
        place.installation.configure({**place.installation.tables, "providers.foreign": server.provider})
        async with place.installation.running() as daemon:
            await daemon.ready()
            command = ("connect", "foreign", "me", "--port", str(port), "--json")
            async with place.installation.asking(*command) as dialogue:
                url = await dialogue.following(connecting.OPEN)
                await walk(page, url, until=back, answers=server.answers, press=server.press)
                done = await dialogue.ended()
            assert done.code == 0, done
    assert refused(page) == []


@SERVERS
async def test_an_application_connects_an_account(
    page: Tab, mongod: str, tmp_path: Path, start: Start
) -> None:
    """From the link by the button, the server's pages and the callback to return_url."""
    port = free_port()
    async with (
        start(tmp_path, f"http://127.0.0.1:{port}/connect/callback/foreign") as server,
        placed(mongod, tmp_path / "place") as place,
        application() as (return_url, got),
        connecting_service(place, return_url, port=port, others={"foreign": server.provider}) as (service, _),
    ):
        session = Session(service)
        begun = await session.begin(provider="foreign", return_url=return_url)
        await walk(page, begun["connect_url"], until=return_url, answers=server.answers, press=server.press)
        [answer] = got
        done = await session.complete(answer["connect"], answer["connect_code"])
        assert (done.status, done.json["state"]) == (200, "done")
        assert (await service.get("/v1/tokens/foreign/new")).status == 200
    assert refused(page) == []


def refused(page: Tab) -> list[str]:
    """What a policy forbade. The servers' own pages give other causes to complain."""
    return [one for one in page.complaints if "policy" in one.lower() or "refused" in one.lower()]
