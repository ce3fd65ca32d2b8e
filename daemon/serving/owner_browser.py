"""The owner's browser: a page with one button, the provider's callback, and the way back to the application.

`links` says which secrets tie a consent to its browser and to the application's session.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from daemon.domain.access_key import AccessKey, Verb
from daemon.domain.authorization import (
    SECRET_BYTES,
    Authorization,
    Code,
    Denied,
    NotThisConsent,
    authorization_url,
    new_authorization,
    read_callback,
    state_hash,
    state_in,
)
from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind, ConsentRequest, ConsentState
from daemon.domain.provider import Provider
from daemon.domain.return_url import origin_of, with_parameters
from daemon.domain.secret import Secret, masked
from daemon.domain.session_proof import hashed
from daemon.domain.stored_grant import Author
from daemon.serving.browser_secret import new_secret
from daemon.serving.following import Following
from daemon.serving.link_rules import LinkRules
from daemon.serving.ports import Clock, Consents, Deeds, Keys

_LINK = re.compile(r"[A-Za-z0-9_-]{43}")
_ERROR = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # fit for return_url
_COOKIE = 16  # characters of the state's hash: each consent has a cookie of its own, so that two tabs don't disturb each other

_NOT_TAKEN = ConsentFailure(
    kind=ConsentFailureKind.UNAVAILABLE, message="no daemon has taken the code within ten seconds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The facts that an owner sees before the button. `leads_to`: the origins to which the button may lead. `returns_to`:
    that of the application. `is_bound`: the consent needs the proof of the application's session.
    """

    application: str
    provider: str
    account: str
    subject: str | None
    leads_to: tuple[str, ...]
    signs_in_at: str
    returns_to: str | None
    is_bound: bool
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """Where the button leads, and the cookie by which the browser is recognized."""

    url: str
    cookie: str
    value: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A callback of a consent in progress, which was used. `cookie`: the name of its browser's cookie. `refusal`: why there
    is no code. `connect_code`: of a bound consent.
    """

    request: ConsentRequest
    cookie: str
    provider: str
    application: str
    refusal: ConsentFailure | None = None
    connect_code: Secret | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a browser's way. `url`: the application's page, if it has one. Otherwise a page of the service says the
    rest. `failure`: why nothing was connected.
    """

    url: str | None
    provider: str
    application: str
    failure: ConsentFailure | None = None


