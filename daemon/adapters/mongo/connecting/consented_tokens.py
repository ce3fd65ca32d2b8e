"""Tokens that a consent of this store has granted.

The newest consent is stored, and wins over renewals of the former grant. A consent is stored once: a second attempt,
after a crash, must not put a refresh token back that was rotated in between.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from bson import ObjectId

from daemon.adapters.mongo.admin.consents import (
    Ambiguous,
    Consents,
    Contended,
    Laying,
    Notes,
    Refused,
    Seals,
    SecondCopy,
)
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_document import Document
from daemon.domain.access_key import SUBJECT
from daemon.domain.claim import StoreLost, Unusable
from daemon.domain.consent_request import Binding, Bound, ConsentFailure, ConsentFailureKind
from daemon.domain.discard import Harm
from daemon.domain.held_grant import DiscardedGrant
from daemon.domain.secret import Secret
from daemon.domain.stored_grant import GONE, REVOKING
from daemon.domain.token import Token

ACCOUNT = "provider_account"  # the provider's name for the account
_READ = (
    *("state", "paused_by", "refresh_token", "revision", "vars", "extra", "meta", "origin.key"),
    *("consent", "connected_at", "missing_scopes", ACCOUNT),
)


class _Stored(Exception):
    """The grant of this consent is stored already."""


class _Superseded(Exception):
    """A newer consent is stored."""


class _NotBound(Exception):
    """The grant must not be stored."""

    def __init__(self, kind: ConsentFailureKind, message: str) -> None:
        super().__init__(message)
        self.failure = ConsentFailure(kind=kind, message=message)


class _Connected:
    """Fits `Notes`. The operator or the application began the consent with a record of its own."""

    def __init__(self, audit: Notes) -> None:
        self._audit = audit

    async def note(
        self, _action: str, target: str, revision: object = None, *, audit_id: ObjectId | None = None
    ) -> None:
        await self._audit.note("connected", target, revision, audit_id=audit_id)


class ConsentedTokens:
    """Implements `connecting.ports.Tokens`. A record of each attempt goes to `audit`."""

    def __init__(self, mongo: Mongo, keyring: Callable[[], Seals], audit: Notes) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._notes = _Connected(audit)

    async def bind(self, token: Token, binding: Binding) -> Bound | ConsentFailure:
        def laying(stored: Document | None) -> Laying:
            return _laid(token, binding, stored)

        consents = Consents(self._mongo, self._keyring(), self._notes, read=_READ, fresh=True)
        try:
            await consents.add(token, extra=binding.extra, meta=binding.meta, decide=laying)
        except _Stored:
            return Bound.STORED
        except _Superseded:
            return Bound.SUPERSEDED
        except _NotBound as why:
            return why.failure
        except SecondCopy:
            return ConsentFailure(
                kind=ConsentFailureKind.DUPLICATE,
                message="another token already stores this refresh token: use that one, or remove it first",
            )
        except Contended as why:
            raise Unusable(str(why)) from None
        except Refused as why:
            return ConsentFailure(kind=ConsentFailureKind.UNUSABLE, message=str(why))
        except Ambiguous as lost:
            raise StoreLost(str(lost)) from None
        return Bound.STORED

    async def harm(self, providers: Collection[str], grant: DiscardedGrant) -> Harm:
        there: dict[str, object] = {"provider": {"$in": list(providers)}, "state": {"$nin": list(GONE)}}
        # Without a name on one of the two sides, the accounts may be the same.
        same: dict[str, object] = {} if grant.account is None else {ACCOUNT: {"$in": [grant.account, None]}}
        if grant.refresh_token is not None and await self._is_stored(grant.refresh_token, there | same):
            return Harm.SAME_TOKEN
        if await self._finds({**there, **same, "state": {"$nin": [*GONE, REVOKING]}}):
            return Harm.SAME_ACCOUNT
        return Harm.SOON if await self._finds({**there, **same, "state": REVOKING}) else Harm.NONE

    async def _is_stored(self, refresh: Secret, there: Mapping[str, object]) -> bool:
        """Return whether a token holds this refresh token, or may hold it, since its writer has stored no fingerprint."""
        prints = self._keyring().fingerprints(refresh.reveal())
        known = {"grant_fingerprint": {"$in": prints, "$type": "string"}, "state": {"$nin": list(GONE)}}
        unknown = {**there, "refresh_token": {"$type": "string"}, "grant_fingerprint": None}
        return await self._finds(known) or await self._finds(unknown)

    async def _finds(self, query: Mapping[str, object]) -> bool:
        return await self._mongo.guarded(self._mongo.tokens.find_one(query, {"_id": 1})) is not None


def _laid(token: Token, binding: Binding, stored: Document | None) -> Laying:
    """Return how the grant is laid over `stored`. Raises _Stored, _Superseded or _NotBound."""
    fields: dict[str, object] = {
        "consent": binding.consent,
        "connected_at": binding.asked_at,
        "missing_scopes": list(binding.missing_scopes),
        ACCOUNT: binding.account,
    }
    if binding.subject is not None:
        fields[SUBJECT] = binding.subject
    if stored is None:
        return Laying(fields=fields)
    if stored.get("consent") == binding.consent:
        raise _Stored
    if _is_newer(stored, binding.asked_at):
        raise _Superseded
    state = {"state": {"$eq": stored.get("state")}}
    if stored.get("state") == REVOKING:
        raise _NotBound(
            ConsentFailureKind.REVOKING, f"{token.id} is being revoked: start again when that has ended"
        )
    if stored.get("state") in GONE:
        return Laying(condition=state, fields=fields, anew=True)
    _check_account(token, binding, stored)
    if token.refresh_token is None and stored.get("refresh_token") is not None:
        raise _NotBound(
            ConsentFailureKind.NO_REFRESH_TOKEN,
            f"{token.id} holds a refresh token and this response has none, so it was not changed",
        )
    if binding.account is None:
        fields[ACCOUNT] = stored.get(ACCOUNT)  # what was known before still holds
    return Laying(condition=state, fields=fields)


def _is_newer(stored: Mapping[str, object], asked_at: datetime) -> bool:
    """Return whether a consent that was given later is stored. A renewal of the former grant is none."""
    connected_at = stored.get("connected_at")
    return isinstance(connected_at, datetime) and connected_at > asked_at


def _check_account(token: Token, binding: Binding, stored: Mapping[str, object]) -> None:
    before = stored.get(ACCOUNT)
    if binding.replace or binding.account is None or not isinstance(before, str):
        return
    if before != binding.account:
        raise _NotBound(
            ConsentFailureKind.OTHER_ACCOUNT,
            f"the owner has consented with another account than the one of {token.id}: consent with that one, or allow"
            " the replacement",
        )
