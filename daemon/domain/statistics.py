"""What the whole store looks like, counted now and then: the same on every replica."""

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
class Statistics:
    """Counts by provider (as stored, configured or not) and by state, at `at` by the store's clock."""

    at: datetime
    states: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # provider -> state -> tokens
    expired: Mapping[str, int] = field(default_factory=dict)  # active, and past their expiry
    stuck: Mapping[str, int] = field(default_factory=dict)  # past their expiry, and refused for hours
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