class OwnerBrowser:
    """Every method raises StoreLost."""

    def __init__(
        self,
        consents: Consents,
        keys: Keys,
        deeds: Deeds,
        clock: Clock,
        *,
        rules: LinkRules,
        following: Following,
        providers: Callable[[], Mapping[str, Provider]],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._consents = consents
        self._keys = keys
        self._deeds = deeds
        self._clock = clock
        self._rules = rules
        self._following = following
        self._providers = providers
        self._random = random

    async def asking(self, link: str) -> Asking | None:
        """Return what the owner is asked, or None if the link can't be used. Nothing is changed."""
        found = await self._open(link)
        if found is None:
            return None
        request, provider, key = found
        url = authorization_url(provider, self._authorization_of(request, provider), request.vars)
        returns_to = origin_of(request.return_url) if request.return_url else None
        return Asking(
            application=key.name,
            provider=provider.definition.title,
            account=request.account,
            subject=request.subject,
            leads_to=tuple(dict.fromkeys(one for one in (origin_of(url), returns_to) if one)),
            signs_in_at=origin_of(url),
            returns_to=returns_to,
            is_bound=request.code_challenge is not None,
            expires_at=request.expires_at,
        )

    async def press(self, link: str) -> Pressed | None:
        """Use the link, or return None if it can't be used."""
        found = await self._open(link)
        if found is None:
            return None
        request, provider, _ = found
        authorization = self._authorization_of(request, provider)
        browser = new_secret(self._random)
        hash_ = state_hash(authorization.state.reveal())
        spent = await self._consents.spend_link(
            hashed(Secret(link)),
            browser_hash=hashed(browser),
            state_hash=hash_,
            code_verifier=authorization.code_verifier,
        )
        if spent is None:
            return None
        return Pressed(
            url=authorization_url(provider, authorization, request.vars),
            cookie=hash_[:_COOKIE],
            value=browser,
        )

    async def answer(
        self, provider: str, query: str, cookies: Callable[[str], str], address: str
    ) -> Answered | None:
        """Use a callback: its state, and the code in it. None: it belongs to no consent of this browser.

        `cookies` returns the value of a cookie by its name, or an empty text.
        """
        try:
            state = state_in(query)
        except NotThisConsent:
            return None
        cookie = state_hash(state)[:_COOKIE]
        browser = hashed(Secret(cookies(cookie)))
        request = await self._consents.called_back(provider, state_hash(state), browser)
        if request is None or request.key is None or not self._rules.allows(request):
            return None
        key = (await self._keys.find(request.key)).value
        known = self._providers().get(provider)
        answered = Answered(
            request=request,
            cookie=cookie,
            provider=known.definition.title if known else provider,
            application=key.name if key else "",
        )
        author = Author(key=request.key, name=answered.application, ip=address)
        answer = _read(query, Secret(state), request)
        if isinstance(answer, Denied):
            failure = ConsentFailure(
                kind=ConsentFailureKind.DENIED, code=answer.code, message=masked(answer.message, ())
            )
            await self._deeds.note(
                author, "connect_refused", request.token, result=failure.kind.value, subject=request.subject
            )
            await self._consents.refuse(request.id, failure)
            return replace(answered, refusal=failure)
        connect_code = new_secret(self._random) if request.code_challenge else None
        given = await self._consents.give_code(
            request.id,
            code=answer.code,
            connect_code_hash=hashed(connect_code) if connect_code else None,
        )
        return replace(answered, connect_code=connect_code) if given else None

    async def ended(self, answered: Answered) -> Ended:
        """Wait for the daemon, at most ten seconds. Return where the browser goes."""
        request, failure = answered.request, answered.refusal
        if failure is None:
            failure = await self._failure(request)
        parameters = {"connect": request.id}
        if failure is not None:
            parameters["error"] = failure.named if _ERROR.fullmatch(failure.named) else failure.kind.value
        elif answered.connect_code is not None:
            parameters["connect_code"] = answered.connect_code.reveal()
        return Ended(
            url=with_parameters(request.return_url, parameters) if request.return_url else None,
            provider=answered.provider,
            application=answered.application,
            failure=failure,
        )

    # ----------------------------------------------------------------

    async def _failure(self, request: ConsentRequest) -> ConsentFailure | None:
        """Return why a code has led to no grant, or None if it has, or if a daemon still exchanges it."""
        progress = await self._following.until_there(request.id)
        if progress is None:
            return _NOT_TAKEN
        if progress.state.is_final and progress.state is not ConsentState.DONE:
            return progress.failure or _NOT_TAKEN
        if progress.state is ConsentState.WAITING and await self._consents.refuse(request.id, _NOT_TAKEN):
            return _NOT_TAKEN
        return None

    async def _open(self, link: str) -> tuple[ConsentRequest, Provider, AccessKey] | None:
        """Return the consent of a link, if the link can be used now, and if its key may still connect the account."""
        if not _LINK.fullmatch(link):
            return None
        request = await self._consents.by_link(hashed(Secret(link)))
        if request is None or request.key is None:
            return None
        now = self._clock.now()
        key = (await self._keys.find(request.key)).value
        provider = self._providers().get(request.provider)
        if request.expires_at <= now or key is None or provider is None or not key.is_valid(now):
            return None
        if not self._rules.allows(request):
            return None
        return (request, provider, key) if Verb.CONNECT in key.can and key.names(request.token) else None

    def _authorization_of(self, request: ConsentRequest, provider: Provider) -> Authorization:
        """Return the authorization of a consent, with a new state and a new verifier."""
        new = new_authorization(
            provider,
            random=self._random(3 * SECRET_BYTES),
            redirect_uri=request.redirect_uri,
            scopes=request.scopes,
        )
        return replace(new, nonce=request.nonce, issuer=request.issuer, scopes=request.scopes)


def _read(query: str, state: Secret, request: ConsentRequest) -> Code | Denied:
    authorization = Authorization(state=state, redirect_uri=request.redirect_uri, issuer=request.issuer)
    return read_callback(query, authorization)
