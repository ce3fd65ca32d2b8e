"""Spare capacity: what is left of `refresh.concurrency` beside the providers' guaranteed shares. It is lent
to lanes that have work and get grants.

With fixed shares alone, a provider with all the due tokens would wait beside hundreds of idle ones. A
provider that hangs keeps its borrowed capacity until its requests time out, but it never takes another
provider's guaranteed share.
"""

from collections.abc import Iterable

from daemon.domain.provider import Provider


class Spare:
    """The spare capacity of the process. `concurrency`: the limit of requests in flight in total."""

    def __init__(self, concurrency: int = 0) -> None:
        self._concurrency = concurrency
        self._guaranteed = 0
        self._lent: dict[str, int] = {}

    def guarantee(self, providers: Iterable[Provider]) -> None:
        """Reserve the shares of these providers, and of no others."""
        self._guaranteed = sum(provider.share for provider in providers)

    def lend(self, lane: str, count: int) -> None:
        """Set how many requests `lane` has in flight beyond its share."""
        if count:
            self._lent[lane] = count
        else:
            self._lent.pop(lane, None)

    @property
    def free(self) -> int:
        return max(0, self._concurrency - self._guaranteed - sum(self._lent.values()))
