"""When the sandbox misbehaves: the faults that were asked for, and which of them strikes a request.

Each kind strikes either *before* the request takes effect (the presented token stays unspent, the ledger says
`fault:<kind>`) or *after* (the ledger says what was granted, and which fault met the reply). `after_processing`
chooses where a choice exists:

    kind                                      after_processing   what the client sees
    hang                                      false, or true     nothing, until it gives up
    reset                                     false, or true     the connection reset
    error, outage                             false, or true     500; 503 (Retry-After if given)
    garbage                                   true, or false     200 and bytes that are no JSON: the reply is lost
    cut, slow, huge, wrong_type               true, or false     the real reply: half of it; dribbled over `seconds`;
                                                                 with 2 MB of padding; called text/html
    throttle, dead_grant, wrong_client        always false       429 (Retry-After if given); invalid_grant;
                                                                 invalid_client
    page                                      always false       200 and a maintenance page of 100 KB
    withhold                                  always true        the real reply, once the fault is deleted

    no_refresh_token                          always true        the real reply without its refresh token
    error_redirect                            always false       the redirect with `error` (server_error)
    wrong_state, wrong_issuer                 always true        the redirect with another state; with another `iss`

`at` is the endpoint that it strikes: "token" (the default), "device" or "revoke". The last three kinds strike the
redirect of the authorization endpoint ("authorize") only, no_refresh_token the token endpoint only.

The first word of the middle column is the default. `cut`, `slow`, `huge` and `wrong_type` set to false have no real
reply to spoil and spoil a 503 instead.

The answers are worded as the provider that is spoken words them; if it has several wordings (`fixtures/`), `wording`
chooses one by its number. 0 is the usual one.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

Kind = Literal[
    "hang", "reset", "throttle", "error", "outage", "garbage", "cut", "slow", "huge", "wrong_type",
    "dead_grant", "wrong_client", "page", "withhold",
    "no_refresh_token", "error_redirect", "wrong_state", "wrong_issuer",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
At = Literal["token", "device", "revoke", "authorize"]
_NEVER_PROCESSED = {"throttle", "dead_grant", "wrong_client", "page", "error_redirect"}
_CHANGES_THE_REPLY = {"no_refresh_token", "wrong_state", "wrong_issuer"}
_PROCESSED_BY_DEFAULT = {"garbage", "cut", "slow", "huge", "wrong_type", "withhold"} | _CHANGES_THE_REPLY
_ONLY_AT: dict[Kind, At] = {
    "no_refresh_token": "token",
    "error_redirect": "authorize",
    "wrong_state": "authorize",
    "wrong_issuer": "authorize",
}
_WITH_RETRY_AFTER = {"throttle", "outage"}
_KEYS = {"kind", "share", "count", "retry_after", "after_processing", "seconds", "wording", "at", "error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour asked for; `read_fault` knows the defaults.

    share        of the requests, 0 to 1
    count        how many times it strikes at most; None: until deleted
    retry_after  the header's text, seconds or an HTTP date; None: no header
    seconds      `slow` only: how long the whole body takes
    wording      which of the provider's wordings, if it has several
    at           the endpoint that it strikes
    error        `error_redirect` only: the code in the redirect
    """

    kind: Kind
    share: float
    count: int | None
    retry_after: str | None
    after_processing: bool
    seconds: float
    wording: int = 0
    at: At = "token"
    error: str = "server_error"


@dataclass(slots=True, kw_only=True, eq=False)
class Standing:
    """A fault in force. One that is used up stays listed, since what it withholds waits for its deletion."""

    fault: Fault
    struck: int = 0
    deleted: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, object]:
        fault = self.fault
        return {
            "kind": fault.kind,
            "share": fault.share,
            "count": fault.count,
            "retry_after": fault.retry_after,
            "after_processing": fault.after_processing,
            "seconds": fault.seconds,
            "wording": fault.wording,
            "at": fault.at,
            "error": fault.error,
            "struck": self.struck,
        }


