"""A status as `/status` returns it. Any part may be missing while the daemon starts or MongoDB is down."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from daemon.runtime.web.status_page.parts import instant
from daemon.runtime.web.status_page.texts import STATES

Fields = Mapping[str, object]


class Facts:
    def __init__(self, status: Fields) -> None:
        self.status = status
        self.now: datetime | None = instant(status.get("at"))
        self.counted_at = instant(status.get("counted_at"))
        self.providers = cast(Mapping[str, Fields], status.get("providers") or {})
        self.draining = bool(status.get("draining"))
        self.warnings = cast(Sequence[str], status.get("warnings") or ())
        self.counted_late = bool(status.get("count_late"))
        self.needs_reauth = cast(Sequence[str], status.get("needs_reauth") or ())
        self.left_out = cast(int, status.get("providers_left_out") or 0)
        self.failures = cast(Sequence[Fields], status.get("last_failures") or ())
        self.journal = cast(int, status.get("journal_entries") or 0)
        self.due_next_hour = cast(Sequence[int], status.get("due_next_hour") or ())
        self.oldest_due_age = cast(float, status.get("oldest_due_age_seconds") or 0)
        self.hooks = cast(Sequence[Fields], status.get("hooks") or ())
        hour = cast(Fields, status.get("last_hour") or {})
        self.outcomes = cast(Mapping[str, Sequence[int]], hour.get("outcomes") or {})
        self.shortest_lead = cast(Sequence[float | None], hour.get("shortest_lead_seconds") or ())
        self.mean_lead = cast(Sequence[float | None], hour.get("mean_lead_seconds") or ())
        self.late = cast(int, hour.get("late") or 0)

    def by_state(self) -> dict[str, int]:
        """Count tokens by state over all providers. The known states are always present and come first."""
        total = dict.fromkeys(STATES, 0)
        for about in self.providers.values():
            for state, count in states(about).items():
                total[state] = total.get(state, 0) + count
        return total

    def expired(self) -> int:
        return sum(expired(about) for about in self.providers.values())


def states(provider: Fields) -> Mapping[str, int]:
    return cast(Mapping[str, int], provider.get("states") or {})


def expired(provider: Fields) -> int:
    return count(provider, "expired")


def count(provider: Fields, name: str) -> int:
    """Return how many of its tokens are `name`: expired, stuck, ending, held or set_aside."""
    return cast(int, provider.get(name) or 0)
