"""Accounts that applications connect: a link, the owner's consent in a browser, and the proof of the application's session.

Three secrets tie a consent together. The cookie ties the callback to the browser that pressed the button, the state ties
it to this consent, and the connect code, with the application's code verifier, ties the grant to the session that began
it. So a link that was forwarded leads to no token: the grant stays unused until the right session completes it.
"""

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from daemon.domain.access_key import META, SUBJECT, AccessKey, Stored, Verb
from daemon.domain.authorization import (
    SECRET_BYTES,
    Authorization,
    Code,
    Denied,
    NotThisConsent,
    authorization_url,
    code_challenge,
    new_authorization,
    read_callback,
    state_hash,
    state_in,
)
from daemon.domain.consent_request import (
    WAITS_FOR,
    Completion,
    ConsentFailure,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentState,
    identified,
)
from daemon.domain.provider import Provider
from daemon.domain.return_url import fault_of_return_url, origin_of, with_parameters
from daemon.domain.secret import Secret, masked
from daemon.domain.stored_grant import REVOKING, Author, StoredGrant
from daemon.domain.token import token_id
from daemon.domain.token_url import NotSendable, token_url
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import Proof, Wish
from daemon.serving.ports import Clock, Consents, Deeds, Keys, Writes
from daemon.serving.problems import Invalid, Problem, not_found
from daemon.serving.write_rules import LARGEST_META

FOLLOWED_FOR = timedelta(seconds=10)
LOOK_EVERY = timedelta(milliseconds=200)
SOON = timedelta(seconds=2)
UNBOUND = "unbound"  # the audit's word for a consent that no session of the application is bound to
_LINK = re.compile(r"[A-Za-z0-9_-]{43}")
_CONSENT = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_ERROR = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # fit for return_url
_COOKIE = 16  # characters of the state's hash: each consent has a cookie of its own, so that two tabs don't disturb each other

