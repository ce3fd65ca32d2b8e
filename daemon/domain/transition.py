"""Changes of a token's state that its owner, an operator or an application must hear of: which they are, and who acts.

The table of types is in `owner_event`. A renewal isn't a transition.
"""

from dataclasses import dataclass
from typing import assert_never

from daemon.domain.change import (
    Change,
    Postponed,
    Renewed,
    Retired,
    RevocationPostponed,
    Revoked,
    Scheduled,
    Withheld,
)
from daemon.domain.owner_event import Actor, OwnerEventType
from daemon.domain.revocation_outcome import FAILED_AFTER
from daemon.domain.token import Failure, FailureKind, RevocationOrder, State

LONGEST_CODE = 100  # characters. A code is a name such as `invalid_grant`: a longer one is a sentence

WHO_ACTS = {
    OwnerEventType.NEEDS_REAUTH: Actor.OWNER,
    OwnerEventType.RECOVERED: Actor.NOBODY,
    OwnerEventType.CONNECTED: Actor.NOBODY,
    OwnerEventType.ENDING: Actor.OWNER,
    OwnerEventType.REVOKED: Actor.NOBODY,
    OwnerEventType.REVOCATION_FAILED: Actor.OPERATOR,
    OwnerEventType.SCOPES_MISSING: Actor.OWNER,
    OwnerEventType.UNPARSED: Actor.OPERATOR,
    OwnerEventType.PROVIDER_PAUSED: Actor.OPERATOR,
    OwnerEventType.PROVIDER_RESUMED: Actor.NOBODY,
    OwnerEventType.ANOMALY: Actor.OPERATOR,
    OwnerEventType.HOOK_DISABLED: Actor.OPERATOR,
    OwnerEventType.HOOK_TEST: Actor.NOBODY,
}
# A tuple, because another program may have stored a state that has no hash.
_RESTING = (State.NEEDS_REAUTH.value, State.PAUSED.value, State.REVOKING.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A change that is an event. `kind` and `code`: see `owner_event.OwnerEvent`."""

    type: OwnerEventType
    kind: str | None = None
    code: str | None = None

    @property
    def who_acts(self) -> Actor:
        return WHO_ACTS[self.type]


RECOVERED = Transition(type=OwnerEventType.RECOVERED)
REVOKED = Transition(type=OwnerEventType.REVOKED)


def transition_of(
    change: Change, *, state: object, failure: Failure | None, order: RevocationOrder | None = None
) -> Transition | None:
    """Return the event that `change` is for a stored token. None: nobody has to hear of it.

    `state` and `failure`: as stored before the change. `order`: to revoke it, if it is being revoked.
    """
    match change:
        case Renewed():
            withheld = state == State.ACTIVE and failure is not None and failure.kind is FailureKind.UNPARSED
            return RECOVERED if state == State.NEEDS_REAUTH or withheld else None
        case Retired(failure=why):
            return None if state in _RESTING else _failed(OwnerEventType.NEEDS_REAUTH, why)
        case Withheld(failure=why):
            return None if state == State.REVOKING else _failed(OwnerEventType.UNPARSED, why)
        case Revoked():
            return REVOKED
        case RevocationPostponed(failure=why, failed=True):
            return None if _has_failed(failure, order) else _failed(OwnerEventType.REVOCATION_FAILED, why)
        case RevocationPostponed() | Postponed() | Scheduled():
            return None
        case _:
            assert_never(change)


def connected(missing_scopes: object) -> tuple[Transition, ...]:
    """Return the events of a new consent. `missing_scopes`: the scopes that its owner was asked for and did not grant."""
    events = (Transition(type=OwnerEventType.CONNECTED),)
    return (*events, Transition(type=OwnerEventType.SCOPES_MISSING)) if missing_scopes else events


def resumed(state: object) -> Transition | None:
    """Return the event that an operator's `resume` is. No event has called a token dead that was only paused."""
    return RECOVERED if state == State.NEEDS_REAUTH else None


def _failed(kind: OwnerEventType, why: Failure) -> Transition:
    return Transition(type=kind, kind=why.kind.value, code=why.code[:LONGEST_CODE])


def _has_failed(failure: Failure | None, order: RevocationOrder | None) -> bool:
    """Return whether the last attempt of this order has failed already: refreshd goes on trying once a day."""
    if failure is None or order is None or failure.at < order.since:
        return False
    return failure.kind is FailureKind.MISCONFIGURED or failure.at >= order.since + FAILED_AFTER
