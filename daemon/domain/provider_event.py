"""Events of one provider: its replies, its pauses, what is on its way, and the passes of its lane."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.domain.deviation import DriftKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswered:
    """A provider's endpoint answered (or failed to) after `duration`."""

    provider: str
    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderThrottled:
    """A provider asked refreshd to slow down."""

    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDrifted:
    """A provider's behaviour differs from its definition. `change`: the line of the definition that fits it, or an empty
    text.
    """

    provider: str
    kind: DriftKind
    message: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """The new number of requests in flight to a provider from this process. Changes in one turn of the loop
    are reported once.
    """

    provider: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPaused:
    provider: str
    reason: str
    next_probe_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderResumed:
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFailed:
    """A provider's pass ended with an unexpected error, or is stuck although nothing is in flight. Perhaps
    none of its tokens was claimed. `failures`: how many times in a row; 0: a pass has worked again.
    """

    provider: str
    message: str
    failures: int
