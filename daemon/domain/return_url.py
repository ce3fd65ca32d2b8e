"""Where a browser goes after a consent: an address of the application, which the operator has listed.

Browsers and servers read an odd URL in different ways. So a URL is compared as text, and any spelling that one of
them could read as another place is refused.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from daemon.domain.request import form_encoded

LONGEST_RETURN_URL = 2048  # characters
OURS = frozenset({"connect", "connect_code", "error"})  # the parameters that are added
# RFC 3986 without `#`, brackets and what begins no path: a browser changes every other character.
_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[^?]*)?(\?.*)?")
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2})*")


def fault_of_return_url(url: str, listed: Iterable[str]) -> str | None:
    """Return why a browser can't be sent to `url`, as a sentence without its beginning, or None if it can.

    `listed`: URLs that are allowed exactly, or, if they end in "/", as the beginning of a URL.
    """
    if len(url) > LONGEST_RETURN_URL:
        return f"has more than {LONGEST_RETURN_URL} characters"
    if not _CHARACTERS.fullmatch(url) or (form := _URL.fullmatch(url)) is None:
        return "is not an absolute http or https URL without user, fragment and characters that have to be encoded"
    if not any(_is_allowed(url, one) for one in listed):
        return "is not in access.return_urls"
    try:
        names = {name for name, _ in parse_qsl((form[5] or "")[1:], keep_blank_values=True, errors="strict")}
    except ValueError:
        return "has a query that is not valid UTF-8"
    return f"has a parameter that refreshd adds itself: {', '.join(sorted(OURS))}" if names & OURS else None


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """Return `url` with more parameters in its query."""
    return f"{url}{'&' if '?' in url else '?'}{form_encoded(parameters)}"


def origin_of(url: str) -> str:
    """Return the scheme, host and port of an absolute URL, in the form that browsers give an origin."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if parts.port in (None, usual) else f":{parts.port}")


def _is_allowed(url: str, listed: str) -> bool:
    if url == listed:
        return True
    if not listed.endswith("/") or "?" in listed or not url.startswith(listed):
        return False
    return all(_is_plain(segment) for segment in url[len(listed) :].partition("?")[0].split("/"))


def _is_plain(segment: str) -> bool:
    """Return whether a path segment leads one step down, also for a server that decodes it twice."""
    decoded = unquote(unquote(segment))
    return decoded not in (".", "..") and not re.search(r"[/\\;\x00-\x1f]|%2[ef]|%5c", decoded, re.IGNORECASE)
