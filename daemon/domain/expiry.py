"""Expiry times in replies: seconds or milliseconds, numbers or text, relative or absolute, or inside a JWT."""

import json
import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from daemon.domain.provider import ExpiryUnit

LONGEST = timedelta(days=3660)  # ten years: whatever claims to live longer is taken to live that long
_ABSOLUTE = 1_000_000_000  # as seconds 31 years: a number above it is a point in time (2001 or later)
_ABSOLUTE_MS = 1_000_000_000_000
_SECONDS = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s", re.ASCII)  # a duration in the JSON of protocol buffers
_MS_DATE = re.compile(r"/Date\((\d{1,15})(?:[+-]\d{4})?\)/", re.ASCII)  # older .NET serializers
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2,8},? \d{1,2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d\d:\d\d")


def end_of(value: object, *, asked_at: datetime, unit: ExpiryUnit = ExpiryUnit.SECONDS) -> datetime | None:
    """Return the instant that an `expires_in` or `expires_at` value means. None: it means nothing, or never.

    Relative values count from `asked_at`. The provider's clock started no later than the reply was written,
    so counting from the request is never too late (RFC 6749 §5.1 counts from the response).
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip()
        if (duration := _SECONDS.fullmatch(value)) is not None:
            value, unit = duration[1], ExpiryUnit.SECONDS
        if (since_epoch := _MS_DATE.fullmatch(value)) is not None:
            return _at(int(since_epoch[1]) / 1000)
        if not _is_number(value):
            return _date(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        return None
    if value >= _ABSOLUTE_MS:
        return _at(value // 1000)
    if value >= _ABSOLUTE and unit is ExpiryUnit.SECONDS:
        return _at(value)
    seconds = value / 1000 if unit is ExpiryUnit.MILLISECONDS else value
    return asked_at + min(timedelta(seconds=min(seconds, LONGEST.total_seconds())), LONGEST)


def instant_of(text: str) -> datetime | None:
    """Return the instant that a date means (ISO 8601, or as in an HTTP header), or None. A number isn't a date."""
    text = text.strip()
    return None if _is_number(text) else _date(text)


def jwt_end(token: str) -> datetime | None:
    """Return the `exp` of a token that happens to be a JWT (RFC 7519 §4.1.4). It is not verified, and only a
    hint.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        exp = claims["exp"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    numeric = isinstance(exp, int | float) and not isinstance(exp, bool)
    return _at(exp) if numeric and exp >= _ABSOLUTE else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()


def _date(text: str) -> datetime | None:
    """Return a date in the format of ISO 8601 or an HTTP header (ASP.NET's `.expires`). Go and .NET write the
    year 1 for no date.
    """
    instant: datetime | None
    try:
        instant = datetime.fromisoformat(text.removesuffix(" UTC"))  # Ruby and Go write the zone's name
    except ValueError:
        instant = _http_date(text)
    if instant is None or instant.year == 1:
        return None
    try:
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except OverflowError:
        return None


def _http_date(text: str) -> datetime | None:
    if not _HTTP_DATE.match(text):
        return None
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _at(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
