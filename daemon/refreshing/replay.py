"""Replay: replies that outlived a crash or an outage are processed as if they had just arrived."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from daemon.domain.claim import Claim, StoreLost, Unusable
from daemon.domain.journal_entry import Entry, EntryKind, EntryState, ReplayResult
from daemon.refreshing.ports import Journal, Store
from daemon.refreshing.refresher import Outcome

TOKENS_TOGETHER = 256

Conclude = Callable[[Claim, Entry], Awaitable[Outcome]]
# Concludes the reply to a code. None: its exchange is still running here.
ConcludeRemoved = Callable[[Entry], Awaitable[ReplayResult]]
ConcludeConsent = Callable[[Entry], Awaitable[ReplayResult | None]]


class Replayer:
    """Takes journal entries through `conclude`, and those of consents through `consent`. `report` receives each entry with its result (recorded,
    superseded or unparsed), or with the error that makes the entry unusable. `removed` concludes a reply whose document is
    gone; without it, such a reply is kept for operators.
    """

    def __init__(
        self,
        *,
        store: Store,
        journal: Journal,
        conclude: Conclude,
        report: Callable[[Entry, ReplayResult | Exception], None],
        consent: ConcludeConsent | None = None,
        removed: ConcludeRemoved | None = None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._conclude = conclude
        self._report = report
        self._removed = removed
        self.consent = consent

    async def replay(self, entries: Iterable[Entry]) -> None:
        """Replay `entries`. Those of one token are replayed in their order, oldest first, because each may
        have presented the refresh token of the one before.

        Raises StoreLost. A second replay does no harm.
        """
        by_token: dict[str, list[Entry]] = {}
        for entry in entries:
            by_token.setdefault(entry.token, []).append(entry)
        chains = list(by_token.values())
        for start in range(0, len(chains), TOKENS_TOGETHER):
            some = chains[start : start + TOKENS_TOGETHER]
            # All of them end before the first loss is raised, so that no replay continues with a lost store.
            ends = await asyncio.gather(*map(self._replay_one_token, some), return_exceptions=True)
            for end in ends:
                if end is not None:
                    raise end

    async def _replay_one_token(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                result = await self._result_of(entry)
            except StoreLost:
                raise
            except Exception as error:  # noqa: BLE001  one unusable entry must not hold up the others
                self._journal.park(entry, EntryState.UNUSABLE)
                self._report(entry, error)
            else:
                if result is not None:
                    self._report(entry, result)

    async def _result_of(self, entry: Entry) -> ReplayResult | None:
        """Return the result of an entry, or None if it is processed elsewhere. Raises StoreLost or Unusable."""
        if entry.kind is EntryKind.CONSENT:
            if self.consent is None:
                raise Unusable("it answers an authorization code, which nothing exchanges here")
            return await self.consent(entry)
        claim = await self._store.recall(entry)
        if claim is None and self._removed is not None:
            return await self._removed(entry)
        if claim is None:  # the document is gone
            self._journal.park(entry, EntryState.SUPERSEDED)
            return ReplayResult.SUPERSEDED
        return (await self._conclude(claim, entry)).journal_result
