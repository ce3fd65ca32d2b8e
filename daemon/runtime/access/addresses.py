"""The addresses under which applications and browsers reach the access service."""

from collections.abc import Callable
from urllib.parse import urlsplit

from daemon.runtime.access_web.asked import Asked
from daemon.runtime.config.access import AccessSettings
from daemon.runtime.web.hosts import is_loopback


class AccessAddresses:
    """`url`: the listener's, once there is one."""

    def __init__(self, settings: AccessSettings, *, url: Callable[[], str]) -> None:
        self._settings = settings
        self._url = url

    def public_url(self) -> str | None:
        """Return the URL under which browsers reach the service, or None if it is unknown."""
        access = self._settings.access
        local = self._settings.socket is None and is_loopback(access.host)
        return access.public_url or (self._url() if local else None)

    def hosts(self) -> frozenset[str]:
        """Return the names under which callers may ask; empty for any, if this service is for other machines."""
        access = self._settings.access
        public = urlsplit(access.public_url or "").hostname
        if public is None and not is_loopback(access.host):
            return frozenset()
        return frozenset(name.lower() for name in ("localhost", access.host, public) if name)

    def base(self, asked: Asked) -> str:
        """Return the URL under which the caller of this request reaches the service."""
        return self._settings.access.public_url or f"{self._url().partition('://')[0]}://{asked.request.host}"
