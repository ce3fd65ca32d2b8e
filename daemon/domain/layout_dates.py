"""Dates of a row: a new one in the form of the one that it replaces."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from daemon.domain.expiry import end_of
from daemon.domain.layout import Cells, TimeForm
from daemon.domain.layout_cells import cell_at

_SAME = timedelta(milliseconds=1)  # MongoDB stores milliseconds
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(Z|[+-]\d\d(?::?\d\d)?)?")
_SECONDS, _MILLISECONDS = 1_000_000_000, 1_000_000_000_000  # the least number that is taken for such a date
_NUMBER = re.compile(r"\d+(\.\d+)?")


def date_like(row: Cells, path: str, at: datetime, form: TimeForm) -> object:
    """Return `at` in the form of the date that the row has at `path`, or that date itself if it is the same."""
    old = cell_at(row, path)
    if isinstance(old, datetime):
        at = at.astimezone(UTC)
        return at if old.tzinfo else at.replace(tzinfo=None)
    known = end_of(old, asked_at=at) if old not in (None, "") else None
    if known is not None and abs(known - at) < _SAME:
        return old
    if isinstance(old, str):
        return _text_like(old, at, form)
    if isinstance(old, int | float) and not isinstance(old, bool):
        return number_like(old, _count(at, old))
    return date_in_form(at, form)


def _text_like(old: str, at: datetime, form: TimeForm) -> object:
    if _NUMBER.fullmatch(old.strip()):
        return str(_count(at, float(old)))
    if date := _DATE.fullmatch(old.strip()):
        between, fraction, zone = date[1], date[2] or "", date[3] or ""
        digits = f"{at.microsecond:06d}000"[: len(fraction)]
        return f"{at:%Y-%m-%d}{between}{at:%H:%M:%S}{'.' * bool(fraction)}{digits}{_utc(zone)}"
    if old.strip().endswith("GMT"):
        return format_datetime(at, usegmt=True)
    return date_in_form(at, form)


def _utc(zone: str) -> str:
    """Return UTC as `zone` writes a time zone."""
    return re.sub(r"\d", "0", zone.replace("-", "+"))


def _count(at: datetime, old: float) -> int:
    """Return the seconds or milliseconds since 1970, whichever `old` counts."""
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return milliseconds if old >= _MILLISECONDS else milliseconds // 1000


def number_like(old: object, number: int) -> object:
    """Return `number` in the type of `old`: an integer of another language stays one."""
    if isinstance(old, str):
        return str(number)
    return type(old)(number) if isinstance(old, int | float) and not isinstance(old, bool) else number


def date_in_form(at: datetime, form: TimeForm) -> object:
    match form:
        case TimeForm.ISO:
            return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case TimeForm.SECONDS:
            return _count(at, _SECONDS)
        case TimeForm.MILLISECONDS:
            return _count(at, _MILLISECONDS)
