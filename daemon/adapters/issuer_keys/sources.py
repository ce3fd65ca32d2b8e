"""Where an issuer's key set is: behind an https URL, or in a file."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
from yarl import URL

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.permitted import PermittedNames, PrivateAddress, permitted_socket
from daemon.adapters.egress.public_addresses import is_public
from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.key_file import read_key_file
from daemon.adapters.issuer_keys.key_set import LARGEST

WITHIN = timedelta(seconds=5)  # for the look-up, the connection and the whole answer


class UrlSource:
    """A key set behind a URL. `allow_private`: the operator's word that it is inside the network."""

    def __init__(
        self,
        url: str,
        names: Names,
        *,
        tls: ssl.SSLContext,
        allow_private: bool = False,
        within: timedelta = WITHIN,
    ) -> None:
        self._url = URL(url, encoded=True)
        self._names = names
        self._allows: Callable[[str], bool] | None = None if allow_private else is_public
        self._within = within
        self._tls = tls

    async def read(self) -> bytes:
        """Ask once. Raises ReadFailed."""
        try:
            async with asyncio.timeout(self._within.total_seconds()), self._session() as session:
                return await self._asked(session)
        except TimeoutError:
            raise ReadFailed(f"no answer within {self._within.total_seconds():g} s") from None
        except PrivateAddress:
            raise ReadFailed("its host has no public address; allow_private = true would allow it") from None
        except aiohttp.ClientConnectorError as why:
            raise ReadFailed(_reason(why)) from None
        except (aiohttp.ClientError, OSError, ValueError) as why:
            raise ReadFailed(f"the exchange failed: {type(why).__name__}") from None

    async def _asked(self, session: aiohttp.ClientSession) -> bytes:
        async with session.get(self._url, allow_redirects=False) as answer:
            if answer.status != 200:
                redirected = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
                raise ReadFailed(f"the answer has the status {answer.status}{redirected}")
            content = bytearray()
            async for chunk in answer.content.iter_any():
                content += chunk
                if len(content) > LARGEST:
                    raise ReadFailed(f"it has more than {LARGEST} bytes")
            return bytes(content)

    def _session(self) -> aiohttp.ClientSession:
        """Return a session for one request: a connection that nobody uses for minutes would be gone anyway."""
        allows = self._allows
        connector = aiohttp.TCPConnector(
            limit=1,
            force_close=True,
            use_dns_cache=False,
            resolver=self._names if allows is None else PermittedNames(self._names, allows),
            ssl=self._tls,
            socket_factory=lambda address: permitted_socket(address, allows=allows),
        )
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,  # what grows when it is unpacked has no bound
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )


class FileSource:
    """A key set in a file that nobody else can change."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes:
        """Read the file. Raises ReadFailed."""
        return await asyncio.to_thread(read_key_file, self._path)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Return why there is no connection. The library's text would quote the URL."""
    cause = error.os_error
    if isinstance(cause, PrivateAddress):
        return "its host has no public address; allow_private = true would allow it"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name resolution failed"
    return f"no connection: {cause.strerror or type(cause).__name__}"
