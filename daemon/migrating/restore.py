"""Restoring a backup: what is missing is added, nothing newer is replaced, and what may be spent rests.

The archive is read twice. The first time shows that it is whole and that the ring opens it; only then is anything
written. A restore that was killed can be run again.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.backup import (
    MAYBE_SPENT,
    Archived,
    ArchivedToken,
    ArchiveInvalid,
    Manifest,
    Skipped,
    Standing,
    Stored,
    Write,
    is_ended,
    may_be_spent,
    rest,
)
from daemon.domain.provider import Definition, Provider
from daemon.migrating.archive_text import Lines, Reader
from daemon.migrating.backup_ports import Archive, Clock, RestoreTarget

AT_ONCE = 500
MOST_BYTES = 8 << 20  # of the documents that are stored together
PROOFS = 3  # texts of a key that must open


class KeysMissing(Exception):
    """The ring can't open the archive. The text is a sentence for operators."""


class LossUnknown(Exception):
    """When the store was lost is not known, or can't be right. The text is a sentence for operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A token of the archive, and why it rests or is left out."""

    id: str
    why: str
    detail: str = ""


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of the archive's tokens. `others`: the documents that were added to other collections."""

    restored: int = 0
    unchanged: int = 0
    newer_kept: int = 0
    paused: list[Named] = field(default_factory=list)
    skipped: list[Named] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """`lost_at`: when the store was lost; None: it was not lost as a whole. `ended`: ids and fingerprints of tokens
    that stay out.
    """

    lost_at: datetime | None
    ended: Collection[str] = frozenset()
    dry_run: bool = False


async def examine(archive: Archive) -> Manifest:
    """Read the whole archive. Raises ArchiveInvalid."""
    reader = Reader(archive.name)
    async with archive.chunks() as chunks:
        async for _ in reader.read(chunks):
            pass
    return _whole(reader)


async def examine_with_keys(archive: Archive, target: RestoreTarget, key_ids: Collection[str]) -> Manifest:
    """Read the whole archive, and try the keys of the ring, `key_ids`. Raises ArchiveInvalid, KeysMissing."""
    reader, proofs = Reader(archive.name), _Proofs()
    async with archive.chunks() as chunks:
        async for part in reader.read(chunks):
            if part.suffix == "":
                proofs.look(part.lines, target)
    manifest = _whole(reader)
    if missing := sorted(set(manifest.key_ids) - set(key_ids)):
        raise KeysMissing(
            f"keys.ring: it lacks {_listed(missing)}, with which texts in {archive.name} are sealed. Put them back, then"
            " restore again"
        )
    if wrong := proofs.wrong():
        raise KeysMissing(
            f"keys.ring: {_listed(wrong)} can't open the texts in {archive.name} that are sealed under this id. Put the"
            " right key back under it, then restore again"
        )
    return manifest


def _whole(reader: Reader) -> Manifest:
    if reader.whole is None:
        raise AssertionError("a reader that raised nothing has read a manifest")
    return reader.whole


def _listed(key_ids: Sequence[str]) -> str:
    return f"key {key_ids[0]!r}" if len(key_ids) == 1 else f"the keys {', '.join(map(repr, key_ids))}"


class _Proofs:
    """Whether the keys of the ring open what they are said to have sealed."""

    def __init__(self) -> None:
        self._tried: dict[str, int] = {}
        self._opened: set[str] = set()

    def look(self, lines: Sequence[bytes], target: RestoreTarget) -> None:
        """Try some texts. A line is parsed only if it names a key that was not tried often enough."""
        for line in lines:
            if self._tried and not self._is_new(line):
                continue
            for key_id, opens in target.opens(line).items():
                self._tried[key_id] = self._tried.get(key_id, 0) + 1
                if opens:
                    self._opened.add(key_id)

    def wrong(self) -> Sequence[str]:
        return sorted(self._tried.keys() - self._opened)

    def _is_new(self, line: bytes) -> bool:
        marks = (f'"v1.{key_id}.'.encode() for key_id, count in self._tried.items() if count >= PROOFS)
        known = sum(line.count(mark) for mark in marks)
        return line.count(b'"v1.') > known


async def check_loss(target: RestoreTarget, manifest: Manifest, wishes: Wishes, *, now: datetime) -> None:
    """Raise LossUnknown if the time of the loss is needed and missing, or is not between the backup and now."""
    if wishes.lost_at is None:
        if manifest.tokens and await target.is_empty():
            raise LossUnknown(
                "--lost-at: the store contains no token, so refreshd can't see which refresh tokens were replaced after"
                " the backup. Give the time at which the store was lost"
            )
        return
    if not manifest.created_at <= wishes.lost_at <= now:
        raise LossUnknown(
            f"--lost-at: {wishes.lost_at:%Y-%m-%dT%H:%M:%SZ} is not between the backup"
            f" ({manifest.created_at:%Y-%m-%dT%H:%M:%SZ}) and now. Give the time at which the store was lost"
        )


