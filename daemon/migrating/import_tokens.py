"""Import: the tokens of an application's store become paused tokens here, and each row ends in one of four counts.

Read, open, check, back up, store as paused, read back, report. A row is stored only after a sealed copy of it is on
disk, and no row is stored if the key opens none of them. Repeating an import is harmless: rows are recognized by their
origin, so a killed import that runs again ends as an undisturbed one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from daemon.domain.foreign import BadRow
from daemon.domain.layout import Layout, Row, RowInvalid
from daemon.domain.layout_reading import key_of, owner_of
from daemon.domain.moving import Candidate, KeptRow, Refused, Standing, Step, step_for
from daemon.migrating.ports import ForeignStore, ImportedTokens, RowCopy
from daemon.migrating.row_reader import CountingCipher, RowReader

BATCH = 500  # rows in memory, in one command, and in one fsync of the copy


class ImportStopped(Exception):
    """The import can't go on. The text is a sentence for operators: what, where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A row that was not imported, and the reason as a clause."""

    row: str
    why: str


@dataclass(slots=True, kw_only=True)
class Report:
    """The result so far: `found` is the sum of the three other counts and the refusals.

    `due_immediately`: stored rows that don't say clearly when their access token ends. `not_found`: names in --only
    that no row has. `activated`: in a dry run, the number that would be.
    """

    layout: str
    source: str
    dry_run: bool
    found: int = 0
    imported: int = 0
    updated: int = 0
    already_there: int = 0
    refused: list[Refusal] = field(default_factory=list)
    ignored_fields: Counter[str] = field(default_factory=Counter)
    unclear_fields: Counter[str] = field(default_factory=Counter)
    due_immediately: int = 0
    not_found: list[str] = field(default_factory=list)
    activated: int = 0
    not_activated: list[Refusal] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """The number of rows that were stored."""
        return self.imported + self.updated