_NOT_TAKEN = ConsentFailure(
    kind=ConsentFailureKind.UNAVAILABLE, message="no daemon has taken the code within ten seconds"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A new consent. `link`: the secret of its page."""

    consent: str
    link: Secret
    expires_at: datetime


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


class Links:
    """`return_urls`: to which browsers may be sent. `unbound`: whether applications may leave the session binding out.
    `can_seal`: whether there is a writer key for codes. `pause` waits between two looks at a consent.

    Every method raises Problem, StoreLost.
    """

    def __init__(
        self,
        consents: Consents,
        writes: Writes,
        keys: Keys,
        deeds: Deeds,
        clock: Clock,
        *,
        providers: Callable[[], Mapping[str, Provider]],
        return_urls: tuple[str, ...],
        unbound: bool,
        can_seal: bool,
        pause: Callable[[timedelta], Awaitable[None]],
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._consents = consents
        self._writes = writes
        self._keys = keys
        self._deeds = deeds
        self._clock = clock
        self._providers = providers
        self._return_urls = return_urls
        self._unbound = unbound
        self._can_seal = can_seal
        self._pause = pause
        self._random = random

    # ---------------------------------------------------------------- of the application

    async def begin(self, caller: Caller, wish: Wish, base: str) -> Begun:
        """Begin a consent. `base`: the URL under which browsers reach this service."""
        name, provider = self._wished(caller, wish)
        stored = await self._writes.stored(name)
        wish = _filled_in(wish, caller.key)
        self._require_allowed(caller.key, name, stored, wish)
        variables = {**(stored.vars if stored is not None and not stored.is_gone else {}), **wish.vars}
        callback = f"{base.rstrip('/')}/connect/callback/{provider.name}"
        authorization = self._authorization(provider, wish, variables, callback)
        now = self._clock.now()
        request = identified(
            ConsentRequest(
                id=uuid4().hex,
                provider=provider.name,
                account=wish.account,
                nonce=authorization.nonce,
                issuer=authorization.issuer,
                redirect_uri=callback,
                scopes=authorization.scopes,
                vars=variables,
                subject=wish.subject,
                meta=wish.meta,
                replace=wish.replace,
                code_challenge=wish.code_challenge,
                key=caller.key.id,
                return_url=wish.return_url,
                expires_at=now + WAITS_FOR,
            )
        )
        author = _author(caller.key, caller.address, caller.peer)
        result = None if wish.code_challenge else UNBOUND
        await self._deeds.note(author, "connect", name, result=result, subject=wish.subject)
        link = self._secret()
        await self._consents.insert(request, state_hash=None, link_hash=hashed(link))
        return Begun(consent=request.id, link=link, expires_at=request.expires_at)

    async def progress(self, caller: Caller, consent: str) -> ConsentProgress:
        """Return the state of a consent that the caller's key has begun."""
        _require_verb(caller)
        progress = await self._consents.progress(consent) if _CONSENT.fullmatch(consent) else None
        if progress is None or progress.key != caller.key.id:
            raise _no_consent()
        return progress

    async def complete(self, caller: Caller, consent: str, proof: Proof) -> ConsentProgress:
        """Let the daemon bind the grant to the account, if the proof is right. Return the state at most ten seconds later."""
        progress = await self.progress(caller, consent)
        if progress.state is ConsentState.ASKED and not progress.held:
            progress = await self._followed(consent) or progress
        if progress.state.is_final:
            raise _ended(progress)
        request = await self._consents.recall(consent)
        if request is None:
            raise Problem("conflict", "The owner has not consented yet.", retry_after=SOON)
        self._require_allowed(caller.key, request.token, await self._writes.stored(request.token), request)
        author = _author(caller.key, caller.address, caller.peer)
        await self._deeds.note(author, "connect_complete", request.token, subject=request.subject)
        done = await self._consents.complete(
            consent,
            key=caller.key.id,
            connect_code_hash=hashed(proof.connect_code),
            challenge=code_challenge(proof.code_verifier),
        )
        if done is not Completion.TAKEN:
            await self._deeds.note(
                author, "connect_complete", request.token, result=done.value, subject=request.subject
            )
        match done:
            case Completion.TAKEN:
                return await self._followed(consent, held=False) or progress
            case Completion.WRONG:
                raise Invalid(("connect_code", "or code_verifier is not that of this consent"))
            case Completion.OVER:
                raise Problem("conflict", "This consent has ended. Begin another one.")
            case Completion.UNKNOWN:
                raise _no_consent()

    # ---------------------------------------------------------------- of the owner's browser

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
        browser = self._secret()
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
        if request is None or not self._is_allowed(request):
            return None
        key = (await self._keys.find(request.key or "")).value
        known = self._providers().get(provider)
        answered = Answered(
            request=request,
            cookie=cookie,
            provider=known.definition.title if known else provider,
            application=key.name if key else "",
        )
        author = Author(key=request.key or "", name=answered.application, ip=address)
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
        connect_code = self._secret() if request.code_challenge else None
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
        progress = await self._followed(request.id)
        if progress is None:
            return _NOT_TAKEN
        if progress.state.is_final and progress.state is not ConsentState.DONE:
            return progress.failure or _NOT_TAKEN
        if progress.state is ConsentState.WAITING and await self._consents.refuse(request.id, _NOT_TAKEN):
            return _NOT_TAKEN
        return None

    async def _followed(self, consent: str, *, held: bool = True) -> ConsentProgress | None:
        """Wait until a consent has ended or, with `held`, until its grant is there. Return its last state."""
        end = self._clock.boot() + FOLLOWED_FOR
        while True:
            progress = await self._consents.progress(consent)
            if progress is None or progress.state.is_final or (held and progress.held):
                return progress
            if self._clock.boot() >= end:
                return progress
            await self._pause(LOOK_EVERY)

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
        if not self._is_allowed(request):
            return None
        return (request, provider, key) if Verb.CONNECT in key.can and key.names(request.token) else None

    def _is_allowed(self, request: ConsentRequest) -> bool:
        """Return whether this service would begin the consent now. The configuration may have changed, and the document may
        have another author.
        """
        if request.code_challenge is None and not self._unbound:
            return False
        return (
            request.return_url is None or fault_of_return_url(request.return_url, self._return_urls) is None
        )

    def _wished(self, caller: Caller, wish: Wish) -> tuple[str, Provider]:
        """Return the token's id and its provider. Raises Problem unless they can be connected."""
        try:
            name = token_id(wish.provider, wish.account)
        except ValueError as why:
            raise Invalid(("account", f"is refused: {why}")) from None
        _require_verb(caller)
        if not caller.key.names(name):
            raise not_found()
        if caller.away:
            raise Problem("unavailable", "MongoDB does not answer.", retry_after=SOON)
        provider = self._providers().get(wish.provider)
        if provider is None:
            raise Problem("unknown-provider", "No provider of this name is configured.")
        if not self._can_seal:
            raise Problem(
                "unavailable",
                "This service has no writer key for codes, so it can't connect accounts. An operator sets keys.writer to"
                " what `refreshd keys writer` prints.",
            )
        if faults := self._faults(provider, wish):
            raise Invalid(*faults)
        return name, provider

    def _faults(self, provider: Provider, wish: Wish) -> list[tuple[str, str]]:
        faults = [
            (f"vars.{name}", f"is not a variable of {provider.name}")
            for name in sorted(wish.vars.keys() - provider.definition.variables.keys())
        ]
        if provider.definition.authorize_url is None:
            faults.append(
                ("provider", "has no authorize_url in its definition: store its token response by PUT")
            )
        elif not provider.client_id:
            faults.append(("provider", "has no client_id in the service's configuration"))
        if wish.code_challenge is None and not self._unbound:
            faults.append(
                ("code_challenge", "is required: without it, any browser could complete the consent")
            )
        if wish.return_url is None:
            if wish.code_challenge is not None:
                faults.append(("return_url", "is required with code_challenge: it gets the connect_code"))
        elif fault := fault_of_return_url(wish.return_url, self._return_urls):
            faults.append(("return_url", fault))
        return faults

    def _require_allowed(
        self, key: AccessKey, name: str, stored: StoredGrant | None, wish: Wish | ConsentRequest
    ) -> None:
        """Raise Problem unless the key may connect the account, as its token is stored and as it would become."""
        offered = {f"{META}{one}": text for one, text in wish.meta.items()}
        if wish.subject is not None:
            offered[SUBJECT] = wish.subject
        if sum(len(one.encode()) + len(text.encode()) for one, text in offered.items()) > LARGEST_META:
            raise Invalid(("meta", f"would have more than {LARGEST_META} bytes"))
        may_replace = Verb.REPLACE in key.can
        if wish.replace and not may_replace:
            raise not_found()
        before: Mapping[str, str] = {}
        if stored is not None and not stored.is_gone:
            before = stored.token.selected
            if not key.may(Verb.CONNECT, stored.selected):
                raise not_found()
            if stored.token.state == REVOKING:
                raise Problem("revoking", "This token is being revoked.")
            if (
                stored.token.subject not in (None, offered.get(SUBJECT, stored.token.subject))
                and not may_replace
            ):
                raise not_found()
        if not key.may(Verb.CONNECT, Stored(id=name, fields={**before, **offered})):
            raise not_found()

    def _authorization(
        self, provider: Provider, wish: Wish, variables: Mapping[str, str], redirect_uri: str
    ) -> Authorization:
        """Return an authorization of which nothing but the nonce and the scopes is used. Raises Invalid if the owner
        couldn't be sent to the provider.
        """
        try:
            authorization = new_authorization(
                provider,
                random=self._random(3 * SECRET_BYTES),
                redirect_uri=redirect_uri,
                scopes=wish.scopes,
            )
        except NotSendable as why:
            raise Invalid(("scopes", f"are refused: {why}")) from None
        try:
            token_url(provider, variables)
            authorization_url(provider, authorization, variables)
        except NotSendable as why:
            raise Invalid(("vars", f"are refused: {why}")) from None
        return authorization

    def _authorization_of(self, request: ConsentRequest, provider: Provider) -> Authorization:
        """Return the authorization of a consent, with a new state and a new verifier."""
        new = new_authorization(
            provider,
            random=self._random(3 * SECRET_BYTES),
            redirect_uri=request.redirect_uri,
            scopes=request.scopes,
        )
        return replace(new, nonce=request.nonce, issuer=request.issuer, scopes=request.scopes)

    def _secret(self) -> Secret:
        """Return a new secret of 256 bits."""
        return Secret(urlsafe_b64encode(self._random(SECRET_BYTES)).rstrip(b"=").decode())


def hashed(secret: Secret) -> str:
    """Return the digest under which a secret of 256 bits is stored."""
    return sha256(secret.reveal().encode()).hexdigest()


def _read(query: str, state: Secret, request: ConsentRequest) -> Code | Denied:
    authorization = Authorization(state=state, redirect_uri=request.redirect_uri, issuer=request.issuer)
    return read_callback(query, authorization)


def _filled_in(wish: Wish, key: AccessKey) -> Wish:
    """Return the wish with the fields that the key's `where` names and the wish does not."""
    meta = {name.removeprefix(META): text for name, text in key.where.items() if name.startswith(META)}
    return replace(wish, meta={**meta, **wish.meta}, subject=wish.subject or key.where.get(SUBJECT))


def _author(key: AccessKey, address: str, peer: int | None) -> Author:
    return Author(key=key.id, name=key.name, ip=address, peer=peer)


def _require_verb(caller: Caller) -> None:
    if Verb.CONNECT not in caller.key.can:
        raise not_found()


def _ended(progress: ConsentProgress) -> Problem:
    failure = progress.failure
    fields = {"failure": {"kind": failure.kind.value, "code": failure.named}} if failure else {}
    return Problem("conflict", f"This consent has ended: {progress.state.value}.", fields=fields)


def _no_consent() -> Problem:
    return Problem("not-found", "There is no such consent, or another key has begun it.")
