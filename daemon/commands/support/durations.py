"""Durations and instants on the command line."""

from datetime import datetime, timedelta
from typing import Any

import typer

from daemon.runtime.config.fields import duration
from daemon.runtime.config.problems import InvalidValue

Instant = Any  # a datetime, or a timedelta: the span that ends now. Typer takes no such union


def read_duration(text: str) -> timedelta:
    """Read an option like "90s". Raises BadParameter."""
    try:
        return duration(text)
    except InvalidValue as why:
        raise typer.BadParameter(f"{text!r} {why.what}. {why.do}") from None


def read_instant(text: str) -> datetime | timedelta:
    """Read an instant, or the time that has passed since. Raises BadParameter."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        if not text[:1].isdigit():
            raise typer.BadParameter(
                f"{text!r} is neither a time nor a duration. Write it like 2026-01-31T12:00:00Z, or 2h for two hours ago"
            ) from None
        return read_duration(text)
    if at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no UTC offset. Write it like 2026-01-31T12:00:00Z")
    return at