@dataclass(slots=True)
class Seen:
    """The accounts and refresh tokens of the rows so far. `contested`: ids that two rows lay claim to, or that were
    refused. `wanted`: those of the names in --only that were found.
    """

    labels: dict[str, str] = field(default_factory=dict)
    grants: dict[bytes, str] = field(default_factory=dict)
    contested: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)

    def add(self, candidate: Candidate) -> None:
        """Raises RowInvalid if an earlier row has the same account or the same refresh token."""
        name, held = candidate.token.id, candidate.token.refresh_token
        if (earlier := self.labels.get(name)) is not None:
            self.contested.add(name)
            raise RowInvalid(
                f"{earlier} is {name} too, and only one row can be; remove the older one from the source"
            )
        grant = (
            None
            if held is None or candidate.shows_a_stand_in
            else sha256(held.reveal().encode()).digest()[:16]
        )
        if grant is not None and (other := self.grants.get(grant)) is not None:
            self.contested |= {other, name}
            raise RowInvalid(
                f"{self.labels[other]} holds the same refresh token, and two tokens would spend it; keep one of the rows"
            )
        self.labels[name] = candidate.label
        if grant is not None:
            self.grants[grant] = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One run. `copy`: None for a dry run, which writes nothing. `only`: the accounts or ids to import; empty: all."""

    source: ForeignStore
    reader: RowReader
    cipher: CountingCipher | None
    tokens: ImportedTokens
    copy: RowCopy | None
    only: Collection[str]
    now: Callable[[], datetime]
    progress: Callable[[Report], None]
    report: Report
    seen: Seen = field(default_factory=Seen)

    async def run(self) -> Report:
        """Import every row. Raises ImportStopped, SourceLost, CopyFailed and StoreLost; what was stored until then
        stays, and the next run continues.
        """
        read_at = self.now()
        if self.copy is not None:
            await self.tokens.prepare()
        async with one_at_a_time() as later:
            async for batch in batches(self.source.rows()):
                rows, candidates = await asyncio.to_thread(self._opened, batch, read_at)
                self._stop_at_a_wrong_key()
                await later(self._settle(rows, candidates, read_at))
        self._stop_if_nothing_was_found()
        self.report.not_found = sorted(set(self.only) - self.seen.wanted)
        return self.report

    async def _settle(
        self, rows: Sequence[KeptRow], candidates: Sequence[Candidate], read_at: datetime
    ) -> None:
        """Check a batch against the store, back it up, and store it."""
        standings = await self.tokens.standing(candidates)
        plan = self._planned(candidates, standings)
        refused: Mapping[str, str] = {}
        if self.copy is not None:
            await self.copy.add(rows)
            refused = await self._stored(plan, standings, read_at)
        self._count(plan, refused)
        self.progress(self.report)

    # ---------------------------------------------------------------- open and check

    def _opened(self, batch: "Batch", read_at: datetime) -> tuple[list[KeptRow], list[Candidate]]:
        """Return the selected rows for the copy, and those of them that are valid as candidates."""
        rows, candidates = [], []
        for label, row in batch:
            if not self._is_wanted(row):
                continue
            self.report.found += 1
            if isinstance(row, BadRow):
                self._refuse(row.label, row.why)
                continue
            candidate = self._opened_row(label, row, read_at)
            rows.append(kept(self.source, row, candidate))
            if candidate is not None:
                candidates.append(candidate)
        return rows, candidates

    def _opened_row(self, label: str, row: Row, read_at: datetime) -> Candidate | None:
        try:
            label = key_of(self.reader.layout, row)
            candidate = self.reader.candidate(row, label=label, read_at=read_at)
            self.seen.add(candidate)
        except RowInvalid as why:
            self._refuse(label, str(why))
            return None
        self.report.ignored_fields.update(candidate.ignored)
        self.report.unclear_fields.update(candidate.unclear)
        return candidate

    def _is_wanted(self, row: Row | BadRow) -> bool:
        if not self.only:
            return True
        found = set() if isinstance(row, BadRow) else names_in(self.only, self.reader.layout, row)
        self.seen.wanted |= found
        return bool(found)

    def _stop_at_a_wrong_key(self) -> None:
        if self.cipher is not None and self.cipher.is_wrong:
            raise ImportStopped(
                f"the key opens none of the {self.report.found} rows that were read from {self.report.source}, so nothing"
                " was stored: it is not the application's encryption key. Give the right one with --key-env NAME or"
                " --key-file FILE"
            )

    # ---------------------------------------------------------------- decide, store, count

    def _planned(
        self, candidates: Sequence[Candidate], standings: Mapping[str, Standing]
    ) -> list[tuple[Candidate, Step]]:
        plan = []
        for candidate in candidates:
            try:
                plan.append((candidate, step_for(candidate, standings[candidate.token.id])))
            except Refused as why:
                self.seen.contested.add(candidate.token.id)
                self._refuse(candidate.label, str(why))
        return plan

    async def _stored(
        self, plan: Sequence[tuple[Candidate, Step]], standings: Mapping[str, Standing], read_at: datetime
    ) -> Mapping[str, str]:
        """Store what is new or newer. Returns the tokens that are not stored, with reasons."""
        new = [candidate for candidate, step in plan if step is Step.INSERT]
        newer = [(one, standings[one.token.id]) for one, step in plan if step is Step.UPDATE]
        same = [one.token.id for one, step in plan if step is Step.LEAVE and is_ours(standings[one.token.id])]
        refused = {**await self.tokens.insert(new), **await self.tokens.update(newer)}
        await self.tokens.confirm(same, read_at=read_at)
        return refused

    def _count(self, plan: Sequence[tuple[Candidate, Step]], refused: Mapping[str, str]) -> None:
        for candidate, step in plan:
            if (why := refused.get(candidate.token.id)) is not None:
                self.seen.contested.add(candidate.token.id)
                self._refuse(candidate.label, why)
                continue
            match step:
                case Step.INSERT:
                    self.report.imported += 1
                case Step.UPDATE:
                    self.report.updated += 1
                case Step.LEAVE:
                    self.report.already_there += 1
            if step is not Step.LEAVE and not candidate.origin.end_is_known:
                self.report.due_immediately += 1

    def _refuse(self, label: str, why: str) -> None:
        self.report.refused.append(Refusal(row=label, why=why))

    def _stop_if_nothing_was_found(self) -> None:
        if self.report.found:
            return
        if self.only:
            raise ImportStopped(
                f"no row of {self.report.source} belongs to {', '.join(sorted(self.only))}. Leave --only out to see"
                " every account with --dry-run"
            )
        raise ImportStopped(
            f"there are no rows in {self.report.source}, so nothing was imported. Check that it is the place, and"
            f" {self.report.layout!r} the layout, in which the application stores its tokens"
        )


Batch = Sequence[tuple[str, Row | BadRow]]


@asynccontextmanager
async def one_at_a_time() -> AsyncIterator[Callable[[Coroutine[None, None, None]], Awaitable[None]]]:
    """Yield a function that begins some work once the work before it is done, and returns when it has begun.

    So one batch is stored while the next one is read. At the end, and after an error, the last work is finished first.
    """
    running: list[asyncio.Task[None]] = []

    async def later(work: Coroutine[None, None, None]) -> None:
        try:
            await finished()
        except BaseException:
            work.close()
            raise
        running.append(asyncio.create_task(work))

    async def finished() -> None:
        if running:
            await running.pop()

    try:
        yield later
    except BaseException:
        with suppress(Exception):  # the first error is the one to report
            await finished()
        raise
    await finished()


async def batches(rows: AsyncIterator[Row | BadRow]) -> AsyncIterator[Batch]:
    """Yield the rows in batches, each with a label that names its place."""
    batch: list[tuple[str, Row | BadRow]] = []
    number = 0
    async for row in rows:
        number += 1
        batch.append((row.label if isinstance(row, BadRow) else f"row {number}", row))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def names_in(only: Collection[str], layout: Layout, row: Row) -> set[str]:
    """Return those of `only` that name the row's account, or the id of its token."""
    try:
        provider, account = owner_of(layout, row)
    except RowInvalid:
        return set()
    return {account, f"{provider}:{account}"}.intersection(only)


def is_ours(standing: Standing) -> bool:
    """Return whether the token came from this row and isn't in use here yet."""
    return standing.stored is not None and standing.stored.ours and not standing.stored.in_use


def kept(source: ForeignStore, row: Row, candidate: Candidate | None) -> KeptRow:
    """Return `row` for the copy. `candidate`: made of this row, so that it holds the encoded one."""
    cells = source.encode(row.cells) if candidate is None else candidate.origin.row.reveal()
    return KeptRow(name=row.name, file=row.file, cells=cells)
