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
    repeats             whether answers repeat a refresh token that stays as it was
    refresh_lifetime    of a refresh token, extended by each refresh unless `absolute`; None: no end
    grace               how long a spent refresh token may be presented again as a retry
    until_used          a spent refresh token works until an access token of the next generation is used, and no longer
                        than `grace` if that isn't zero
    ends_previous       a refresh ends the previous access token immediately
    changes_within      only a refresh in this last part of its life replaces the refresh token, and no other extends it
    spends_on_refusal   a refused client's call spends the refresh token, too
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
    until_used: bool = False
    ends_previous: bool = False
    changes_within: timedelta | None = None
    spends_on_refusal: bool = False
    reuse: Spent = "revoke"
