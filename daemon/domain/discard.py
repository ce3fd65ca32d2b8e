"""Whether a grant that is not stored may be revoked, without I/O.

Many providers end every grant of an account and client with one revocation. There, a user's new consent must not end the
stored one.
"""

from datetime import timedelta
from enum import Enum, StrEnum

from daemon.domain.held_grant import DiscardedGrant
from daemon.domain.revocation import Revocation, RevocationEnds
from daemon.domain.revocation_outcome import FIRST_RETRY, LONGEST_RETRY, RETRY_AFTER_FAILURE, Again, Cannot


class Harm(Enum):
    """The worst effect that a revocation of the whole grant could have on others, as far as it is known."""

    NONE = "none"
    SOON = "soon"  # only on a grant that waits for its completion, or whose revocation is under way
    SAME_ACCOUNT = (
        "same_account"  # a stored token may be of the same account: it is, or one of the two is unknown
    )
    SAME_TOKEN = "same_token"  # noqa: S105  a stored token has, or may have, the same refresh token


class Discard(Enum):
    """The next step with a grant that is not stored."""

    REVOKE = "revoke"
    LATER = "later"  # to decide


class LeftAlive(StrEnum):
    """Why a grant that is not stored stays valid at its provider. The values are in the audit."""

    NO_REVOCATION = "no_revocation"  # the provider has none
    SAME_ACCOUNT = "same_account"  # a stored token could end with it
    SAME_TOKEN = "same_token"  # noqa: S105  it is a stored token
    NOT_ANSWERED = "not_answered"  # the provider has not accepted the revocation in time
    UNREADABLE = "unreadable"  # the sealed grant or its consent


def decided(revocation: Revocation, grant: DiscardedGrant, harm: Harm) -> Discard | LeftAlive:
    """Return what is done with `grant`, at a provider that has a revocation."""
    if harm is Harm.SAME_TOKEN:
        return LeftAlive.SAME_TOKEN
    if harm is Harm.SOON:
        return Discard.LATER
    alone = revocation.ends is RevocationEnds.TOKEN and grant.refresh_token is not None
    if harm is Harm.SAME_ACCOUNT and not alone:
        return LeftAlive.SAME_ACCOUNT
    return Discard.REVOKE


def next_try(tries: int, outcome: Again | Cannot | None, *, chance: float) -> timedelta:
    """Return how long to wait after `tries` attempts. An operator may allow later what can't be done now."""
    if isinstance(outcome, Cannot):
        return RETRY_AFTER_FAILURE
    wait: timedelta = min(FIRST_RETRY * 2 ** min(tries - 1, 20), LONGEST_RETRY) * (0.75 + chance / 2)
    if isinstance(outcome, Again) and outcome.wait is not None:
        return max(wait, outcome.wait)
    return wait
