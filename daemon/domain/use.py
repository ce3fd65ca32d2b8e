"""Uses of access keys, counted: by key, token and day; requests that were refused by key, reason and hour."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
REFUSED = "refused"  # the action of a request that was refused
UNAUTHORIZED = (
    "unauthorized"  # the result of a request with a key that is over; it doesn't count as a use of the key
)


class UseKey(NamedTuple):
    """What is counted together. `key`: the id of an access key, or of a workload. `token`: None for refused requests, which name none. `result`: of a refused request,
    the name of its problem. `since`: the beginning of the day or hour.

    A tuple, because each request looks for one: it takes half as long as a dataclass.
    """

    key: str
    action: str
    token: str | None
    result: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The caller whose JWT was accepted: its `iss`, `sub` and `jti`."""

    issuer: str
    subject: str | None
    jwt: str | None


@dataclass(slots=True)
class Use:
    """A count since the last one was stored. `ip`, `peer` and `workload`: of the last caller."""

    name: str
    ip: str
    peer: int | None
    at: datetime
    count: int = 0
    workload: Workload | None = None


def beginning(at: datetime, span: timedelta) -> datetime:
    """Return the beginning of the UTC day or hour."""
    hour = 0 if span == DAY else at.hour
    return at.replace(hour=hour, minute=0, second=0, microsecond=0)
