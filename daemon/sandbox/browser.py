"""The owner's side on the wire: the consent page, the device page, and what is done with their buttons."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import hdrs, web

from daemon.sandbox import pages
from daemon.sandbox.authorization import (
    Asked,
    AuthorizationEndpoint,
    Decision,
    Redirect,
    Wrong,
    origin_of,
)
from daemon.sandbox.consents import Consent, Consents
from daemon.sandbox.dialects import Dialect
from daemon.sandbox.faults import FaultBoard

LONGEST_ACCOUNT = 200
DEFAULT_ACCOUNT = "me"


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """The pages of one sandbox. They have neither a login nor a session."""

    authorization: AuthorizationEndpoint
    consents: Consents
    faults: FaultBoard
    dialect: Dialect
    issuer: Callable[[], str]

    async def show_consent(self, request: web.Request) -> web.StreamResponse:
        """The page of an authorization request."""
        asked = self.authorization.read(request.rel_url.raw_query_string, issuer=self.issuer())
        if not isinstance(asked, Asked):
            return _refused(asked)
        return _page(
            pages.consent(
                provider=self.dialect.name,
                client=self.authorization.client_id,
                scopes=asked.wish.scopes,
                fewer=self.authorization.terms.fewer,
                account=asked.login_hint or DEFAULT_ACCOUNT,
            ),
            leads_to=(origin_of(asked.redirect_uri),),
        )

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """The owner's button."""
        asked = self.authorization.read(request.rel_url.raw_query_string, issuer=self.issuer())
        if not isinstance(asked, Asked):
            return _refused(asked)
        decision = await self._decision(request)
        if isinstance(decision, str):
            return _sentence("The decision was not understood", decision, status=400)
        standing = self.faults.strike("authorize")
        redirect = self.authorization.decide(
            asked,
            decision,
            issuer=self.issuer(),
            fault=None if standing is None else standing.fault,
            now=datetime.now(UTC),
        )
        return _see(redirect.to)

    async def show_device(self, request: web.Request) -> web.StreamResponse:
        """The page for a user code, or the consent of the device that waits for the one in the query."""
        user_code = request.query.get("user_code")
        if user_code is None:
            return _page(pages.user_code(wrong=False))
        if (consent := self._waiting(user_code)) is None:
            return _page(pages.user_code(wrong=True), status=400)
        return _page(
            pages.consent(
                provider=self.dialect.name,
                client=self.authorization.client_id,
                scopes=consent.wish.scopes,
                fewer=self.authorization.terms.fewer,
                account=DEFAULT_ACCOUNT,
            )
        )

    async def decide_device(self, request: web.Request) -> web.StreamResponse:
        """The owner's button for a device."""
        if (consent := self._waiting(request.query.get("user_code", ""))) is None:
            return _page(pages.user_code(wrong=True), status=400)
        decision = await self._decision(request)
        if isinstance(decision, str):
            return _sentence("The decision was not understood", decision, status=400)
        consent.decide(
            approved=decision.approved,
            account=decision.account,
            scopes=decision.of(consent.wish, fewer=self.authorization.terms.fewer),
        )
        done = "The device is connected" if decision.approved else "The device was refused"
        return _sentence(done, "You can close this page.")

    def _waiting(self, user_code: str) -> Consent | None:
        return self.consents.waiting(user_code, now=datetime.now(UTC))

    async def _decision(self, request: web.Request) -> Decision | str:
        """What the form says, or why it can't be taken."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin != f"http://{request.host}":
            return "the form was sent by another site"
        form = await request.post()
        decision, account = form.get("decision"), form.get("account", DEFAULT_ACCOUNT)
        if decision not in ("approve", "deny"):
            return "decision must be approve or deny"
        if not isinstance(account, str) or not account or len(account) > LONGEST_ACCOUNT:
            return f"account must have 1 to {LONGEST_ACCOUNT} characters"
        chosen = [scope for scope in form.getall("scope", []) if isinstance(scope, str)]
        said = "listed" in form or bool(chosen)
        return Decision(
            approved=decision == "approve", account=account, scopes=tuple(chosen) if said else None
        )


def _refused(refusal: Redirect | Wrong) -> web.Response:
    match refusal:
        case Wrong(detail=detail):
            return _sentence("The request was refused", detail, status=400)
        case Redirect(to=to):
            return _see(to)


def _see(to: str) -> web.Response:
    """303: the browser follows by GET, so that the form goes nowhere else (RFC 9700, section 4.12)."""
    headers = {hdrs.LOCATION: to, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)


def _sentence(title: str, sentence: str, *, status: int = 200) -> web.Response:
    return _page(pages.message(title, sentence), status=status)


def _page(text: str, *, status: int = 200, leads_to: tuple[str, ...] = ()) -> web.Response:
    headers = pages.policy(*leads_to)
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)
