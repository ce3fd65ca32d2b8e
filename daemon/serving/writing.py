"""Writes of an application: a new grant stored, fields changed, a token paused, resumed, removed or revoked."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from daemon.domain.access_key import Verb
from daemon.domain.consent import Consent, ConsentInvalid, read_consent
from daemon.domain.device import is_other_device
from daemon.domain.due import Moment, Timing, first_due
from daemon.domain.new_token import new_token
from daemon.domain.provider import Provider
from daemon.domain.revocation_request import revocation_of
from daemon.domain.secret import Secret
from daemon.domain.served_token import ServedToken
from daemon.domain.stored_grant import (
    REMOVED,
    REVOKING,
    Author,
    DuplicateGrant,
    Edit,
    GrantOver,
    KeepsChanging,
    StoredGrant,
    Unclear,
)
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable, token_url
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import Faults, Offer, Patch
from daemon.serving.ports import Clock, Writes
from daemon.serving.preconditions import UNCONDITIONAL, Preconditions
from daemon.serving.problems import Invalid, Problem, not_found
from daemon.serving.write_rules import filled_in, laid, patched, removed, revoking

OLDEST_RESPONSE = timedelta(hours=1)
CLOCKS_DIFFER = timedelta(seconds=30)  # by as much, an application's clock may be ahead
SOON = timedelta(seconds=2)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The answer to a write: the token as it is now. `created`: nothing was stored under its id before."""

    token: ServedToken
    created: bool = False


class Writing:
    """`providers`: the configured ones; they need no client. `can_seal`: whether there is a writer key.
    `device_changed` receives the caller and the token id after a write that names another device than the consent.

    Every method raises Problem, StoreLost.
    """

    def __init__(
        self,
        writes: Writes,
        clock: Clock,
        *,
        providers: Callable[[], Mapping[str, Provider]],
        timing: Timing,
        can_seal: bool,
        chance: Callable[[], float] = random.random,
        device_changed: Callable[[Caller, str], None] = lambda _caller, _token: None,
    ) -> None:
        self._writes = writes
        self._clock = clock
        self._providers = providers
        self._timing = timing
        self._can_seal = can_seal
        self._chance = chance
        self._device_changed = device_changed

    def require(self, caller: Caller, verb: Verb, name: str) -> None:
        """Raise Problem unless the key may do `verb` with a token of this id, whatever is stored under it."""
        if verb not in caller.key.can or not caller.key.names(name):
            raise not_found()
        if caller.away:
            raise Problem("unavailable", "MongoDB does not answer.", retry_after=SOON)

    async def put(
        self, caller: Caller, name: str, offer: Offer, conditions: Preconditions = UNCONDITIONAL
    ) -> Stored:
        """Store a grant: a new token, or a new consent for a stored one."""
        self.require(caller, Verb.WRITE, name)
        provider = self._providers().get(name.partition(":")[0])
        if provider is None:
            raise Problem("unknown-provider", "No provider of this name is configured.")
        if not self._can_seal:
            raise Problem(
                "unavailable",
                "This service has no writer key, so it can't store a refresh token. An operator sets keys.writer to what"
                " `refreshd keys writer` prints.",
            )
        now = self._clock.now()
        offer = filled_in(offer, caller.key.where)
        received_at = _received(offer, now)
        consent = _consent(provider, offer, received_at, now)
        token = new_token(
            name,
            provider,
            consent,
            variables=offer.vars,
            moment=Moment(now, self._chance(), self._timing),
        )
        secret = token.refresh_token
        prints = frozenset(self._writes.fingerprints(secret)) if secret is not None else frozenset[str]()
        differs = False

        def decide(stored: StoredGrant | None) -> Edit:
            nonlocal differs
            edit = laid(
                stored,
                offer,
                key=caller.key,
                name=name,
                received_at=received_at,
                fingerprints=prints,
                due_at=token.due_at,
                conditions=conditions,
            )
            kept = stored.vars if stored is not None and not edit.anew else {}
            _require_url(provider, {**kept, **offer.vars})
            meta = (stored.meta or {}) if stored is not None and not edit.anew else {}
            differs = is_other_device(meta, {**meta, **offer.meta})
            return edit

        created, stored = await self._done(
            self._writes.put(_author(caller), caller.key.where, token, consent.extra, offer.meta, decide)
        )
        if differs:
            self._device_changed(caller, name)
        return Stored(token=stored, created=created)

    async def patch(
        self, caller: Caller, name: str, patch: Patch, conditions: Preconditions = UNCONDITIONAL
    ) -> Stored:
        """Change `meta` and `subject`, or pause or resume the token."""
        self.require(caller, Verb.WRITE if patch.state is None else Verb.PAUSE, name)
        author, now = _author(caller), self._clock.now()
        differs = False

        def decide(stored: StoredGrant | None) -> tuple[str, Edit] | None:
            nonlocal differs
            meta = (stored.meta or {}) if stored is not None else {}
            differs = is_other_device(meta, patch.applied_to(meta))
            due_at = self._due_at(stored, now) if stored is not None else None
            return patched(
                stored, patch, key=caller.key, author=author, now=now, due_at=due_at, conditions=conditions
            )

        resumes = patch.state is State.ACTIVE
        token = await self._done(self._writes.edit(author, caller.key.where, name, decide, alone=resumes))
        if differs:
            self._device_changed(caller, name)
        return Stored(token=token)

    async def remove(
        self, caller: Caller, name: str, *, revoke: bool, conditions: Preconditions = UNCONDITIONAL
    ) -> str:
        """Take the token out of use. From now on it is not served. Return what became of it: "revoking" if the daemon ends
        its grant at the provider, or "removed" if the grant stays valid and the daemon deletes the token.
        """
        self.require(caller, Verb.REVOKE, name)
        now = self._clock.now()

        def ordered(stored: StoredGrant | None) -> tuple[str, Edit]:
            token, edit = revoking(stored, key=caller.key, now=now, conditions=conditions)
            self._require_revocation(token.token.provider)
            return "revoke", edit

        def marked(stored: StoredGrant | None) -> tuple[str, Edit]:
            return "remove", removed(stored, key=caller.key, now=now, conditions=conditions)

        write = self._writes.edit(_author(caller), caller.key.where, name, ordered if revoke else marked)
        await self._done(write)
        return REVOKING if revoke else REMOVED

    def _require_revocation(self, name: str) -> None:
        provider = self._providers().get(name)
        if provider is not None and revocation_of(provider.definition) is not None:
            return
        page = provider.definition.manage_url if provider is not None else None
        raise Problem(
            "no-revocation",
            "refreshd can't end this grant at the provider. With ?revoke=false, the token is removed here and its grant"
            " stays valid." + (" Its owner can end it at manage_url." if page else ""),
            fields={"manage_url": page} if page else {},
        )

    async def _done(self, write: Awaitable[Result]) -> Result:
        try:
            return await write
        except DuplicateGrant:
            raise Problem(
                "duplicate-grant", "Another token holds this refresh token. Store each grant only once."
            ) from None
        except GrantOver:
            raise Problem(
                "conflict", "This refresh token was revoked, so it is of no use. Let the owner consent again."
            ) from None
        except KeepsChanging:
            raise Problem(
                "unavailable",
                "The token kept changing during the write, so nothing was written.",
                retry_after=SOON,
            ) from None
        except Unclear:
            raise Problem(
                "unavailable",
                "MongoDB was lost during the write. Whether it was stored is unknown: read the token before you repeat"
                " the request.",
            ) from None

    def _due_at(self, stored: StoredGrant, now: datetime) -> datetime | None:
        """Return when a token is due that is resumed: as if it were stored now, but never before a retry was due."""
        token, before = stored.token, stored.due_when_paused
        provider = self._providers().get(token.provider)
        if before is None or provider is None:
            return before
        due_at = first_due(
            provider,
            Token(
                id=token.id,
                provider=token.provider,
                account=token.account,
                state=State.ACTIVE,
                grant=stored.grant,
                refresh_token=Secret("") if stored.has_refresh_token else None,
                access_token=Secret("") if token.sealed is not None else None,
                issued_at=token.issued_at,
                expires_at=token.expires_at,
                refresh_expires_at=stored.refresh_expires_at,
            ),
            moment=Moment(now, self._chance(), self._timing),
        )
        return max(due_at, before) if due_at is not None and token.failures else due_at


