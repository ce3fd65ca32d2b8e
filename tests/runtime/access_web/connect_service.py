"""The access service with consents in memory, an application, and browsers that meet it over HTTP."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import aiohttp
import pytest

from daemon.domain.access_key import Verb
from daemon.domain.authorization import code_challenge
from daemon.domain.provider import Definition, Provider, Rate, Variable
from daemon.domain.secret import Secret
from daemon.runtime.access_web.connect_routes import ConnectRoutes
from daemon.runtime.access_web.routes import Routes
from daemon.runtime.access_web.server import AccessServer
from daemon.serving.doorkeeper import Doorkeeper
from daemon.serving.following import Following
from daemon.serving.link_rules import LinkRules
from daemon.serving.links import Links
from daemon.serving.owner_browser import OwnerBrowser
from tests.serving.fake_consents import FakeConsents, FakeDeeds, FakeWrites
from tests.serving.fakes import Keys, World
from tests.support.clocks import SetClock

PUBLIC, APP = "https://tokens.example.com", "https://app.example.com"
RETURN = f"{APP}/connected"
VERIFIERS = [Secret(letter * 43) for letter in "abcdef"]  # of the application's sessions
ACME = Provider(
    definition=Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        authorize_url="https://login.acme.example/authorize",
        scopes=("read",),
    ),
    client_id="client-1",
)
EVIL = Provider(
    definition=replace(
        ACME.definition, name="evil", title="Evil", authorize_url="https://evil.example/authorize"
    ),
    client_id="client-2",
)
SHOP = Provider(
    definition=Definition(
        name="shop",
        title="Shop",
        token_url="https://${shop}.shop.example/token",
        authorize_url="https://${shop}.shop.example/authorize",
        domains=("shop.example",),
        variables={"shop": Variable(pattern=re.compile("[a-z0-9-]+"))},
    ),
    client_id="client-3",
)
SILENT = Provider(
    definition=replace(ACME.definition, name="silent", authorize_url=None), client_id="client-4"
)
NAMELESS = Provider(definition=replace(ACME.definition, name="nameless"), client_id="")


@dataclass
class Answer:
    status: int
    headers: Any
    text: str

    @property
    def location(self) -> str:
        return str(self.headers["Location"])

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the redirect."""
        return dict(parse_qsl(urlsplit(self.location).query, strict_parsing=True))


@dataclass
class Browser:
    """One browser. It keeps cookies, and names the site of each request as browsers do."""

    service: "Service"
    cookies: dict[str, str] = field(default_factory=dict)
    set: list[str] = field(default_factory=list)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, {"Sec-Fetch-Site": "none"} | headers)

    async def press(self, path: str, **headers: str) -> Answer:
        """Press the button of a page. Its policy hides the origin."""
        return await self.ask("POST", path, {"Origin": "null", "Sec-Fetch-Site": "same-origin"} | headers)

    async def ask(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        if self.cookies:
            headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()), **headers}
        answer = await self.service.ask(method, path, headers)
        for one in answer.headers.getall("Set-Cookie", []):
            self.set.append(one)
            name, _, value = one.partition(";")[0].partition("=")
            self.cookies.pop(name, None)
            if value.strip('"') and "Max-Age=0" not in one:
                self.cookies[name] = value
        return answer

    async def open(self, begun: dict[str, Any]) -> dict[str, str]:
        """Open the link and press the button. Returns the parameters that the provider gets."""
        link = urlsplit(begun["connect_url"]).path
        shown = await self.get(link)
        assert shown.status == 200, shown.text
        pressed = await self.press(link)
        assert pressed.status == 303, pressed.text
        return pressed.query

    async def consent(self, asked: dict[str, str], code: str = "code-1", **more: str) -> Answer:
        """The provider sends the browser back."""
        return await self.call_back(asked["redirect_uri"], state=asked["state"], code=code, **more)

    async def call_back(self, redirect_uri: str, **parameters: str) -> Answer:
        return await self.get(f"{urlsplit(redirect_uri).path}?{urlencode(parameters)}")


@dataclass
class Stores:
    """What the service stores, and the clock. `pause`: what happens while it waits for a daemon."""

    consents: Any
    writes: Any
    deeds: Any
    clock: SetClock
    pause: Callable[[timedelta], Awaitable[None]]


