"""Protocols for everything that notifying needs from outside. The adapters fit them by shape, and tests bring fakes."""

from collections.abc import Sequence
from typing import Protocol

from daemon.domain.owner_event import OwnerEvent


class Outbox(Protocol):
    """The stored events that are to be delivered. Every method raises StoreLost."""

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        """Store `events`, with a majority. An event whose id is stored already is left as it is."""