def _received(offer: Offer, now: datetime) -> datetime:
    at = offer.received_at or now
    return min(at, now) if at <= now + CLOCKS_DIFFER else at


def _consent(provider: Provider, offer: Offer, received_at: datetime, now: datetime) -> Consent:
    """Return what the response grants. Raises Problem that names every fault."""
    faults: Faults = []
    if received_at > now:
        faults.append(("received_at", "is in the future"))
    if received_at < now - OLDEST_RESPONSE:
        faults.append(("received_at", "is more than an hour ago, so the response may be spent"))
    if offer.consented_at is not None and offer.consented_at > now + CLOCKS_DIFFER:
        faults.append(("consented_at", "is in the future"))
    faults += [
        (f"vars.{name}", f"is not a variable of {provider.name}")
        for name in sorted(offer.vars.keys() - provider.definition.variables.keys())
    ]
    try:
        consent = read_consent(
            provider.definition,
            offer.response,
            received_at=min(received_at, now),
            now=now,
            consented_at=offer.consented_at,
        )
    except ConsentInvalid as why:
        faults.append(("response", f"is refused: {why}"))
    if faults:
        raise Invalid(*faults)
    return consent


def _require_url(provider: Provider, variables: Mapping[str, str]) -> None:
    """Raise Problem if the token URL is incomplete, or would lead elsewhere."""
    try:
        token_url(provider, variables)
    except NotSendable as why:
        raise Invalid(("vars", f"are refused: {why}")) from None


def _author(caller: Caller) -> Author:
    return Author(key=caller.key.id, name=caller.key.name, ip=caller.address, peer=caller.peer)
