"""Which texts the log masks: the secrets of the configuration in use, and those that come or go with a reload."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from daemon.adapters.keyring import KeyRing
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.reload import client_secrets, secrets_of
from daemon.runtime.config.settings import Settings


class SecretMasks:
    """Keeps the log's masks up to date. `uri`: the store's, with its password.

    A secret is masked from the moment when it was read, and for one reload longer than it is in use: a reply to the last
    request that was sent with it may repeat it.
    """

    def __init__(self, settings: Settings, uri: Secret, log: EventLog) -> None:
        self._uri = uri
        self._log = log
        self._in_use = settings
        self._beside = settings  # the settings before, or those that may soon be in use
        self._clients: Sequence[Secret] = ()
        self._ring: Callable[[], KeyRing] = lambda: settings.keys.key_ring
        self._former_ring = settings.keys.key_ring
        self._registering = threading.Lock()  # a reload reads in a thread, and the last one has to see all
        self._register()

    def follow_ring(self, ring: Callable[[], KeyRing]) -> None:
        """Mask the keys of the ring in use too. It is not that of the configuration if that one is refused."""
        self._ring = ring
        self._register()

    def use_providers(self, providers: Mapping[str, Provider]) -> None:
        """Mask the secrets of these clients too. A source may have given another one than at the last reload."""
        self._clients = client_secrets(providers)
        self._register()

    def read(self, fresh: Settings) -> None:
        """Mask the secrets of settings that may soon be in use. For any thread: hundreds of new ones take a while."""
        self._beside = fresh
        self._former_ring = self._ring()
        self._register()

    def use(self, fresh: Settings) -> None:
        """Note that these settings are in use now."""
        self._beside, self._in_use = self._in_use, fresh
        self._register()

    def _register(self) -> None:
        with self._registering:
            self._log.register_secrets(self._secrets())

    def _secrets(self) -> Iterator[Secret]:
        yield from secrets_of(self._in_use, self._uri)
        yield from secrets_of(self._beside, self._uri)
        yield from self._clients
        yield from self._former_ring.secrets()
        yield from self._ring().secrets()
