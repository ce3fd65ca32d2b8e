"""Activation of imported tokens, in slices, and the way back.

The application stops refreshing a slice first. Then its rows are read once more, so that its last renewals are not
lost, and each token becomes active in the same write that stores what the row holds now.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from daemon.domain.foreign import BadRow
from daemon.domain.layout import Row, RowInvalid
from daemon.domain.layout_reading import key_of
from daemon.domain.moving import Candidate, Due, InFlight, Refused, Standing, Step, in_first, step_for
from daemon.migrating.import_tokens import Batch, Import, Refusal, batches, is_ours, kept, names_in
from daemon.migrating.ports import ImportedSlices

ALL = 100  # percent
POLL = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceActivation:
    """The second pass of an import: activate the first `percent` percent of its tokens."""

    run: Import
    slices: ImportedSlices
    percent: int
    due: Due

    async def activate(self) -> None:
        """Raises what the import raises."""
        async for batch in batches(self.run.source.rows()):
            if chosen := self._chosen(batch):
                await self._activate(chosen)
                self.run.progress(self.run.report)

    def _chosen(self, batch: Batch) -> dict[str, Row]:
        """Return the rows of the slice by key, without those that the first pass refused."""
        chosen = {}
        for _, row in batch:
            if isinstance(row, BadRow) or not self._is_wanted(row):
                continue
            try:
                candidate = self._candidate(row, self.run.now())
            except RowInvalid:
                continue
            name = candidate.token.id
            if in_first(self.percent, name) and name not in self.run.seen.contested:
                chosen[candidate.origin.key] = row
        return chosen

    async def _activate(self, rows: Mapping[str, Row]) -> None:
        read_at = self.run.now()
        fresh = await self.run.source.again(list(rows.values()))
        candidates = self._opened(rows, fresh, read_at)
        standings = await self.run.tokens.standing(candidates)
        same, newer = self._divided(candidates, standings)
        if self.run.copy is None:
            self.run.report.activated += len(same) + len(newer) + sum(map(_is_new, standings.values()))
            return
        await self.run.copy.add([kept(self.run.source, fresh[one.origin.key], one) for one, _ in newer])
        ids = [one.token.id for one in (*same, *(one for one, _ in newer))]
        refused = await self.slices.activate(ids, at=self.run.now(), due=self.due, newer=newer)
        self.run.report.activated += len(ids) - len(refused)
        for name, why in refused.items():
            self._refuse(name, why)

    def _opened(
        self, rows: Mapping[str, Row], fresh: Mapping[str, Row], read_at: datetime
    ) -> list[Candidate]:
        candidates = []
        for key in rows:
            if key not in fresh:
                self._refuse(key, "its row is gone from the source")
                continue
            try:
                candidates.append(self._candidate(fresh[key], read_at))
            except RowInvalid as why:
                self._refuse(key, str(why))
        return candidates

    def _divided(
        self, candidates: Sequence[Candidate], standings: Mapping[str, Standing]
    ) -> tuple[list[Candidate], list[tuple[Candidate, Standing]]]:
        """Return the tokens that are stored as the rows are, and those that a row is newer than."""
        same, newer = [], []
        for candidate in candidates:
            standing = standings[candidate.token.id]
            try:
                step = step_for(candidate, standing)
            except Refused as why:
                self._refuse(candidate.label, str(why))
                continue
            if step is Step.UPDATE:
                newer.append((candidate, standing))
            elif is_ours(standing):
                same.append(candidate)
        return same, newer

    def _candidate(self, row: Row, read_at: datetime) -> Candidate:
        label = key_of(self.run.reader.layout, row)
        return self.run.reader.candidate(row, label=label, read_at=read_at)

    def _is_wanted(self, row: Row) -> bool:
        return not self.run.only or bool(names_in(self.run.only, self.run.reader.layout, row))

    def _refuse(self, row: str, why: str) -> None:
        self.run.report.not_activated.append(Refusal(row=row, why=why))


def _is_new(standing: Standing) -> bool:
    return standing.stored is None and standing.row_holder is None and standing.grant_holder is None


# ---------------------------------------------------------------- without the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The result of an activation by percentage. `too_old`: tokens whose rows were read too long ago."""

    activated: int = 0
    too_old: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)


async def resume_slice(
    tokens: ImportedSlices,
    provider: str,
    *,
    percent: int,
    read_within: timedelta,
    now: Callable[[], datetime],
    due: Due,
) -> Resumed:
    """Activate the slice's imported tokens whose rows were read at most `read_within` ago. Raises StoreLost.

    A token that was activated once, or that an operator paused, is left alone.
    """
    await tokens.prepare()
    done = Resumed()
    async for some in tokens.waiting(provider):
        chosen = [one for one in some if in_first(percent, one.id)]
        since = now() - read_within
        ids = [one.id for one in chosen if one.read_at >= since]
        refused = await tokens.activate(ids, at=now(), due=due, read_since=since)
        done = replace(
            done,
            activated=done.activated + len(ids) - len(refused),
            too_old=done.too_old + len(chosen) - len(ids),
            refused={**done.refused, **refused},
        )
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """The result of `take_back`. `in_flight`: tokens whose refresh token may just be spent by refreshd."""

    tokens: int
    in_flight: Sequence[InFlight]


async def take_back(
    tokens: ImportedSlices,
    provider: str,
    *,
    limit: timedelta,
    passed: Callable[[], timedelta],
    sleep: Callable[[float], Awaitable[None]],
) -> TakenBack:
    """Pause the provider's activated imported tokens, and wait at most `limit` until no request runs for any of them.

    Raises StoreLost.
    """
    count = await tokens.take_back(provider)
    end = passed() + limit
    while True:
        left = await tokens.in_flight(provider)
        if not any(one.holder for one in left) or passed() >= end:
            return TakenBack(tokens=count, in_flight=left)
        await sleep(POLL.total_seconds())