class Service:
    """`public`: the URL under which browsers reach it. None: that of its listener."""

    def __init__(
        self,
        *,
        public: str | None = PUBLIC,
        unbound: bool = False,
        can_seal: bool = True,
        providers: tuple[Provider, ...] = (ACME, EVIL, SHOP, SILENT, NAMELESS),
        return_urls: tuple[str, ...] = (RETURN, f"{APP}/back/"),
        stores: Stores | None = None,
    ) -> None:
        self.public = public
        self.world = World()
        self.consents, self.writes, self.deeds = FakeConsents(), FakeWrites(), FakeDeeds()
        if stores is not None:
            self.world.clock = stores.clock
        used = stores or Stores(self.consents, self.writes, self.deeds, self.world.clock, self._pause)
        self.log: list[str] = []
        self.key_text, self.key = self.world.key("acme:*", "evil:*", "shop:*", "silent:*", "nameless:*")
        rules = LinkRules(return_urls=return_urls, unbound=unbound)
        following = Following(used.consents, self.world.clock, pause=used.pause)
        configured = {one.name: one for one in providers}
        links = Links(
            used.consents,
            used.writes,
            used.deeds,
            self.world.clock,
            rules=rules,
            following=following,
            providers=lambda: configured,
            can_seal=can_seal,
        )
        self.owner_browser = OwnerBrowser(
            used.consents,
            Keys(self.world),
            used.deeds,
            self.world.clock,
            rules=rules,
            following=following,
            providers=lambda: configured,
        )
        routes = ConnectRoutes(
            links,
            self.owner_browser,
            public_url=lambda: self.server.url if self.public is None else self.public or None,
            note=lambda *_: None,
        )
        doorkeeper = Doorkeeper(
            Keys(self.world), self.world.clock, rate=Rate(count=100_000, per=timedelta(seconds=1))
        )
        self.server = AccessServer(
            Routes(
                routes.table(),
                doorkeeper,
                observe=lambda name, status, _: self.log.append(f"{name} {status}"),
                refused=lambda problem, _: self.log.append(problem),
                failed=lambda _where, error: pytest.fail(repr(error)),
            ),
            host="127.0.0.1",
            port=0,
            hosts=frozenset({"tokens.example.com"}),
        )
        self.http: aiohttp.ClientSession

    async def start(self) -> None:
        await self.server.start()
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def stop(self) -> None:
        await self.http.close()
        await self.server.stop()

    async def _pause(self, span: timedelta) -> None:
        self.world.clock.passed += span

    def pass_time(self, **span: int) -> None:
        self.world.clock.passed += timedelta(**span)

    def browser(self) -> Browser:
        return Browser(self)

    async def ask(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> Answer:
        headers = {"Host": "tokens.example.com", **headers}
        async with self.http.request(
            method,
            aiohttp.client.URL(f"{self.server.url}{path}", encoded=True),
            headers=headers,
            json=body,
            allow_redirects=False,
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    # ---------------------------------------------------------------- the application

    async def api(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Ask as the application does. Returns the status and the parsed body."""
        answer = await self.ask(method, path, {"Authorization": f"Bearer {key or self.key_text}"}, body)
        return answer.status, json.loads(answer.text)

    async def refused(self, key: str | None = None, **body: Any) -> tuple[int, dict[str, Any]]:
        """Ask for a connection that is refused."""
        given = {**self.wish(), **body}
        status, said = await self.api(
            "POST", "/v1/connect", {k: v for k, v in given.items() if v is not None}, key=key
        )
        assert status >= 400, said
        return status, said

    def wish(self, session: int = 0) -> dict[str, Any]:
        return {
            "provider": "acme",
            "account": "me",
            "return_url": RETURN,
            "code_challenge": code_challenge(VERIFIERS[session]),
        }

    async def begin(self, session: int = 0, *, key: str | None = None, **body: Any) -> dict[str, Any]:
        given = {**self.wish(session), **body}
        status, said = await self.api(
            "POST", "/v1/connect", {k: v for k, v in given.items() if v is not None}, key=key
        )
        assert status == 201, said
        found: dict[str, Any] = said
        return found

    async def complete(
        self, consent: str, code: str, session: int = 0, *, key: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        body = {"connect_code": code, "code_verifier": VERIFIERS[session].reveal()}
        status, said = await self.api("POST", f"/v1/connect/{consent}/complete", body, key=key)
        return status, said

    def another_key(self, *tokens: str, can: tuple[Verb, ...] = tuple(Verb), **fields: object) -> str:
        return self.world.key(*tokens, can=can, **fields)[0]

    @property
    def bound(self) -> list[tuple[str, str]]:
        return self.consents.bound


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    one = Service()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def unbound() -> AsyncIterator[Service]:
    one = Service(unbound=True)
    await one.start()
    yield one
    await one.stop()


def parameters(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)
