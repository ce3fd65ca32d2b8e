"""The stage of consents that an application begins: real service, real daemon, the sandbox, and a browser in plain HTTP."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from daemon.domain.authorization import code_challenge
from daemon.domain.secret import Secret
from tests.e2e.daemon_process import DaemonProcess
from tests.e2e.owner_browser import OwnerBrowser
from tests.e2e.service import Place, Reply, Service

RETURN = "https://app.example.com/connected"


class Session:
    """A user's session at the application, and the browser of that user."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.verifier = Secret(secrets.token_urlsafe(32))
        self.secrets: list[str] = [self.verifier.reveal()]
        self.cookies: dict[str, str] = {}

    async def begin(self, account: str = "new", **body: Any) -> dict[str, Any]:
        wish = {
            "provider": "acme",
            "account": account,
            "subject": "user-17",
            "return_url": RETURN,
            "code_challenge": code_challenge(self.verifier),
            **body,
        }
        answer = await self.service.ask("POST", "/v1/connect", json=wish)
        assert answer.status == 201, answer
        self.secrets.append(answer.json["connect_url"].rpartition("/")[2])
        begun: dict[str, Any] = answer.json
        return begun

    async def consent(self, begun: dict[str, Any], decision: str = "approve") -> dict[str, str]:
        """Go the owner's way, and return the parameters that return_url gets."""
        link = urlsplit(begun["connect_url"]).path
        assert (await self.ask("GET", link)).status == 200
        pressed = await self.ask("POST", link, Origin=self.service.url)
        assert pressed.status == 303, pressed
        form = {"decision": decision, "account": "me"}
        url = aiohttp.client.URL(pressed.headers["Location"], encoded=True)
        async with self.service.session.post(url, data=form, allow_redirects=False) as answer:
            assert answer.status == 303
            callback = urlsplit(answer.headers["Location"])
        self.secrets += [value for name, value in parse_qsl(callback.query) if name in ("state", "code")]
        back = await self.ask("GET", f"{callback.path}?{callback.query}")
        assert back.status == 303, back
        assert back.headers["Location"].startswith(f"{RETURN}?")
        found = dict(parse_qsl(urlsplit(back.headers["Location"]).query))
        self.secrets.append(found.get("connect_code", "no code"))
        return found

    async def complete(self, consent: str, code: str) -> Reply:
        proof = {"connect_code": code, "code_verifier": self.verifier.reveal()}
        return await self.service.ask("POST", f"/v1/connect/{consent}/complete", json=proof)

    async def ask(self, method: str, path: str, **headers: str) -> Reply:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.service.ask(
            method, path, key="", headers={"Cookie": cookies, **headers}, allow_redirects=False
        )
        for one in answer.headers.getall("Set-Cookie", []):  # type: ignore[attr-defined]
            name, _, value = one.partition(";")[0].partition("=")
            self.cookies[name] = value
            self.secrets += [value] if len(value) > 2 else []
        return answer

    async def connect(self, provider: str, account: str, browser: OwnerBrowser, **buttons: Any) -> None:
        """Connect an account by the provider's own pages."""
        begun = await self.begin(account, provider=provider)
        back = await browser.walk(begun["connect_url"], until=RETURN, **buttons)
        found = dict(parse_qsl(urlsplit(back).query))
        assert set(found) == {"connect", "connect_code"}, back
        done = await self.complete(found["connect"], found["connect_code"])
        assert (done.status, done.json["state"]) == (200, "done"), done


@asynccontextmanager
async def connecting(
    place: Place,
    return_url: str = RETURN,
    *,
    port: int = 0,
    others: Mapping[str, Mapping[str, object]] | None = None,
) -> AsyncIterator[tuple[Service, DaemonProcess]]:
    """The service and a daemon, and the providers that both know: `acme`, which is the sandbox, and `others`. `port`: the
    service's.
    """
    acme = {**place.installation.tables["providers.acme"], "authorize_url": place.sandbox.authorize_url}
    providers = {"acme": acme, **(others or {})}
    sections = {f"providers.{name}": table for name, table in providers.items()}
    place.installation.configure({**place.installation.tables, **sections})
    without_secrets = {
        name: {key: value for key, value in table.items() if key not in ("client_secret", "like")}
        for name, table in sections.items()
    }
    key = await place.key(tokens="*")
    access = {"return_urls": [return_url], "unbound_connect": True, "port": port}
    async with (
        place.installation.running() as daemon,
        place.serving(key, access=access, **without_secrets) as service,
    ):
        await daemon.ready()
        yield service, daemon
