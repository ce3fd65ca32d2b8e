"""Moves events from the documents of tokens into the outbox.

An event leaves its document only when a majority has it in the outbox. If the process dies in between, the next relay
stores it again, and the outbox finds it by its id. Any number of replicas may relay at the same time.
"""

from collections.abc import Callable, Collection, Sequence

from daemon.domain.event import OwnerEventsLost
from daemon.domain.waiting_events import EventRefused, WaitingEvents
from daemon.notifying.ports import Outbox
from daemon.notifying.relay_ports import TokenEvents

AT_ONCE = 100  # documents, of at most 16 events each
REFUSED_FOR = 60  # runs: of a document or an event that MongoDB refuses, so that it doesn't delay the others


class Relay:
    """`observe` learns of events that nobody will get."""

    def __init__(
        self, tokens: TokenEvents, outbox: Outbox, *, observe: Callable[[OwnerEventsLost], None]
    ) -> None:
        self._tokens = tokens
        self._outbox = outbox
        self._observe = observe
        self._refused: dict[str, int] = {}  # the run in which each is tried again, by token
        self._runs = 0

    async def run(self) -> int:
        """Relay all events that wait, and return their number. Raises StoreLost, and EventRefused after everything else
        is relayed.
        """
        self._runs += 1
        self._refused = {token: run for token, run in self._refused.items() if run > self._runs}
        relayed, refusal = 0, None
        while waiting := await self._tokens.waiting(limit=AT_ONCE, skip=self._refused):
            stored, why = await self._store(waiting)
            refusal = why or refusal
            self._skip(await self._tokens.forget(stored))
            for one in stored:
                self._report(one)
            relayed += sum(len(one.events) for one in stored)
            if len(waiting) < AT_ONCE:
                break
        if refusal is not None:
            raise refusal
        return relayed

    async def _store(
        self, waiting: Sequence[WaitingEvents]
    ) -> tuple[Sequence[WaitingEvents], EventRefused | None]:
        """Return those whose events are in the outbox, and why the others are not."""
        try:
            await self._outbox.add([event for one in waiting for event in one.events])
        except EventRefused as why:
            return await self._store_each(waiting), why
        return waiting, None

    async def _store_each(self, waiting: Sequence[WaitingEvents]) -> Sequence[WaitingEvents]:
        stored = []
        for one in waiting:
            try:
                await self._outbox.add(one.events)
            except EventRefused:
                self._skip([one.token])
            else:
                stored.append(one)
        return stored

    def _skip(self, tokens: Collection[str]) -> None:
        self._refused |= dict.fromkeys(tokens, self._runs + REFUSED_FOR)

    def _report(self, one: WaitingEvents) -> None:
        if one.malformed or one.lost:
            self._observe(OwnerEventsLost(token=one.token, malformed=one.malformed, pushed_out=one.lost))
