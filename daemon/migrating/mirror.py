"""Keeps an application's own store up to date, so that an application that was not changed yet goes on reading there.

A mirror follows the stored tokens: those that refreshd renews are written; those that are paused, dead or removed
disappear. A token that the application itself still refreshes is never touched.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from daemon.domain.layout import Values
from daemon.domain.origin import StoredToken, Unreadable
from daemon.migrating.write_back import WriteBack

AT_ONCE = 500

Digests = Mapping[str, tuple[str, ...]]


class FollowedTokens(Protocol):
    """The stored tokens. Every method raises StoreLost."""

    def marks(self, providers: Collection[str] | None) -> AsyncIterator[tuple[str, str]]:
        """Yield each token's id and a mark that changes with what a mirror shows of it."""

    async def of(self, ids: Collection[str]) -> Sequence[StoredToken | Unreadable]:
        """Return those of `ids` that are stored."""

    async def note_written(self, digests: Mapping[str, tuple[str, str]]) -> None:
        """Replace the digest of each imported token's row: by id, the former one and the new one."""


class Memory(Protocol):
    """What the mirror has written, by token id: digests of the rows that may stand there. It outlives the process."""

    def load(self) -> Digests:
        """Return the digests."""

    def store(self, digests: Digests) -> None:
        """Replace them, durably. Raises SourceLost."""


@dataclass(slots=True, kw_only=True)
class Followed:
    """What one pass did. `refused`: by token id, why its row was left alone."""

    written: int = 0
    removed: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class Mirror:
    """One place that follows the tokens of `providers` (None: of all).

    `memory`: needed where the rows show refresh tokens. Elsewhere the stand-in shows which rows are the mirror's.
    """

    def __init__(
        self,
        write_back: WriteBack,
        *,
        tokens: FollowedTokens,
        memory: Memory | None,
        providers: Collection[str] | None,
    ) -> None:
        self._write_back = write_back
        self._tokens = tokens
        self._memory = memory
        self._providers = providers
        self._written: dict[str, tuple[str, ...]] | None = None  # None: not known yet
        self._marks: dict[str, str] = {}

    def follows(self, provider: str) -> bool:
        return self._providers is None or provider in self._providers

    async def catch_up(self, *, now: datetime) -> Followed:
        """Look at all tokens, and follow those that have changed since the last look. Raises StoreLost, SourceLost."""
        marks = {name: mark async for name, mark in self._tokens.marks(self._providers)}
        written = await self._known(now=now)
        changed = [name for name, mark in marks.items() if self._marks.get(name) != mark]
        done = await self.follow([*changed, *(written.keys() - marks.keys())], now=now)
        self._marks = marks
        return done

    async def follow(self, ids: Sequence[str], *, now: datetime) -> Followed:
        """Bring the rows of these tokens up to date. Raises StoreLost, SourceLost."""
        done = Followed()
        for start in range(0, len(ids), AT_ONCE):
            await self._follow(ids[start : start + AT_ONCE], done, now=now)
        return done

    async def _follow(self, ids: Sequence[str], done: Followed, *, now: datetime) -> None:
        written = await self._known(now=now)
        found = await self._tokens.of(ids)
        stored = [token for token in found if isinstance(token, StoredToken)]
        shown = [token for token in stored if token.usable]
        gone = [token for token in stored if not token.usable and not _is_the_applications(token)]
        gone += _removed(set(ids) - {one.id for one in found}, written)
        origins = self._write_back.origins((*shown, *gone))
        last = {name: (digest,) for name, digest in origins.items()} | written
        outcome = await self._write_back.bring(shown, last, gone=gone, now=now, before=self._intend)
        done.written += len(outcome.written)
        done.removed += len(outcome.removed)
        done.refused |= outcome.refused
        for name in outcome.removed:
            written.pop(name, None)
        written |= {name: (digest,) for name, digest in (outcome.unchanged | outcome.written).items()}
        if outcome.written or outcome.removed:
            self._remember(written)
            await self._tokens.note_written(
                {name: (origins[name], new) for name, new in outcome.written.items() if name in origins}
            )

    async def _known(self, *, now: datetime) -> dict[str, tuple[str, ...]]:
        if self._written is None:
            if self._memory is not None:
                self._written = dict(self._memory.load())
            else:
                found = await self._write_back.stand_ins(now=now)
                self._written = {name: (digest,) for name, digest in found.items() if self._is_followed(name)}
        return self._written

    def _is_followed(self, name: str) -> bool:
        return self.follows(name.partition(":")[0])

    def _intend(self, digests: Mapping[str, str]) -> None:
        """Remember what is about to be written: a crash may come between a write and its record."""
        if self._memory is not None and self._written is not None:
            both = {name: (*self._written.get(name, ()), digest) for name, digest in digests.items()}
            self._memory.store({**self._written, **both})

    def _remember(self, written: Digests) -> None:
        if self._memory is not None:
            self._memory.store(written)


def _is_the_applications(token: StoredToken) -> bool:
    """Return whether the application still refreshes the token: it was imported, and never activated."""
    return token.origin is not None and not token.origin.activated


def _removed(ids: Iterable[str], written: Digests) -> list[StoredToken]:
    """Return what is known of tokens that are stored no longer, and whose rows the mirror has written."""
    tokens = []
    for name in ids:
        if name in written:
            provider, _, account = name.partition(":")
            values = Values(provider=provider, account=account, access_token=None, refresh_token=None)
            tokens.append(StoredToken(id=name, values=values, origin=None, usable=False, unsettled=False))
    return tokens
