"""What `refreshd keys status` shows: the values of each key, the journals that need it, and its age."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.adapters.mongo.counting.sealed_values import (
    FIELDS,
    SealedValues,
    check_value_dates,
    sealed_values,
)
from daemon.adapters.mongo.instances import processes
from daemon.commands.support.access import Access
from daemon.commands.support.column import Column
from daemon.commands.support.output import Output, span
from daemon.domain.key_use import Process, age_of, is_to_come, midnight
from daemon.runtime.config.settings import Settings

_COLUMNS = tuple(Column(title) for title in ("Key", "Use", "Age", "Oldest value", "Journal", "Kept"))
_VALUES = (Column("Values of"), *(Column(name) for name in FIELDS))
_TO_COME = "date yet to come"
_SECRETS = (Column("Client secret of"), Column("Age"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """One key id, whether it is on the ring or not. `age` is None if no date is known. `to_come`: the stated date is in
    the future.
    """

    key_id: str
    use: str  # active, all, open, or missing
    created: datetime | None
    age: timedelta | None
    old: bool
    values: Mapping[str, int]
    journal: int
    kept: int
    oldest: datetime | None
    to_come: bool = False


async def key_statuses(
    access: Access, settings: Settings, *, exact: bool
) -> tuple[Sequence[KeyStatus], SealedValues, Sequence[Process]]:
    """Return the status of every key of the ring and of every other key that is named somewhere. Raises StoreLost."""
    counted = await sealed_values(access.mongo, exact=exact)
    found, dates, now = (
        await processes(access.mongo),
        await check_value_dates(access.mongo),
        access.clock.now(),
    )
    names = {*settings.keys.ring, *counted.values, *(key_id for one in found for key_id in one.keys)}
    ordered = sorted(names, key=lambda one: (one != settings.keys.active, one not in settings.keys.ring, one))
    statuses = []
    for key_id in ordered:
        entry = settings.keys.ring.get(key_id)
        created = midnight(entry.created) if entry and entry.created else dates.get(key_id)
        age = max(now - created, timedelta(0)) if created else None
        needs = [one.keys[key_id] for one in found if key_id in one.keys]
        use = "missing" if entry is None else "active" if key_id == settings.keys.active else entry.use.value
        status = KeyStatus(
            key_id=key_id,
            use=use,
            created=created,
            age=age,
            old=age is not None and age > settings.keys.max_age,
            values={name: counted.values.get(key_id, {}).get(name, 0) for name in FIELDS},
            journal=sum(need.journal for need in needs),
            kept=sum(need.kept for need in needs),
            oldest=counted.oldest.get(key_id),
            to_come=bool(entry and entry.created and is_to_come(entry.created, now)),
        )
        statuses.append(status)
    return statuses, counted, found


def secret_ages(settings: Settings, now: datetime) -> Mapping[str, timedelta | None]:
    """Return the age of each provider's client secret; None if the configuration states no date."""
    return {
        name: age_of(one.client_secret_created, now) if one.client_secret_created else None
        for name, one in sorted(settings.providers.items())
        if one.client_secret is not None
    }


def secrets_to_come(settings: Settings, now: datetime) -> Collection[str]:
    """Return the providers whose client secret has a date in the future."""
    dates = ((name, one.client_secret_created) for name, one in settings.providers.items())
    return {name for name, created in dates if created is not None and is_to_come(created, now)}


def record(
    statuses: Sequence[KeyStatus],
    counted: SealedValues,
    found: Sequence[Process],
    ages: Mapping[str, timedelta | None],
) -> dict[str, object]:
    return {
        "keys": [
            {
                "key_id": one.key_id,
                "active": one.use == "active",
                "use": one.use,
                "created": one.created,
                "age_seconds": _seconds(one.age),
                "values": one.values,
                "journal": one.journal,
                "kept": one.kept,
                "oldest": one.oldest,
            }
            for one in statuses
        ],
        "client_secrets": [{"provider": name, "age_seconds": _seconds(age)} for name, age in ages.items()],
        "instances": [
            {
                "id": one.id,
                "host": one.host,
                "seen_at": one.seen_at,
                "keys": {
                    name: {"use": need.use.value, "journal": need.journal, "kept": need.kept}
                    for name, need in one.keys.items()
                },
            }
            for one in found
        ],
        "documents": counted.documents,
        "exact": counted.exact,
    }


def _seconds(age: timedelta | None) -> int | None:
    return None if age is None else int(age.total_seconds())


def show(
    output: Output,
    statuses: Sequence[KeyStatus],
    counted: SealedValues,
    ages: Mapping[str, timedelta | None],
    *,
    now: datetime,
    max_age: timedelta,
    to_come: Collection[str] = (),
) -> None:
    """Print the status. `to_come`: providers whose client secret has a date in the future."""
    rows = [
        [
            one.key_id,
            one.use,
            _TO_COME if one.to_come else _age(one.age, max_age, "retire" if one.use == "open" else "rotate"),
            f"{span(now - one.oldest)} ago" if one.oldest else "",
            f"{one.journal:,}",
            f"{one.kept:,}",
        ]
        for one in statuses
    ]
    output.table(_COLUMNS, rows)
    print()
    about = "" if counted.exact else "~"
    values = [
        [one.key_id, *(f"{about if count else ''}{count:,}" for count in one.values.values())]
        for one in statuses
    ]
    output.table(_VALUES, values)
    if ages:
        rows = [[name, _TO_COME if name in to_come else _age(age, max_age)] for name, age in ages.items()]
        print()
        output.table(_SECRETS, rows)
    if not counted.exact:
        output.note(
            f"The values are estimated from a sample of {counted.documents:,} documents. --exact counts all of them."
        )


def _age(age: timedelta | None, max_age: timedelta, do: str = "rotate") -> str:
    if age is None:
        return "unknown"
    return f"{span(age)}{f', {do} it' if age > max_age else ''}"
