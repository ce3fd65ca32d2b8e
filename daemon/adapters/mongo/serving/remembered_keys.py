"""Access keys for the access service, kept in memory for as long as they are known to be true."""

from collections.abc import Callable
from datetime import timedelta

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.access_keys import access_key_of
from daemon.adapters.mongo.serving.remembered import Remembered
from daemon.adapters.mongo.token_document import Document, InvalidDocument
from daemon.domain.access_key import AccessKey
from daemon.domain.known import Known

MOST = 10_000


class ServedKeys:
    """Implements `serving.ports.Keys`."""

    def __init__(
        self, mongo: Mongo, *, offline_for: timedelta, without_streams: Callable[[str], None]
    ) -> None:
        """`without_streams` receives the reason, once, if MongoDB offers no change streams."""
        self._remembered = Remembered(
            mongo,
            lambda: mongo.access,
            fields={},
            parse=_access_key,
            most=MOST,
            offline_for=offline_for,
            without_streams=without_streams,
        )
        self.watch = self._remembered.watch

    async def find(self, key_id: str) -> Known[AccessKey]:
        value, away = await self._remembered.find(key_id)
        return Known(value, away)


def _access_key(document: Document) -> AccessKey | None:
    try:
        return access_key_of(document)
    except InvalidDocument:
        return None  # it allows nothing
