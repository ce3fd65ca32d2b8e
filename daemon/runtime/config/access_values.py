"""Values in [access] and [keys] that only `refreshd serve` reads."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from daemon.adapters.door_keys import LinesInvalid, parse_readers, parse_writers
from daemon.domain.return_url import fault_of_return_url
from daemon.runtime.config.fields import Context, duration, text
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_sources import one_source, secret
from daemon.runtime.config.settings import LOOPBACK

LONGEST_OFFLINE = timedelta(hours=1)


def offline_span(value: object) -> timedelta:
    span = timedelta(0) if type(value) is int and value == 0 else duration(value)
    if span > LONGEST_OFFLINE:
        raise InvalidValue("is longer than an hour", 'Write at most "1h".')
    return span


def web_url(value: object) -> str:
    """Read an absolute URL: https, or http on this machine."""
    parts = urlsplit(text(value))
    plain = parts.scheme == "http" and LOOPBACK.fullmatch(parts.hostname or "")
    if not parts.hostname or not (parts.scheme == "https" or plain) or parts.fragment:
        raise InvalidValue("is not an https URL", 'Write it like "https://tokens.example.com".')
    return text(value)


def base_url(value: object) -> str:
    """Read the URL to which paths are appended. Return it without a slash at its end."""
    url = web_url(value)
    if "?" in url or "@" in urlsplit(url).netloc:
        raise InvalidValue("has a user or a query", 'Write it like "https://tokens.example.com".')
    return url.rstrip("/")


def return_url(value: object) -> str:
    """Read a URL of an application, or the beginning of its URLs."""
    url = web_url(value)
    beginning = f"{url}/" if "/" not in url.partition("://")[2] else url
    if fault_of_return_url(beginning, [beginning]) is not None:
        raise InvalidValue(
            "is not a URL that a browser can be sent to",
            'Write it like "https://app.example.com/connected", without user, fragment or query parameters of refreshd.',
        )
    return url


def page_with_id(value: object) -> str:
    if "{id}" not in web_url(value):
        raise InvalidValue(
            "does not contain {id}", 'Write it like "https://app.example.com/reconnect?token={id}".'
        )
    return text(value)


def readers_of(value: object, info: Context) -> Mapping[str, bytes]:
    """Return the reader keys, or none if their source has not answered."""
    lines = secret(one_source(value), info)
    try:
        return parse_readers(lines.reveal()) if lines else {}
    except LinesInvalid as why:
        raise InvalidValue(
            f"is not what `refreshd keys reader` prints: {why}", "Write its lines to the file again."
        ) from None


def writers_of(value: object, info: Context) -> Mapping[str, Any]:
    """Return the writer keys, or none if their source has not answered."""
    lines = secret(one_source(value), info)
    try:
        return parse_writers(lines.reveal()) if lines else {}
    except LinesInvalid as why:
        raise InvalidValue(
            f"is not what `refreshd keys writer` prints: {why}", "Write its lines to the file again."
        ) from None
