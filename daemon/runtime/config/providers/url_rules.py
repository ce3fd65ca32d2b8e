"""Rules for token URLs, so that none sends a secret to the wrong server.

A document in a database may fill a variable of the token URL, and so decide where a refresh token and a
client secret are sent. Hence the rules about URLs and about the patterns of variables.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from urllib.parse import urlsplit

from daemon.domain.token_url import LONGEST_VALUE, is_loopback
from daemon.runtime.config.fields import pattern
from daemon.runtime.config.problems import InvalidValue, Place
from daemon.runtime.config.providers.pattern_cost import check_cost

Fault = tuple[Place, str, str]  # the key, the problem, the remedy

_SOMEWHERE = "https://base.invalid"
_PLACE = re.compile(r"\$\{([^}]*)\}")
# RFC 3986's unreserved characters, no dot in front: no "/", no "@", no ".."
_HARMLESS = r"(?=[A-Za-z0-9_~-][A-Za-z0-9._~-]*\Z)"
# Characters that a careless pattern would match; IDNA reads the last two as '.' and '/'.
_HARMFUL = "/\\@:?#%& \t\n\u3002\uff0f"
# ASCII without blanks, and without the backslash that some read as a slash
_VISIBLE = re.compile(r"[!-\[\]-~]+")


def safe_pattern(value: object) -> re.Pattern[str]:
    """Read a variable's pattern.

    A pattern that matches unsafe characters is refused. The guard in front of it blocks values that the
    probes missed.
    """
    found = pattern(value)
    check_cost(found.pattern, longest=LONGEST_VALUE)
    shapes = ("{0}", "a{0}", "{0}a", "a{0}a", "a{0}b", "a.b{0}c", "1{0}")
    harmful = (shape.format(char) for char in _HARMFUL for shape in shapes)
    if any(found.fullmatch(sample) for sample in (*harmful, ".", "..", ".a")):
        raise InvalidValue(
            "matches unsafe characters", "Allow only letters, digits and '-', and '.' except at the start."
        )
    return pattern(f"{_HARMLESS}(?:{found.pattern})")  # refuses flags for the whole, like "(?i)", too


def url_faults(place: Place, url: str, domains: Sequence[str], bases: Collection[str]) -> Iterator[Fault]:
    """Yield the problems of a URL. `bases`: the variables that may only stand for its start."""
    base = _PLACE.match(url)
    if base is not None and base[1] in bases and url[base.end() :][:1] in ("", "/"):
        url, domains = _SOMEWHERE + url[base.end() :], ()
    for name in sorted(used_variables(url).intersection(bases)):
        do = f'Begin the URL with ${{{name}}}, and continue with "/".'
        yield place, f"uses {name}, which is a base, in a position other than the start", do
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or not _VISIBLE.fullmatch(url) or "@" in parts.netloc or parts.fragment:
        yield (
            place,
            "is not a plain URL",
            'Write it like "https://HOST/PATH", without user, spaces or fragment.',
        )
        return
    variable_host = "${" in parts.netloc
    if parts.scheme != "https" and (parts.scheme != "http" or variable_host or not is_loopback(url)):
        yield (
            place,
            "must begin with https://",
            "Plain HTTP is allowed for 127.0.0.1, [::1] and localhost only.",
        )
    if "${" in parts.query:
        yield place, "has a variable in its query", "Use variables in the host and the path only."
    if not variable_host:
        return
    tail = parts.netloc.rpartition("}")[2]
    if not domains:
        do = 'Add them, like domains = ["example.com"].'
        yield ("domains",), "are required because a variable fills the host", do
    elif port is not None or not any(f".{one}".endswith(tail) or tail.endswith(f".{one}") for one in domains):
        yield place, "leads outside the domains", "End the host with one of them, without a port."


def used_variables(*urls: str | None) -> set[str]:
    return {place[1] for url in urls if url for place in _PLACE.finditer(url)}
