"""The use of a key of the ring, and the conditions under which the ring may lose one (invariant J7)."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

SEEN_WITHIN = timedelta(days=7)  # an instance that was silent for longer is asked for by its entries alone
SILENT_AFTER = timedelta(minutes=5)  # instances write their rows every minute


class KeyUse(StrEnum):
    """`all`: the key may seal. `open`: it only opens, so nothing new needs it."""

    ALL = "all"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyNeeds:
    """One process's use of one key, as its row states it."""

    use: KeyUse
    journal: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process that uses the store. `adopted`: an operator has given it up since it was last seen."""

    id: str
    host: str
    seen_at: datetime
    keys: Mapping[str, KeyNeeds]
    writer_key_ids: Collection[str]
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededBy:
    """What still needs a key. All are empty if the key may leave the ring."""

    values: int = 0
    consents: int = 0
    journal: int = 0
    kept: int = 0
    writers: Collection[str] = field(default_factory=list)  # hosts that accept texts of its writer key
    in_use: Collection[str] = field(default_factory=list)  # hosts on whose ring it isn't `use = "open"`
    silent_instances: Collection[str] = field(default_factory=list)

    @property
    def may_leave(self) -> bool:
        counted = self.values or self.consents or self.journal or self.kept
        return not (counted or self.writers or self.in_use or self.silent_instances)


def needed_by(
    key_id: str, *, values: int, consents: int, processes: Collection[Process], now: datetime
) -> NeededBy:
    """Return what needs `key_id`, by the counts of stored values and the rows of all processes."""
    left = [one for one in processes if not one.adopted]
    lately = [one for one in left if now - one.seen_at <= SEEN_WITHIN]
    needs = [(one, one.keys[key_id]) for one in left if key_id in one.keys]
    return NeededBy(
        values=values,
        consents=consents,
        journal=sum(need.journal for _, need in needs),
        kept=sum(need.kept for _, need in needs),
        writers=_hosts(one for one in lately if key_id in one.writer_key_ids),
        in_use=_hosts(one for one in lately if _use(one, key_id) is KeyUse.ALL),
        silent_instances=sorted(
            f"{one.id} on {one.host}"
            for one, need in needs
            if now - one.seen_at > SILENT_AFTER and (need.use is KeyUse.ALL or need.journal or need.kept)
        ),
    )


def _use(process: Process, key_id: str) -> KeyUse | None:
    return process.keys[key_id].use if key_id in process.keys else None


def _hosts(processes: Iterable[Process]) -> Collection[str]:
    return sorted({one.host for one in processes})


def age_of(created: date, now: datetime) -> timedelta:
    """Return the age of what was made on that day, in UTC; no time if the day is yet to come."""
    return max(now - midnight(created), timedelta(0))


def is_to_come(created: date, now: datetime) -> bool:
    """Return whether that day is yet to come everywhere on Earth: an age counted from it would be watched too late."""
    return midnight(created) > now + timedelta(days=1)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