class FaultBoard:
    """The faults in force, oldest first; the first one that strikes is the only one."""

    def __init__(self, *, seed: int | None) -> None:
        self._random = random.Random(seed)
        self._standing: list[Standing] = []

    def add(self, fault: Fault) -> Standing:
        standing = Standing(fault=fault)
        self._standing.append(standing)
        return standing

    def clear(self) -> int:
        """Delete all, let go of what they withhold, and say how many they were."""
        deleted, self._standing = self._standing, []
        for standing in deleted:
            standing.deleted.set()
        return len(deleted)

    def strike(self, at: At = "token") -> Standing | None:
        """The fault that meets the next request of this endpoint, counted as having struck."""
        for standing in self._standing:
            if standing.fault.at != at:
                continue
            used_up = standing.fault.count is not None and standing.struck >= standing.fault.count
            if not used_up and self._random.random() < standing.fault.share:
                standing.struck += 1
                return standing
        return None

    def __iter__(self) -> Iterator[Standing]:
        return iter(self._standing)


def read_fault(wish: object) -> Fault:
    """A fault from the JSON of `PUT /faults`. Raises ValueError with a sentence that says what to change."""
    if not isinstance(wish, dict):
        raise ValueError('a fault is a JSON object, for example {"kind": "reset", "share": 0.1}')  # noqa: TRY004  what a person sent, not a type
    if unknown := sorted(str(key) for key in wish if key not in _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r} in the fault; known are {', '.join(sorted(_KEYS))}")
    if wish.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {wish.get('kind')!r}")
    kind = cast("Kind", wish["kind"])
    return Fault(
        kind=kind,
        share=_number(wish, "share", default=1.0, most=1.0),
        count=_count(wish.get("count")),
        retry_after=_retry_after(kind, wish.get("retry_after")),
        after_processing=_after_processing(kind, wish.get("after_processing")),
        seconds=_number(wish, "seconds", default=5.0, most=3600.0),
        wording=_wording(wish.get("wording", 0)),
        at=_at(kind, wish.get("at")),
        error=_error(kind, wish.get("error")),
    )


def _number(wish: dict[str, object], key: str, *, default: float, most: float) -> float:
    value = wish.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{key} must be a number from 0 to {most:g}, not {value!r}")
    return float(value)


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"count must be a whole number above 0, or null for no end, not {value!r}")
    return value


def _wording(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"wording must be a whole number from 0, not {value!r}")
    return value


def _at(kind: Kind, value: object) -> At:
    only = _ONLY_AT.get(kind)
    if value is None:
        return only or "token"
    allowed = (only,) if only else ("token", "device", "revoke")
    if value not in allowed:
        raise ValueError(f"{kind} strikes at {' or '.join(allowed)}, not at {value!r}")
    return cast("At", value)


def _error(kind: Kind, value: object) -> str:
    if value is None:
        return "server_error"
    if kind != "error_redirect":
        raise ValueError(f"error goes with error_redirect, not with {kind}")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise ValueError(f"error must be a line of ASCII text such as access_denied, not {value!r}")
    return value


def _retry_after(kind: Kind, value: object) -> str | None:
    if value is None:
        return None
    if kind not in _WITH_RETRY_AFTER:
        raise ValueError(f"retry_after goes with throttle and outage, not with {kind}")
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not text.isprintable():
        raise ValueError(f"retry_after must be a number of seconds or a line of text, not {value!r}")
    return text


def _after_processing(kind: Kind, value: object) -> bool:
    if value is None:
        return kind in _PROCESSED_BY_DEFAULT
    if not isinstance(value, bool):
        raise ValueError(f"after_processing must be true or false, not {value!r}")  # noqa: TRY004
    if value and kind in _NEVER_PROCESSED:
        raise ValueError(f"{kind} always strikes before the request takes effect: leave after_processing out")
    if not value and kind == "withhold":
        raise ValueError(
            "withhold holds back a reply, so the request has taken effect: leave after_processing out"
        )
    if not value and kind in _CHANGES_THE_REPLY:
        raise ValueError(f"{kind} changes an answer that has taken effect: leave after_processing out")
    return value
