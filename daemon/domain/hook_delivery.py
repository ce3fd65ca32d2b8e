"""A delivery: one event for one hook, taken by one process."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.domain.owner_event import OwnerEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event that this process may send to one hook, until its lease ends. `attempts`: before this one."""

    id: str
    claim: str
    event: OwnerEvent
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """`malformed`: so many documents were none of refreshd's, and are set aside."""

    deliveries: Sequence[Delivery]
    malformed: int
