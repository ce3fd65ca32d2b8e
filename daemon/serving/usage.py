"""The use of tokens and keys, counted in memory and stored every few seconds. A crash loses what was not stored."""

from collections.abc import Mapping

from daemon.domain.claim import StoreLost
from daemon.domain.use import DAY, HOUR, REFUSED, Use, UseKey, beginning
from daemon.serving.doorkeeper import Caller
from daemon.serving.ports import Clock, Uses
from daemon.serving.problems import STATUS

MOST = 50_000  # counts between two times of storing; beyond it, tokens are counted together
_NOT_REFUSED = frozenset({"unavailable", "internal"})  # no fault of the request


class Usage:
    def __init__(self, uses: Uses, clock: Clock) -> None:
        self._uses = uses
        self._clock = clock
        self._counts: dict[UseKey, Use] = {}

    def note(self, caller: Caller, token: str | None, result: str) -> None:
        """Count a request. `result`: the name of its problem, or what was done with the token, such as "read"."""
        now = self._clock.now()
        if result not in STATUS:
            counted = UseKey(caller.key.id, result, token, None, beginning(now, DAY))
        elif result not in _NOT_REFUSED:
            counted = UseKey(caller.key.id, REFUSED, None, result, beginning(now, HOUR))
        else:
            return
        use = self._counts.get(counted)
        if use is None:
            use = self._first(counted, Use(name=caller.key.name, ip=caller.address, peer=caller.peer, at=now))
        use.count += 1
        use.ip, use.peer, use.at = caller.address, caller.peer, now
        use.workload = caller.workload

    def _first(self, counted: UseKey, use: Use) -> Use:
        """Begin a count. If there are too many, that of all tokens together goes on."""
        if len(self._counts) >= MOST:
            counted = counted._replace(token=None)
        return self._counts.setdefault(counted, use)

    async def store(self) -> None:
        """Store what was counted. If the store is lost, the rest stays in memory. Of it, what was on its way to the store may
        be counted twice.
        """
        counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            await self._uses.add(counts)
        except StoreLost:
            self._counts = _merged(counts, self._counts)
            raise


def _merged(older: Mapping[UseKey, Use], newer: Mapping[UseKey, Use]) -> dict[UseKey, Use]:
    merged = dict(newer)
    for key, use in older.items():
        if key in merged:
            merged[key].count += use.count
        elif len(merged) < MOST:
            merged[key] = use
    return merged
