"""What a provider's tokens are worth: which one renews the grant, whether it changes, and what a spent one costs."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Renewable = Literal["refresh_token", "access_token", "nothing"]
Spent = Literal["revoke", "refuse", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A provider's rules for its tokens; the defaults are the strictest: one use, no grace, reuse ends the grant.

    renewable           what is presented for a new access token
    lifetime            of an access token; None: no end
    keeps_access        an access token with more than this left is handed out again, and nothing changes (Strava)
    changes_every       n: each nth refresh replaces the refresh token; 1: all do; 0: none does
    repeats             whether a refresh token that stays as it was is told again
    refresh_lifetime    of a refresh token, extended by each refresh unless `absolute`; None: no end
    grace               how long a spent refresh token may be presented again as a retry
    reuse               what a spent one costs after that: the whole grant, or only the request, or nothing at all:
                        it is as good as ever ("keep")
    """

    renewable: Renewable = "refresh_token"
    lifetime: timedelta | None = timedelta(seconds=60)
    keeps_access: timedelta | None = None
    changes_every: int = 1
    repeats: bool = True
    refresh_lifetime: timedelta | None = None
    absolute: bool = False
    grace: timedelta = timedelta()
    reuse: Spent = "revoke"
