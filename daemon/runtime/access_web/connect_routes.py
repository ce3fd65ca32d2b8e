"""The routes of consents: those of applications answer in JSON, those of browsers with pages and redirects.

A browser's GET changes nothing, but for the callback, which is the provider's answer and is used once.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from aiohttp import web

from daemon.domain.claim import StoreLost
from daemon.domain.consent_request import WAITS_FOR, ConsentProgress, ConsentState
from daemon.domain.return_url import origin_of
from daemon.runtime.access_web.answers import json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.connect_page import page
from daemon.runtime.access_web.connect_page.page import Page
from daemon.runtime.access_web.routes import Route, route
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import read_proof, read_wish
from daemon.serving.links import Links
from daemon.serving.owner_browser import Answered, OwnerBrowser
from daemon.serving.problems import Problem

JSON = "application/json"
CREATED, ACCEPTED, SEE_OTHER = 201, 202, 303
COOKIE = "refreshd-connect-"  # and the name of the consent
OURS = "__Host-"  # before the name of a cookie that came by TLS, from this host alone (RFC 6265bis §4.1.3.2)

Note = Callable[[Caller, str | None, str], None]


class ConnectRoutes:
    """`public_url`: under which browsers reach the service, or None if it is unknown. `note` receives each use."""

    def __init__(
        self, links: Links, browser: OwnerBrowser, *, public_url: Callable[[], str | None], note: Note
    ) -> None:
        self._links = links
        self._browser = browser
        self._public_url = public_url
        self._note = note

    def table(self) -> list[Route]:
        return [
            route("connect", "POST", "/v1/connect", answer=self.begin),
            route("connect_state", "GET", "/v1/connect/{id}", answer=self.progress),
            route("connect_complete", "POST", "/v1/connect/{id}/complete", answer=self.complete),
            route("connect_page", "GET", "/connect/{secret}", unguarded=self.ask),
            route("connect_button", "POST", "/connect/{secret}", unguarded=self.press),
            route("connect_callback", "GET", "/connect/callback/{provider}", unguarded=self.call_back),
        ]

    # ---------------------------------------------------------------- of the application

    async def begin(self, asked: Asked, caller: Caller) -> web.Response:
        """`POST /v1/connect`."""
        asked.query().check()
        wish = read_wish(await asked.json(JSON))
        begun = await self._links.begin(caller, wish, self._base())
        self._note(caller, None, "write")
        body = {
            "id": begun.consent,
            "connect_url": f"{self._base()}/connect/{begun.link.reveal()}",
            "expires_at": begun.expires_at,
        }
        return json_answer(body, status=CREATED)

    async def progress(self, asked: Asked, caller: Caller) -> web.Response:
        """`GET /v1/connect/{id}`."""
        asked.query().check()
        consent = asked.segments[2]
        return json_answer(_state(consent, await self._links.progress(caller, consent)))

    async def complete(self, asked: Asked, caller: Caller) -> web.Response:
        """`POST /v1/connect/{id}/complete`: 200 once the token is stored, 202 if that takes longer."""
        asked.query().check()
        consent = asked.segments[2]
        proof = read_proof(await asked.json(JSON))
        progress = await self._links.complete(caller, consent, proof)
        self._note(caller, None, "write")
        if progress.state is ConsentState.DONE:
            return json_answer(_state(consent, progress))
        if progress.state.is_final:
            failure = _failure(progress)
            raise Problem("conflict", "No token was stored.", fields={"failure": failure} if failure else {})
        return json_answer(_state(consent, progress), status=ACCEPTED, headers={"Retry-After": "2"})

    # ---------------------------------------------------------------- of the owner's browser

    async def ask(self, asked: Asked) -> web.Response:
        """`GET /connect/{secret}`: the page with the button. It changes nothing, so that a preview of the link does not use
        it.
        """
        try:
            found = await self._browser.asking(asked.segments[1])
        except StoreLost:
            return _shown(page.away())
        return _shown(page.asking(found) if found else page.link_gone())

    async def press(self, asked: Asked) -> web.Response:
        """`POST /connect/{secret}`: the button."""
        if not self._is_own(asked):
            return _shown(page.other_site())
        try:
            pressed = await self._browser.press(asked.segments[1])
        except StoreLost:
            return _shown(page.away())
        if pressed is None:
            return _shown(page.link_gone())
        answer = _sent_on(asked, pressed.url)
        self._set_cookie(answer, pressed.cookie, pressed.value.reveal(), WAITS_FOR)
        return answer

    async def call_back(self, asked: Asked) -> web.Response:
        """`GET /connect/callback/{provider}`."""
        try:
            # A browser that leaves must not stop a code halfway between the provider and the store.
            answered = await asyncio.shield(self._answered(asked))
            if answered is None:
                return _shown(page.not_here())
            end = await self._browser.ended(answered)
        except StoreLost:
            return _shown(page.away())
        answer = _sent_on(asked, end.url) if end.url is not None else _shown(page.ended(end))
        self._set_cookie(answer, answered.cookie, "", timedelta(0))  # removes it
        return answer

    async def _answered(self, asked: Asked) -> Answered | None:
        cookies = asked.request.cookies
        return await self._browser.answer(
            asked.segments[2],
            asked.request.rel_url.raw_query_string,
            lambda name: cookies.get(self._cookie(name), ""),
            asked.address,
        )

    # ----------------------------------------------------------------

    def _base(self) -> str:
        url = self._public_url()
        if url is None:
            raise Problem(
                "not-implemented",
                "This service doesn't know its own address. An operator sets access.public_url.",
            )
        return url.rstrip("/")

    @property
    def _is_secure(self) -> bool:
        return self._base().startswith("https:")

    def _cookie(self, name: str) -> str:
        return f"{OURS if self._is_secure else ''}{COOKIE}{name}"

    def _set_cookie(self, answer: web.Response, name: str, value: str, lives_for: timedelta) -> None:
        answer.set_cookie(
            self._cookie(name),
            value,
            max_age=int(lives_for.total_seconds()),
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="Lax",  # the callback comes from the provider's site
        )

    def _is_own(self, asked: Asked) -> bool:
        """Return whether the page itself has sent this request.

        After a page with `Referrer-Policy: no-referrer`, browsers write `Origin: null` (Fetch §3.2). Then `Sec-Fetch-Site`,
        which no page can write, has to say it.
        """
        origins = asked.request.headers.getall("Origin", [])
        sites = asked.request.headers.getall("Sec-Fetch-Site", [])
        if sites and sites != ["same-origin"]:
            return False
        return origins == [origin_of(self._base())] or (
            origins in (["null"], []) and sites == ["same-origin"]
        )


def _state(consent: str, progress: ConsentProgress) -> dict[str, object]:
    result = progress.result
    failure = _failure(progress)
    return {
        "id": consent,
        "state": progress.state.value,
        "held": progress.held,
        "scope": result.scope if result else None,
        "missing_scopes": list(result.missing_scopes) if result else [],
        "expires_at": result.expires_at if result else None,
        **({"failure": failure} if failure else {}),
    }


def _failure(progress: ConsentProgress) -> dict[str, object] | None:
    failure = progress.failure
    return {"kind": failure.kind.value, "code": failure.named} if failure else None


def _sent_on(asked: Asked, url: str) -> web.Response:
    """Send a browser to another site.

    Chromium holds every redirect after a form to the `form-action` of the page with that form, also to that of the
    provider's page (CSP 3 §4.2.6). A redirect on to the application, or of the provider to its sign-in, would be
    blocked. So a browser gets a page that leads on, which ends the chain, and any other client a redirect.
    """
    if asked.request.headers.get("Sec-Fetch-Mode") == "navigate":
        return _shown(page.onward(url))
    return web.Response(status=SEE_OTHER, headers={"Location": url})


def _shown(one: Page) -> web.Response:
    headers = {"Content-Security-Policy": one.policy, "X-Frame-Options": "DENY"}
    return web.Response(
        status=one.status, text=one.html, content_type="text/html", charset="utf-8", headers=headers
    )
