"""Sends a message to a hook's receiver, once.

The receiver is the one that the operator named: redirects are not followed, no proxy is used, and each address
is checked when it is connected to. The status is the whole answer. A body is read, so that the connection can be used
again, up to a limit; it is neither stored nor logged.
"""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from daemon import __version__
from daemon.adapters.egress.names import Names
from daemon.adapters.egress.permitted import PermittedNames, PrivateAddress, permitted_socket
from daemon.adapters.egress.public_addresses import is_public
from daemon.domain.hook import Attempt, Outcome
from daemon.domain.hook_message import Message
from daemon.domain.reply import retry_after

LIMIT = timedelta(seconds=20)  # for the look-up, the connection and the whole answer
LARGEST = 64 * 1024  # bytes of a body that are read
KEPT_OPEN = timedelta(seconds=75)
_DELAYED = (429, 503)
_GONE = 410


class HookSender:
    """Sends to one receiver. Implements `notifying.ports.Sender`. Close it.

    `allow_private`: the operator's word that the receiver may be inside the network. Plain HTTP never leaves it.
    """

    def __init__(
        self,
        url: str,
        *,
        names: Names,
        tls: ssl.SSLContext,
        allow_private: bool,
        connections: int,
        limit: timedelta = LIMIT,
    ) -> None:
        self._url = URL(url, encoded=True)
        self._limit = limit
        allows = _allowed(plain=self._url.scheme == "http", allow_private=allow_private)
        connector = aiohttp.TCPConnector(
            limit=connections,
            keepalive_timeout=KEPT_OPEN.total_seconds(),
            use_dns_cache=False,
            resolver=names if allows is None else PermittedNames(names, allows),
            ssl=tls,
            socket_factory=lambda address: permitted_socket(address, allows=allows),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,  # what grows when it is unpacked has no bound
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": f"refreshd/{__version__}",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            read_bufsize=LARGEST,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(self, message: Message) -> Attempt:
        """Send `message` once. Nothing that the receiver does is an exception."""
        answered: list[Attempt] = []  # the status counts, even if the body does not end
        try:
            async with asyncio.timeout(self._limit.total_seconds()):
                await self._exchange(message, answered)
        except TimeoutError:
            failure = Outcome.TIMEOUT
        except PrivateAddress:
            failure = Outcome.NOT_PERMITTED
        except aiohttp.ClientConnectorError as why:
            failure = _unconnected(why)
        except (aiohttp.ClientError, OSError, ValueError):
            failure = Outcome.UNREACHABLE
        else:
            failure = Outcome.UNREACHABLE
        return answered[0] if answered else Attempt(outcome=failure)

    async def _exchange(self, message: Message, answered: list[Attempt]) -> None:
        async with self._session.post(
            self._url, data=message.body, headers=dict(message.headers), allow_redirects=False
        ) as answer:
            now = _date(answer.headers.get("Date")) or message.sent_at
            answered.append(_attempt(answer.status, answer.headers.get("Retry-After"), now))
            read = 0
            async for chunk in answer.content.iter_any():
                read += len(chunk)
                if read > LARGEST:
                    answer.close()  # with its connection
                    return


def _attempt(status: int, wait: str | None, now: datetime) -> Attempt:
    """`now`: by the receiver's clock, so that a date in Retry-After means the same wait however far the clocks are apart."""
    asked = retry_after(wait, now=now) if status in _DELAYED else None
    return Attempt(outcome=_outcome(status, waits=asked is not None), status=status, retry_after=asked)


def _date(header: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(header or "")
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _outcome(status: int, *, waits: bool) -> Outcome:
    if 200 <= status < 300:
        return Outcome.DELIVERED
    if 300 <= status < 400:
        return Outcome.REDIRECTED
    if status == _GONE:
        return Outcome.GONE
    return Outcome.THROTTLED if status == _DELAYED[0] or waits else Outcome.REFUSED


def _allowed(*, plain: bool, allow_private: bool) -> Callable[[str], bool] | None:
    """Return the check of an address. None: any."""
    if plain:
        return lambda address: allow_private and not is_public(address)
    return None if allow_private else is_public


def _unconnected(error: aiohttp.ClientConnectorError) -> Outcome:
    if isinstance(error.os_error, PrivateAddress):
        return Outcome.NOT_PERMITTED
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return Outcome.UNTRUSTED
    if isinstance(error.os_error, ssl.SSLError):
        return Outcome.UNTRUSTED
    return Outcome.UNREACHABLE
