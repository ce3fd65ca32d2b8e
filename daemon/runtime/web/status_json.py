"""Parts of the daemon's status as JSON values."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from daemon.adapters.mongo.instances import SeenService
from daemon.adapters.telemetry.last_hour import Hour
from daemon.domain.circuit_breaker import Pause
from daemon.domain.statistics import FailedToken, Statistics
from daemon.runtime.jobs.notifying import Waiting

LONGEST_ID = 1_000  # an `_id` that another writer made can be of any length


def paused_record(name: str, counted: Statistics, pauses: Mapping[str, Pause] | None) -> dict[str, object]:
    """Return why a provider is paused and when it is probed next, as of the last sweep or else the last
    count.
    """
    if pauses is None:
        return {"paused": counted.paused.get(name), "next_probe_at": None}
    pause = pauses.get(name)
    return {
        "paused": pause and pause.reason.value,
        "next_probe_at": date_text(pause.next_probe_at) if pause else None,
    }


def service_record(one: SeenService) -> Mapping[str, object]:
    return {
        "id": one.id[:LONGEST_ID],
        "host": one.host,
        "version": one.version,
        "seen_at": date_text(one.seen_at),
        "reader_keys": list(one.reader_ids),
        "writer_keys": list(one.writer_ids),
    }


def hook_record(one: Waiting) -> Mapping[str, object]:
    return {
        "name": one.hook,
        "waiting": one.events,
        "oldest_at": date_text(one.oldest),
        "disabled": one.disabled,
    }


def failure_record(one: FailedToken) -> dict[str, object]:
    why = one.failure
    return {
        "token": one.token[:LONGEST_ID],
        "provider": one.provider,
        "kind": why.kind.value,
        "code": why.code,
        "message": why.message,
        "at": date_text(why.at),
    }


def hour_record(hour: Hour) -> dict[str, object]:
    """Sixty numbers each, this minute last."""
    return {
        "outcomes": hour.outcomes,
        "shortest_lead_seconds": [None if lead is None else seconds_of(lead) for lead in hour.shortest_lead],
        "mean_lead_seconds": [None if lead is None else seconds_of(lead) for lead in hour.mean_lead],
        "late": hour.late,
    }


def date_text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(span: timedelta | None) -> float:
    return 0.0 if span is None else round(span.total_seconds(), 3)
