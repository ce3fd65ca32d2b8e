"""Accounts that applications connect: a link for the owner, and the proof of the application's session.

Three secrets tie a consent together. The cookie ties the callback to the browser that pressed the button, the state ties
it to this consent, and the connect code, with the application's code verifier, ties the grant to the session that began
it. So a link that was forwarded leads to no token: the grant stays unused until the right session completes it.
`owner_browser` has the browser's half.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import uuid4

from daemon.domain.access_key import META, SUBJECT, AccessKey, Verb
from daemon.domain.authorization import (
    SECRET_BYTES,
    Authorization,
    authorization_url,
    new_authorization,
)
from daemon.domain.consent_request import (
    WAITS_FOR,
    Completion,
    ConsentProgress,
    ConsentRequest,
    ConsentState,
    identified,
)
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof, hashed
from daemon.domain.stored_grant import Author
from daemon.domain.token import token_id
from daemon.domain.token_url import NotSendable, token_url
from daemon.serving.browser_secret import new_secret
from daemon.serving.doorkeeper import Caller
from daemon.serving.following import Following
from daemon.serving.grant_request import Wish
from daemon.serving.link_rules import LinkRules, require_allowed
from daemon.serving.ports import Clock, Consents, Deeds, Writes
from daemon.serving.problems import Invalid, Problem, not_found

SOON = timedelta(seconds=2)
UNBOUND = "unbound"  # the audit's word for a consent that no session of the application is bound to
_CONSENT = re.compile(r"[A-Za-z0-9_.-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A new consent. `link`: the secret of its page."""

    consent: str
    link: Secret
    expires_at: datetime


class Links:
    """`can_seal`: whether there is a writer key for codes.

    Every method raises Problem, StoreLost.
    """

    def __init__(
        self,
        consents: Consents,
        writes: Writes,
        deeds: Deeds,
        clock: Clock,
        *,
        rules: LinkRules,
        following: Following,
        providers: Callable[[], Mapping[str, Provider]],
        can_seal: bool,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._consents = consents
        self._writes = writes
        self._deeds = deeds
        self._clock = clock
        self._rules = rules
        self._following = following
        self._providers = providers
        self._can_seal = can_seal
        self._random = random

    async def begin(self, caller: Caller, wish: Wish, base: str) -> Begun:
        """Begin a consent. `base`: the URL under which browsers reach this service."""
        name, provider = self._wished(caller, wish)
        stored = await self._writes.stored(name)
        wish = _filled_in(wish, caller.key)
        require_allowed(caller.key, name, stored, wish)
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
        link = new_secret(self._random)
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
            progress = await self._following.until_there(consent) or progress
        if progress.state.is_final:
            raise _ended(progress)
        request = await self._consents.recall(consent)
        if request is None:
            raise Problem("conflict", "The owner has not consented yet.", retry_after=SOON)
        require_allowed(caller.key, request.token, await self._writes.stored(request.token), request)
        author = _author(caller.key, caller.address, caller.peer)
        await self._deeds.note(author, "connect_complete", request.token, subject=request.subject)
        done = await self._consents.complete(consent, key=caller.key.id, proof=proof)
        if done is not Completion.TAKEN:
            await self._deeds.note(
                author, "connect_complete", request.token, result=done.value, subject=request.subject
            )
        match done:
            case Completion.TAKEN:
                return await self._following.until_there(consent, held=False) or progress
            case Completion.WRONG:
                raise Invalid(("connect_code", "or code_verifier is not that of this consent"))
            case Completion.OVER:
                raise Problem("conflict", "This consent has ended. Begin another one.")
            case Completion.UNKNOWN:
                raise _no_consent()

    # ----------------------------------------------------------------

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
        if faults := self._rules.faults(provider, wish):
            raise Invalid(*faults)
        return name, provider

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
