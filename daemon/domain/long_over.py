"""Which stored tokens are long over, so that an operator may delete them: dead ones, and ones that no application has
used. What is uncertain about a token always keeps it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from daemon.domain.token import UNPARSED_STORED, State


class Why(StrEnum):
    """Why a token is long over. The values are printed and audited."""

    DEAD = "dead"  # in state needs_reauth since
    UNUSED = "unused"  # not used since, or never used and stored since


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What an operator asks for: tokens that died, or were last used, at these instants or before them. None: not asked
    for. `not_unused`: providers whose tokens are used elsewhere, uncounted.
    """

    dead_since: datetime | None = None
    unused_since: datetime | None = None
    providers: frozenset[str] = frozenset()
    not_unused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A token as it is stored. `died_at`: the instant of its last failure, `failure` the kind of it. `held`: a request
    for it is running, or the outcome of one is unknown. `imported`: another application renewed it before;
    `activated_at`: refreshd does since then.
    """

    id: str
    provider: str
    state: str
    failure: str | None = None
    died_at: datetime | None = None
    created_at: datetime | None = None
    issued_at: datetime | None = None
    refreshed_at: datetime | None = None
    updated_at: datetime | None = None
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    held: bool = False
    imported: bool = False
    activated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LongOver:
    """A token that may be deleted, and since when it is over."""

    id: str
    provider: str
    why: Why
    since: datetime


def long_over(
    token: Standing, criteria: Criteria, *, now: datetime, busy: Collection[str] = ()
) -> LongOver | None:
    """Return why `token` is long over, or None if it is not. `busy`: tokens with an entry in a journal, which may hold
    their newest refresh token.
    """
    awaited = token.imported and token.activated_at is None  # the other application renews it, or will again
    parked = token.failure in UNPARSED_STORED  # a reply for it waits in a journal
    if awaited or parked or token.held or token.id in busy:
        return None
    since = _dead_since(token, criteria.dead_since, now=now)
    if since is not None:
        return LongOver(id=token.id, provider=token.provider, why=Why.DEAD, since=since)
    if token.provider in criteria.not_unused:
        return None
    since = _unused_since(token, criteria.unused_since)
    if since is not None:
        return LongOver(id=token.id, provider=token.provider, why=Why.UNUSED, since=since)
    return None


def _dead_since(token: Standing, limit: datetime | None, *, now: datetime) -> datetime | None:
    """Return when it died, if nothing has happened to it after `limit` and its access token has ended."""
    if limit is None or token.state != State.NEEDS_REAUTH or token.died_at is None:
        return None
    instants = (
        token.died_at,
        token.created_at,
        token.issued_at,
        token.refreshed_at,
        token.updated_at,
        token.last_used_at,
        token.activated_at,
    )
    ended = token.expires_at is None or token.expires_at <= now
    return token.died_at if ended and _all_by(limit, *instants) else None


def _unused_since(token: Standing, limit: datetime | None) -> datetime | None:
    """Return when it was last used, or else stored, if that was by `limit`, and so was its newest consent."""
    if limit is None or token.state not in {State.ACTIVE, State.NEEDS_REAUTH} or token.created_at is None:
        return None
    instants = (token.created_at, token.last_used_at, token.activated_at, _consented_at(token))
    return token.last_used_at or token.created_at if _all_by(limit, *instants) else None


def _consented_at(token: Standing) -> datetime | None:
    """Return when its owner consented, unless it has been renewed since: then that is no longer stored."""
    issued_at, refreshed_at = token.issued_at, token.refreshed_at
    renewed = issued_at is not None and refreshed_at is not None and issued_at <= refreshed_at
    return None if renewed else issued_at


def _all_by(limit: datetime, *instants: datetime | None) -> bool:
    return all(instant is None or instant <= limit for instant in instants)
