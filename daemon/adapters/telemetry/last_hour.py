"""The work of this process in the last hour, minute by minute, for the status page. An observer of fixed
size.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from daemon.domain.event import (
    Event,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)

MINUTE = timedelta(minutes=1)
MINUTES = 60
RENEWED = "renewed"


@dataclass(slots=True, kw_only=True)
class _Minute:
    """Counts of one minute. `number`: minutes since boot. `lead` is the sum of the leads (remaining lifetime
    of the old token), `shortest` the shortest one.
    """

    number: int
    outcomes: Counter[str] = field(default_factory=Counter)
    leads: int = 0
    late: int = 0
    lead: timedelta = timedelta(0)
    shortest: timedelta = timedelta.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """MINUTES numbers each, with the current minute last. Outcomes that did not happen are missing."""

    outcomes: Mapping[str, Sequence[int]]  # "renewed", "superseded", and the kinds of failures
    shortest_lead: Sequence[timedelta | None]  # negative: too late
    mean_lead: Sequence[timedelta | None]
    late: int


class LastHour:
    """`boot` gives the time since boot."""

    def __init__(self, boot: Callable[[], timedelta]) -> None:
        self._boot = boot
        self._ring = [_Minute(number=-1) for _ in range(MINUTES)]

    def __call__(self, event: Event) -> None:
        match event:
            case TokenRenewed():
                self._renewed(event)
            case TokenSuperseded():
                self._minute().outcomes["superseded"] += 1
            case TokenPostponed() | TokenStuck() | TokenInDoubt() | TokenUnparsed() | TokenNeedsReauth():
                self._minute().outcomes[event.failure.kind.value] += 1
            case TokenUnreadable():
                self._minute().outcomes[event.kind.value] += 1
            case _:
                pass  # no outcome of a refresh

    def snapshot(self) -> Hour:
        now = self._boot() // MINUTE
        minutes = [self._ring[number % MINUTES] for number in range(now - MINUTES + 1, now + 1)]
        recent = [one if one.number > now - MINUTES else _Minute(number=-1) for one in minutes]
        names = sorted({name for one in recent for name in one.outcomes})
        return Hour(
            outcomes={name: [one.outcomes[name] for one in recent] for name in names},
            shortest_lead=[one.shortest if one.leads else None for one in recent],
            mean_lead=[one.lead / one.leads if one.leads else None for one in recent],
            late=sum(one.late for one in recent),
        )

    def _renewed(self, event: TokenRenewed) -> None:
        minute = self._minute()
        minute.outcomes[RENEWED] += 1
        if event.lead is not None:
            minute.leads += 1
            if event.lead < timedelta(0):
                minute.late += 1
            minute.lead += event.lead
            minute.shortest = min(minute.shortest, event.lead)

    def _minute(self) -> _Minute:
        number = self._boot() // MINUTE
        minute = self._ring[number % MINUTES]
        if minute.number != number:
            minute = self._ring[number % MINUTES] = _Minute(number=number)
        return minute
