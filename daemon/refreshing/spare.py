"""What may be in flight beyond the providers' guaranteed shares. It is lent to lanes that have work and get grants.

A static share alone would keep a provider that has all the tokens waiting beside hundreds that have none. A provider
that hangs keeps what it borrowed until its requests time out, but never another provider's guaranteed share.
"""

from collections.abc import Iterable

from daemon.domain.provider import Provider


class Spare:
    """One for the process. `concurrency`: how many requests may be in flight in all."""

    def __init__(self, concurrency: int = 0) -> None:
        self._concurrency = concurrency
        self._guaranteed = 0
        self._lent: dict[str, int] = {}

    def guarantee(self, providers: Iterable[Provider]) -> None:
        """These are the providers from now on."""
        self._guaranteed = sum(provider.share for provider in providers)

    def lend(self, lane: str, count: int) -> None:
        """`lane` has so many in flight beyond its share now."""
        if count:
            self._lent[lane] = count
        else:
            self._lent.pop(lane, None)

    @property
    def free(self) -> int:
        return max(0, self._concurrency - self._guaranteed - sum(self._lent.values()))
