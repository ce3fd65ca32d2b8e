"""One request to a store of secrets: bounded in time and size, without redirects, cookies or a proxy.

A reply's body is a secret, so nothing of it gets into a message but the error code of the service, if that has the
form of one.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from daemon.adapters.egress.tls import client_context
from daemon.adapters.secrets.errors import SecretAway, SecretUnusable

LIMIT = timedelta(seconds=5)  # for one request and its whole reply
LARGEST = 256 * 1024  # bytes of a reply; a secret may have 64 KB, and JSON may escape each character
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_METADATA_HOST = "metadata.google.internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply. `service` is its sender's name in messages."""

    service: str
    status: int
    body: bytes = field(repr=False)

    def fields(self) -> Mapping[str, Any]:
        """Return the JSON object in the body. Raises SecretUnusable."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            raise SecretUnusable(f"{self.service} has answered with something other than JSON") from None
        if not isinstance(found, dict):
            raise SecretUnusable(f"{self.service} has answered with JSON of another form than it documents")
        return found

    def raise_if_failed(self) -> None:
        """Raise SecretAway for every status but 200. A service that has a status for "missing" looks at it first."""
        match self.status:
            case 200:
                return
            case 401 | 403:
                why = "denies access"
            case 429:
                why = "limits the rate of requests"
            case status if status >= 500:
                why = "has failed"
            case _:
                why = "has refused the request"
        raise SecretAway(f"{self.service} {why} (HTTP {self.status})")


_contexts = cache(client_context)  # one, since it takes as long as a request to read all authorities


async def ask(
    service: str,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    form: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send one request and return its whole reply. Raises SecretAway, SecretUnusable.

    `tls`: the context of the connection; by default this machine's authorities.
    """
    _check(service, url)
    connector = aiohttp.TCPConnector(ssl=tls or _contexts(), force_close=True)
    try:
        async with (
            asyncio.timeout(LIMIT.total_seconds()),
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(),
                headers={"Accept-Encoding": "identity"},
            ) as session,
            session.request(
                method, url, headers=headers, data=form or body, params=query, allow_redirects=False
            ) as response,
        ):
            if 300 <= response.status < 400:
                raise SecretAway(f"{service} has answered with a redirect, which is not followed")
            return Reply(service=service, status=response.status, body=await _whole(service, response))
    except TimeoutError:
        raise SecretAway(f"{service} did not answer within {LIMIT.total_seconds():g} s") from None
    except aiohttp.ClientPayloadError:
        raise SecretUnusable(f"{service} has closed the connection in the middle of its answer") from None
    except aiohttp.ClientConnectorCertificateError:
        raise SecretAway(f"{service} has a certificate that is not trusted here") from None
    except aiohttp.ClientConnectorError as error:
        raise SecretAway(f"{service} can't be reached: {error.os_error.strerror or 'unknown name'}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise SecretAway(f"{service} can't be asked: {type(error).__name__}") from None


def code_of(value: object) -> str:
    """Return an error code of a service for a message, or "unknown error" if it has not the form of a code."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else "unknown error"


def text_of(service: str, value: object) -> str:
    """Return `value` if it is text. Raises SecretUnusable."""
    if not isinstance(value, str):
        raise SecretUnusable(f"{service} has answered, but the secret is not text")
    return value


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_of_platform(host: str) -> bool:
    """Return whether it is a metadata server: those are asked by http, and no router forwards to them."""
    try:
        return host == _METADATA_HOST or ip_address(host).is_link_local
    except ValueError:
        return False


def _check(service: str, url: str) -> None:
    """Raise SecretAway if the secret would cross a network unencrypted."""
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname or "", parts.scheme
    except ValueError:
        host, scheme = "", ""
    if not host or scheme not in ("https", "http"):
        raise SecretAway(f"the address of {service} is not an https URL")
    if scheme == "http" and not (is_loopback(host) or _is_of_platform(host)):
        raise SecretAway(f"the address of {service} begins with http: use https, except on this machine")


async def _whole(service: str, response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > LARGEST:
            raise SecretUnusable(f"{service} has answered with more than {LARGEST // 1024} KB")
        parts.append(part)
    return b"".join(parts)