async def restore(
    archive: Archive,
    target: RestoreTarget,
    manifest: Manifest,
    wishes: Wishes,
    *,
    providers: Mapping[str, Provider],
    clock: Clock,
) -> Report:
    """Store what the examined archive has and the store lacks. Raises ArchiveInvalid, StoreLost."""
    if not wishes.dry_run:
        await target.prepare()
    work = _Restore(target, manifest, wishes, providers, clock)
    reader = Reader(archive.name)
    async with archive.chunks() as chunks:
        async for part in _batches(reader.read(chunks)):
            await work.take(part.suffix, part.lines)
    if _whole(reader) != manifest:
        raise ArchiveInvalid(f"{archive.name} was changed while it was read. Run the command again")
    return work.report


async def _batches(parts: AsyncIterator[Lines]) -> AsyncIterator[Lines]:
    """Yield the documents in batches of a size that the store takes well, each of one collection."""
    suffix, batch, size = "", list[bytes](), 0
    async for part in parts:
        for line in part.lines:
            full = len(batch) >= AT_ONCE or size + len(line) > MOST_BYTES
            if batch and (full or part.suffix != suffix):
                yield Lines(suffix=suffix, lines=batch)
                batch, size = [], 0
            suffix = part.suffix
            batch.append(line)
            size += len(line)
    if batch:
        yield Lines(suffix=suffix, lines=batch)


class _Restore:
    """One restore under way."""

    def __init__(
        self,
        target: RestoreTarget,
        manifest: Manifest,
        wishes: Wishes,
        providers: Mapping[str, Provider],
        clock: Clock,
    ) -> None:
        self.report = Report()
        self._target = target
        self._manifest = manifest
        self._wishes = wishes
        self._providers = providers
        self._clock = clock

    async def take(self, suffix: str, lines: Sequence[bytes]) -> None:
        if suffix == "":
            await self._tokens(self._target.read(lines))
            return
        added = await self._target.add_missing(suffix, lines, dry_run=self._wishes.dry_run)
        self.report.others[suffix] = self.report.others.get(suffix, 0) + added

    async def _tokens(self, archived: Sequence[Archived]) -> None:
        standing = await self._target.stored(archived)
        tokens = [one.token for one in archived if one.token is not None]
        revoked = await self._target.ended(tokens, since=self._manifest.created_at)
        writes = [
            self._write(one, stored)
            for one, stored in zip(archived, standing, strict=True)
            if self._is_wanted(one, stored, revoked)
        ]
        await self._store(await self._without_duplicates(writes))

    def _is_wanted(self, one: Archived, stored: Stored, revoked: Mapping[str, str]) -> bool:
        """Count what is not to be written."""
        report = self.report
        if one.token is not None and is_ended(one.token, self._wishes.ended):
            report.skipped.append(Named(id=one.id, why=Skipped.ENDED))
            return False
        match stored.standing:
            case Standing.MISSING | Standing.OLDER if one.id in revoked:
                detail = revoked[one.id] if revoked[one.id] != one.id else ""
                report.skipped.append(Named(id=one.id, why=Skipped.ENDED, detail=detail))
            case Standing.MISSING | Standing.OLDER:
                return True
            case Standing.EQUAL:
                report.unchanged += 1
            case Standing.RESTING:
                report.unchanged += 1
                report.paused.append(Named(id=one.id, why=MAYBE_SPENT))
            case Standing.KEPT:
                report.newer_kept += 1
        return False

    def _write(self, one: Archived, stored: Stored) -> Write:
        now = self._clock.now()
        lost_at = self._wishes.lost_at or now
        over = stored.version if stored.standing is Standing.OLDER else None
        rests = one.token is not None and may_be_spent(
            one.token, self._definition(one.token), lost_at=lost_at, now=now
        )
        return Write(
            archived=one, over=over, rest=rest(self._manifest.created_at, now=now) if rests else None
        )

    async def _without_duplicates(self, writes: Sequence[Write]) -> Sequence[Write]:
        """Leave out tokens whose refresh token another document holds: two documents would spend it."""
        tokens = [one.archived.token for one in writes if one.archived.token is not None]
        holders = dict(await self._target.holders(tokens)) if tokens else {}
        chosen = []
        for one in writes:
            token = one.archived.token
            prints = token.fingerprints if token is not None else frozenset()
            holder = next((holders[print_] for print_ in prints if print_ in holders), one.archived.id)
            if holder != one.archived.id:
                self.report.skipped.append(Named(id=one.archived.id, why=Skipped.DUPLICATE, detail=holder))
                continue
            holders.update(dict.fromkeys(prints, one.archived.id))
            chosen.append(one)
        return chosen

    async def _store(self, writes: Sequence[Write]) -> None:
        unwritten = {} if self._wishes.dry_run or not writes else await self._target.write(writes)
        for place, one in enumerate(writes):
            if place not in unwritten:
                self.report.restored += 1
                if one.rest is not None:
                    self.report.paused.append(Named(id=one.archived.id, why=MAYBE_SPENT))
            elif (why := unwritten[place]) is None:
                self.report.newer_kept += 1
            else:
                self.report.skipped.append(Named(id=one.archived.id, why=Skipped.REFUSED, detail=why))

    def _definition(self, token: ArchivedToken) -> Definition | None:
        provider = self._providers.get(token.provider)
        return None if provider is None else provider.definition
