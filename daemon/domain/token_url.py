"""The URL of a request: the token endpoint's, completed with variables from a database, and checked so that
it can't lead a refresh token and a client secret astray.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

from daemon.domain.provider import Provider, VariableKind

_PLACE = re.compile(r"\$\{([^}]*)\}")
# Parsers drop tabs and line ends: what is checked must be what is used
_VISIBLE = re.compile(r"[\x21-\x7e]*")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_FIXED_HOST = re.compile(r"[a-z]+://[^/?#\\]+/")  # the host is complete before the first variable
# Scheme, host, perhaps a port and a path: no user, no query, nothing encoded. The host is checked afterwards.
BASE = re.compile(r"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*/?")
LONGEST_VALUE = (
    253  # characters of a variable, as of a host name: what a pattern is tried on, and its cost, is bounded
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class NotSendable(ValueError):
    """The request must not be sent: a variable is missing or leads elsewhere. The text is fit for people."""


def token_url(provider: Provider, variables: Mapping[str, str]) -> str:
    """The token endpoint's URL with its variables filled in.

    The values come from a database and the URL decides where a refresh token and a client secret go. So: only what
    the definition's pattern allows, and if a variable fills the host, that host must be one that the operator
    allows or lie inside the definition's domains; where none does, the host stays what it is. A URL without variables
    is the operator's word. Raises NotSendable.
    """
    return completed_url(provider, provider.definition.token_url, variables)


def completed_url(
    provider: Provider, template: str, variables: Mapping[str, str], *, name: str = "token URL"
) -> str:
    """Return a URL of the definition with its variables filled in, under the rules of `token_url`. `name`: for people.

    Raises NotSendable.
    """
    if "${" not in template:
        return template
    url = filled(provider, template, variables)
    if fills_host(template):
        _check_host(provider, url, name)
    _check_path(url, name)
    return url


def filled(provider: Provider, text: str, variables: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: _value(provider, place[1], variables), text)


def fills_host(url: str) -> bool:
    return "${" in url and not _FIXED_HOST.match(url.partition("${")[0])


def _value(provider: Provider, name: str, variables: Mapping[str, str]) -> str:
    rule = provider.definition.variables.get(name)
    value = variables.get(name, rule.default if rule else None)
    if rule is None or value is None:
        raise NotSendable(f"the token has no variable {name!r}, which {provider.name}'s definition requires")
    shape = BASE if rule.kind is VariableKind.BASE else rule.pattern
    if len(value) > LONGEST_VALUE or not shape.fullmatch(value) or not _VISIBLE.fullmatch(value):
        raise NotSendable(f"the variable {name!r} does not match the pattern in {provider.name}'s definition")
    return value.rstrip("/") if rule.kind is VariableKind.BASE else value


def _check_host(provider: Provider, url: str, name: str) -> None:
    if is_allowed(provider, url):
        return
    parts = urlsplit(url)
    host = parts.netloc.lower()  # whole: no user, no port
    inside = any(host == domain or host.endswith("." + domain) for domain in provider.definition.domains)
    if not inside or parts.scheme != "https" or not _HOST.fullmatch(host) or _is_address(host):
        allowed = " or ".join(map(repr, provider.definition.domains)) or "the allowed_hosts"
        raise NotSendable(f"the {name} would lead outside of {allowed} once its variables are filled in")


def is_allowed(provider: Provider, url: str) -> bool:
    """Return whether the operator named exactly this host. Raises NotSendable for an invalid URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NotSendable("the token URL is not a URL once its variables are filled in") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))
    return secure and parts.netloc.lower() in provider.allowed_hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirected:
    """The target of a redirect: host and path, never the query. `is_known`: the host is one of this
    provider's.
    """

    place: str
    host: str
    is_known: bool


def redirect_target(
    provider: Provider, variables: Mapping[str, str], location: str | None
) -> Redirected | None:
    """Return the target of `location`, relative to the token endpoint's URL, or None if it has none."""
    try:
        here = token_url(provider, variables)
        parts = urlsplit(urljoin(here, location or ""))
        allowed = {urlsplit(here).netloc.lower(), *provider.allowed_hosts}
        host = parts.netloc.rpartition("@")[2].lower()
    except ValueError:
        return None
    if not location or not host:
        return None
    domains = provider.definition.domains
    inside = host in allowed or any(host == domain or host.endswith("." + domain) for domain in domains)
    return Redirected(place=host + parts.path, host=host, is_known=inside)


def _check_path(url: str, name: str) -> None:
    """Refuse dot segments, which would leave the path that the definition gives."""
    path = url.partition("?")[0].lower().replace("\\", "/").replace("%2e", ".")
    if {".", ".."} & set(path.split("/")):
        raise NotSendable(f"the {name} would lead to another path once its variables are filled in")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(url: str) -> bool:
    """Return whether `url` names this machine. Plain HTTP is allowed to this machine only."""
    return is_loopback_host(urlsplit(url).hostname or "")


@lru_cache(maxsize=1024)  # each request asks, and to find out that a name isn't an address is slow
def is_loopback_host(host: str) -> bool:
    """Return whether `host`, in lower case, is this machine."""
    return host in _LOOPBACK or (_is_address(host) and ip_address(host).is_loopback)
