"""Tokens that came from an application's store: where each came from, what an import does with it, and the slices in
which such tokens become active.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256

from daemon.domain.due import Moment, first_due
from daemon.domain.mirrored import STAND_IN
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.token import Token

READ_WITHIN = timedelta(seconds=60)  # an activation trusts no older reading of the application's store
_SLICES = 100
_SLICE_DIGITS = 8


def slice_of(token_id: str) -> int:
    """Return the slice of a token, 0 to 99: the first 8 hexadecimal digits of SHA-256 of its id in UTF-8, modulo 100.

    The old application computes the same, to leave these tokens alone. `tests/vectors/slices.json` has examples.
    """
    return int(sha256(token_id.encode()).hexdigest()[:_SLICE_DIGITS], 16) % _SLICES


def in_first(percent: int, token_id: str) -> bool:
    """Return whether the token is among the first `percent` percent. A larger percentage includes a smaller one."""
    return slice_of(token_id) < percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The row that a token was read from. `row`: the whole row, encoded; `rest`: the same without its tokens.

    `read_at`: no later than the moment of reading. `end_is_known`: whether the row says when the access token ends.
    """

    layout: str
    source: str
    key: str
    row: Secret
    rest: Secret
    read_at: datetime
    end_is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A valid row, as the token that it becomes. `label` names the row in messages."""

    label: str
    token: Token
    origin: Origin
    extra: Mapping[str, object] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    last_used_at: datetime | None = None
    subject: str | None = None
    unclear: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def shows_a_stand_in(self) -> bool:
        """Whether the row was written by a mirror, so that the token is newer here and the row holds no refresh token."""
        return self.token.refresh_token == Secret(STAND_IN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The document that has a candidate's id.

    `ours`: it came from this very row. `same_row`: the row has not changed since it was last read or written.
    `same_grant`: both hold the same refresh token. `new_grant`: the row holds another refresh token than it did then.
    `renewed`: refreshd has renewed the token since. `later`: the row's access token ends later than the stored one.
    `in_use`: it is active here, or was activated once.
    `version`: for the store, to swap against.
    """

    ours: bool
    same_row: bool
    same_grant: bool
    new_grant: bool
    renewed: bool
    later: bool
    in_use: bool
    version: object = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the store holds that concerns a candidate. `row_holder`: the id under which its row is stored already.
    `grant_holder`: another id that stores its refresh token. `revoked`: the id of the tombstone that has this id, or the
    fingerprint of its refresh token.
    """

    stored: Stored | None = None
    row_holder: str | None = None
    grant_holder: str | None = None
    revoked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An imported token that is not active yet. `read_at`: when its row was last read."""

    id: str
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A token whose request may still be running: `holder` is the instance that claimed it.

    None: no request is running, but the outcome of the last one is unknown.
    """

    id: str
    holder: str | None


Due = Callable[[Token, bool], datetime | None]  # of a token, and whether its end is known


class CopyFailed(Exception):
    """The copy of the source's rows can't be written. The text is a sentence for operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRow:
    """A row as the copy holds it: `cells` is what `ForeignStore.encode` made of them."""

    name: str | None
    file: str | None
    cells: str = field(repr=False)


class Step(Enum):
    """What an import does with a valid row."""

    INSERT = "insert"
    UPDATE = "update"
    LEAVE = "leave"


class Refused(ValueError):
    """A row is refused because of the store's content. The text is a clause for people and contains no secret."""


def step_for(candidate: Candidate, standing: Standing) -> Step:
    """Return what an import does with `candidate`. Raises Refused.

    A token in use is never touched. Nor is one that refreshd has renewed since the row was read, unless the row holds
    a newer refresh token than it did then: the one that it held is spent.
    """
    name = candidate.token.id
    if standing.revoked is not None:
        raise Refused(f"the grant of {standing.revoked} was revoked; let the owner consent again")
    if candidate.shows_a_stand_in:
        if standing.stored is None:
            raise Refused(
                "a mirror has written this row, and its refresh token is held by refreshd elsewhere"
            )
        return Step.LEAVE
    _refuse_second_copy(name, standing)
    stored = standing.stored
    if stored is None:
        return Step.INSERT
    if not stored.ours:
        if stored.same_grant:
            return Step.LEAVE
        raise Refused(
            f"{name} is stored already and did not come from this row; remove that token first if the row is the newer one"
        )
    if stored.in_use or stored.same_row or (stored.renewed and not stored.new_grant):
        return Step.LEAVE
    if stored.renewed and not stored.later and not stored.same_grant:
        raise Refused(
            f"the application and refreshd have both renewed {name}, and the row is not the newer one; export {name}, or"
            " let the owner consent again"
        )
    return Step.UPDATE


def _refuse_second_copy(name: str, standing: Standing) -> None:
    if standing.row_holder is not None:
        raise Refused(
            f"this row is stored as {standing.row_holder} already; remove that token first if it is to become {name}"
        )
    if standing.grant_holder is not None and (standing.stored is None or not standing.stored.same_grant):
        raise Refused(
            f"{standing.grant_holder} already stores this refresh token, and two tokens would spend it; keep one of them"
        )


def activation_due(
    provider: Provider, token: Token, *, end_is_known: bool, moment: Moment
) -> datetime | None:
    """Return when an imported token is first renewed after its activation: now, unless its access token is known to
    live on. None: nothing renews it.
    """
    due = first_due(provider, token, moment=moment)
    lives_on = end_is_known and (token.expires_at is None or token.expires_at > moment.now)
    return due if due is None or lives_on else moment.now
