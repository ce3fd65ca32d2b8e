"""What the relay needs from outside. The adapters fit it by shape."""

from collections.abc import Collection, Sequence
from typing import Protocol

from daemon.domain.waiting_events import WaitingEvents


class TokenEvents(Protocol):
    """Events in tokens' documents. Every method raises StoreLost."""

    async def waiting(self, *, limit: int, skip: Collection[str]) -> Sequence[WaitingEvents]:
        """Return the events of up to `limit` documents, those first that changed first, without the tokens `skip`."""

    async def forget(self, relayed: Sequence[WaitingEvents]) -> Collection[str]:
        """Take these events out of their documents, and leave newer ones there. Returns the tokens whose documents MongoDB
        refuses to change.
        """
