"""The figures of the whole store, counted from time to time. They are the same on every replica."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.domain.event import TokenEnding, TokenHeld
from daemon.domain.token import Failure

ENDING = timedelta(days=7)  # how long before its end a grant is warned about
DUE_STEP = timedelta(minutes=5)  # what is due in the next hour is counted in steps of this
DUE_STEPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedToken:
    """One of the newest failures. The message is masked."""

    token: str
    provider: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The figures that need a look at every document, by provider (as stored, configured or not). `at`: the
    start of the count, by the store's clock. In a large store the figures are as old as the count is long.
    """

    at: datetime
    took: timedelta = timedelta(0)  # of MongoDB's time
    states: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    expired: Mapping[str, int] = field(default_factory=dict)
    expired_undue: Mapping[str, int] = field(default_factory=dict)  # of these, the ones that were not due
    stuck: Mapping[str, int] = field(default_factory=dict)
    revocation_failed: Mapping[str, int] = field(default_factory=dict)
    set_aside: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    ending: Mapping[str, int] = field(default_factory=dict)
    refresh_token_expiry: Mapping[str, datetime] = field(default_factory=dict)
    next_due_at: datetime | None = None
    last_failures: Sequence[FailedToken] = ()
    needs_reauth_tokens: Sequence[str] = ()
    ending_tokens: Sequence[TokenEnding] = ()
    sealed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # key -> field -> values


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The tokens that were due `at` that time, by provider. `expired` and `held` are None if so many are due
    that a look at each document takes too long. Then `waits_since` is about all due tokens, including held
    ones.
    """

    at: datetime
    paused: Mapping[str, str] = field(default_factory=dict)
    overdue: int = 0
    oldest: datetime | None = None
    waits_since: datetime | None = None  # of what no pause and no other instance's lease keeps waiting
    expired: Mapping[str, int] | None = None
    held: Mapping[str, int] | None = None
    held_tokens: Sequence[TokenHeld] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """The number of tokens that become due in each DUE_STEP after `at`, and the time of the first one."""

    at: datetime
    steps: Sequence[int] = (0,) * DUE_STEPS
    first: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts by provider (as stored, configured or not) and by state.

    `at`: the start of the count of the whole store, by the store's clock. The count used `took` of MongoDB's
    time. Due tokens were looked at later, at `looked_at`.
    """

    at: datetime
    looked_at: datetime | None = None
    took: timedelta = timedelta(0)
    states: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # provider -> state -> tokens
    expired: Mapping[str, int] = field(default_factory=dict)  # active, and past their expiry
    stuck: Mapping[str, int] = field(default_factory=dict)  # past their expiry, and refused for hours
    revocation_failed: Mapping[str, int] = field(default_factory=dict)  # and so still valid at the provider
    set_aside: Mapping[str, int] = field(default_factory=dict)  # unreadable, ill-typed or unconfigured
    held: Mapping[str, int] = field(default_factory=dict)  # due, but perhaps spent by another instance
    ending: Mapping[str, int] = field(default_factory=dict)  # active, and their grant ends within ENDING
    refresh_token_expiry: Mapping[str, datetime] = field(default_factory=dict)  # the earliest known end
    paused: Mapping[str, str] = field(default_factory=dict)  # provider -> reason
    next_due_at: datetime | None = None
    # Of what no pause and no other instance's lease keeps waiting. None: nothing of that is due.
    oldest_due_age: timedelta | None = None
    overdue: int = 0  # their time has come, and they are not renewed yet
    due_soon: Sequence[int] = (0,) * DUE_STEPS  # ... and comes in each DUE_STEP after `at`
    last_failures: Sequence[FailedToken] = ()
    needs_reauth_tokens: Sequence[str] = ()  # the ids of some whose owners must consent again
    ending_tokens: Sequence[TokenEnding] = ()  # within ENDING, the first ones
    held_tokens: Sequence[TokenHeld] = ()  # some of them, those first that are free soonest
    # Key -> field -> values, or an estimate
    sealed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def combined(whole: Whole, due: Due, upcoming: Upcoming) -> Statistics:
    """Return one set of figures. Those of due tokens are the newest; the others are as old as the count of
    the whole store.
    """
    firsts = (due.oldest, upcoming.first, whole.next_due_at)
    return Statistics(
        at=whole.at,
        looked_at=due.at,
        took=whole.took,
        states=whole.states,
        expired=whole.expired if due.expired is None else _sum(whole.expired_undue, due.expired),
        stuck=whole.stuck,
        revocation_failed=whole.revocation_failed,
        set_aside=whole.set_aside,
        held=whole.held if due.held is None else due.held,
        ending=whole.ending,
        refresh_token_expiry=whole.refresh_token_expiry,
        paused=due.paused,
        next_due_at=next((at for at in firsts if at is not None), None),
        oldest_due_age=None if due.waits_since is None else due.at - due.waits_since,
        overdue=due.overdue,
        due_soon=upcoming.steps,
        last_failures=whole.last_failures,
        needs_reauth_tokens=whole.needs_reauth_tokens,
        ending_tokens=whole.ending_tokens,
        held_tokens=due.held_tokens,
        sealed=whole.sealed,
    )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}
