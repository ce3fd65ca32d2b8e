"""Events that wait in a token's document, as they are read from it. Other programs write there too, so nothing is assumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.domain.claim import StoreLost
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.domain.transition import LONGEST_CODE

LONGEST_SUBJECT = 512  # characters
_TOO_LARGE = 2**63  # for MongoDB
_TYPES, _ACTORS = frozenset(OwnerEventType), frozenset(Actor)


class EventRefused(StoreLost):
    """MongoDB answers, and refuses the outbox, or an event. It has stored the other events of the same call then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingEvents:
    """The events of one document. `ids`: of all that can be taken away, also of those that are `malformed`, which nobody
    gets. `lost`: so many events before these were pushed out by newer ones.
    """

    token: str
    events: Sequence[OwnerEvent]
    ids: Sequence[object]
    malformed: int = 0
    lost: int = 0


def waiting_events(token: str, stored: Sequence[Mapping[str, object]], *, others: int = 0) -> WaitingEvents:
    """Read the `stored` events of `token`. `others`: entries that have no id, and so are malformed."""
    read = [_read(token, one) for one in stored]
    events = [one for one in read if one is not None]
    return WaitingEvents(
        token=token,
        events=events,
        ids=[one["n"] for one in stored],
        malformed=others + len(read) - len(events),
        lost=sum(_count(one.get("lost")) for one in stored),
    )


def _read(token: str, stored: Mapping[str, object]) -> OwnerEvent | None:
    kind, at, who_acts = stored.get("type"), stored.get("at"), stored.get("who_acts")
    if not isinstance(kind, str) or kind not in _TYPES or not kind.startswith("token."):
        return None
    if not isinstance(at, datetime) or not isinstance(who_acts, str) or who_acts not in _ACTORS:
        return None
    provider, _, account = token.partition(":")
    return OwnerEvent(
        id=str(stored["n"]),
        type=OwnerEventType(kind),
        at=at,
        who_acts=Actor(who_acts),
        provider=provider,
        token=token,
        account=account,
        subject=_text(stored.get("subject"), LONGEST_SUBJECT),
        kind=_text(stored.get("kind"), LONGEST_CODE),
        code=_text(stored.get("code"), LONGEST_CODE),
        revision=_count(stored.get("revision")),
    )


def _text(value: object, longest: int) -> str | None:
    return value if isinstance(value, str) and len(value) <= longest else None


def _count(value: object) -> int:
    """Return a stored count, also if a language stores every number as floating point; 0 for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _TOO_LARGE else 0
