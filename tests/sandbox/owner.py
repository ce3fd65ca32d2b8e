"""The owner in front of the sandbox's pages, and the client that brings the code to the token endpoint."""

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from daemon.sandbox.consents import challenge_of

CALLBACK = "http://127.0.0.1:8917/callback"
VERIFIER = "v" * 43


class Owner:
    """One flow at a time, by plain HTTP. `peer` is the fixture's."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.sandbox = peer.sandbox

    def address(self, **parameters: str | None) -> str:
        """An authorization request with PKCE; None leaves a parameter out."""
        asked = {
            "response_type": "code",
            "client_id": self.sandbox.client_id,
            "redirect_uri": CALLBACK,
            "scope": "read write",
            "state": "s+t/a=te",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            **parameters,
        }
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"{self.sandbox.authorize_url}?{query}"

    async def press(self, address: str, form: Any = None, **headers: str) -> tuple[int, str, str]:
        """Send the page's form: the status, the text, and where the browser is sent."""
        sent = {"decision": "approve"} if form is None else form
        async with self.peer.session.post(
            address, data=sent, headers=headers, allow_redirects=False
        ) as reply:
            return reply.status, await reply.text(), reply.headers.get("Location", "")

    async def answer(self, form: Any = None, **parameters: str | None) -> dict[str, str]:
        """Decide on a request; the parameters of the redirect."""
        status, text, to = await self.press(self.address(**parameters), form)
        assert status == 303, text
        return dict(parse_qsl(urlsplit(to).query, keep_blank_values=True))

    async def exchange(self, code: str, /, **form: str | None) -> tuple[int, Any]:
        """Bring a code to the token endpoint; None leaves a parameter out."""
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
            "client_id": self.sandbox.client_id,
            "client_secret": self.sandbox.client_secret,
            **form,
        }
        return await self.ask({name: value for name, value in sent.items() if value is not None})

    async def ask(self, form: dict[str, str], path: str = "/token") -> tuple[int, Any]:
        async with self.peer.session.post(self.sandbox.url + path, data=form) as reply:
            return reply.status, await reply.json()

    async def connect(self, form: Any = None, **parameters: str | None) -> Any:
        """The whole flow: the first token response."""
        answer = await self.answer(form, **parameters)
        status, tokens = await self.exchange(answer["code"])
        assert status == 200, tokens
        return tokens

    async def grants(self) -> list[Any]:
        ledger: list[Any] = await self.peer.call("GET", "/ledger")
        return ledger

    async def consents(self) -> list[Any]:
        consents: list[Any] = await self.peer.call("GET", "/consents")
        return consents


def query_of(address: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(address).query)
