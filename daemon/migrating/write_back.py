"""Brings the rows of an application's store up to date with the stored tokens.

An export does this once, a mirror after every renewal. A row is replaced only if it is the one that refreshd has read
or written last: a row that another program has changed since is reported and left alone.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from daemon.domain.foreign import Replacement
from daemon.domain.layout import Cells, Cipher, Layout, Reading, Row, RowInvalid, Values
from daemon.domain.layout_reading import key_of, read
from daemon.domain.layout_writing import placed, write
from daemon.domain.mirrored import STAND_IN, Shown, shown
from daemon.domain.origin import Origin, StoredToken
from daemon.migrating.ports import ForeignStore

CHANGED = "another program has changed it since refreshd read or wrote it"


class Digests(Protocol):
    """Keyed digests of whole rows."""

    def digest(self, text: str) -> str:
        """Return the digest of `text`."""

    def matches(self, text: str, digest: str) -> bool:
        """Return whether `digest` is the one of `text`, under any key of the ring."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The result for each token: the digest of its new row, no change, or the reason of a refusal. `left`: the
    application has refreshed it, and refreshd has not.
    """

    written: dict[str, str] = field(default_factory=dict)
    unchanged: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBack:
    """Writes tokens in `layout` to `place`. `show`: what stands in place of the refresh token."""

    layout: Layout
    place: ForeignStore
    cipher: Cipher | None
    digests: Digests
    show: Shown = Shown.LIVE

    async def bring(
        self,
        tokens: Sequence[StoredToken],
        last: Mapping[str, Collection[str]],
        *,
        gone: Sequence[StoredToken] = (),
        now: datetime,
        before: Callable[[Mapping[str, str]], None] | None = None,
    ) -> Outcome:
        """Bring the rows of `tokens` up to date, and remove those of `gone`. Raises SourceLost.

        `last`: by token id, digests of the row as refreshd may have read or written it last. `before` gets the digests
        of the new rows before they are written.
        """
        outcome = Outcome()
        templates = dict(self._templates([*tokens, *gone], outcome, now=now))
        present = await self.place.again(list(templates.values()))
        changes: dict[str, tuple[StoredToken, Replacement]] = {}
        unwanted = {token.id for token in gone}
        for token in (*tokens, *gone):
            if (template := templates.get(token.id)) is None:
                continue
            key = key_of(self.layout, template)
            current = present.get(key)
            after = (
                None if token.id in unwanted else self._after(token, current or template, current, now=now)
            )
            if current is not None and after is not None and after.cells is current.cells:
                outcome.unchanged[token.id] = self._digest(current.cells)
            elif current is not None and not self._is_ours(current, last.get(token.id, ()), now=now):
                if self._is_newer_there(token):
                    outcome.left.append(token.id)
                else:
                    outcome.refused[token.id] = CHANGED
            elif current is not None or after is not None:
                changes[key] = (token, Replacement(key=key, before=current, after=after))
        if changes:
            await self._replace(changes, outcome, before, now=now)
        return outcome

    def origins(self, tokens: Iterable[StoredToken]) -> dict[str, str]:
        """Return the digests of the rows that `tokens` were imported from, by id, if that was here."""
        return {
            token.id: token.origin.digest
            for token in tokens
            if token.origin is not None and self._is_from_here(token.origin)
        }

    async def stand_ins(self, *, now: datetime) -> Mapping[str, str]:
        """Return the rows that show a stand-in for the refresh token: by token id, their digests. Raises SourceLost."""
        found = {}
        async for row in self.place.rows(new=True):
            if isinstance(row, Row) and (reading := self._reading(row, now=now)) and _is_stand_in(reading):
                found[f"{reading.provider}:{reading.account}"] = self._digest(row.cells)
        return found

    async def _replace(
        self,
        changes: Mapping[str, tuple[StoredToken, Replacement]],
        outcome: Outcome,
        before: Callable[[Mapping[str, str]], None] | None,
        *,
        now: datetime,
    ) -> None:
        written = {
            token.id: self._digest(change.after.cells)
            for token, change in changes.values()
            if change.after is not None
        }
        if before is not None:
            before(written)
        refused = await self.place.replace([change for _, change in changes.values()])
        done = {key: (token, change.after) for key, (token, change) in changes.items() if key not in refused}
        digests = {**written, **await self._shown(done, now=now)}
        for key, (token, change) in changes.items():
            if key in refused:
                outcome.refused[token.id] = refused[key]
            elif change.after is None:
                outcome.removed.append(token.id)
            else:
                outcome.written[token.id] = digests[token.id]

    async def _shown(
        self, done: Mapping[str, tuple[StoredToken, Row | None]], *, now: datetime
    ) -> Mapping[str, str]:
        """Return the digests of the rows just written, as the place shows them. One that another program has already
        given other tokens is left out.
        """
        shown = await self.place.as_written([row for _, row in done.values() if row is not None])
        return {
            token.id: self._digest(row.cells)
            for key, (token, _) in done.items()
            if (row := shown.get(key)) is not None and self._after(token, row, row, now=now) is row
        }

    def _templates(
        self, tokens: Iterable[StoredToken], outcome: Outcome, *, now: datetime
    ) -> Iterator[tuple[str, Row]]:
        """Yield each token's row as it would be without what stands in the place now."""
        for token in tokens:
            origin = token.origin
            try:
                if origin is not None and self._is_from_here(origin):
                    cells = self.place.decode(origin.cells)
                else:
                    cells = write(self.layout, None, self._values(token), self.cipher, now=now)
                row = placed(self.layout, token.values, cells)
                key_of(self.layout, row)
            except (RowInvalid, ValueError) as why:
                outcome.refused[token.id] = str(why)
            else:
                yield token.id, row

    def _is_from_here(self, origin: Origin) -> bool:
        return origin.layout == self.layout.name and origin.source == self.place.name

    def _is_newer_there(self, token: StoredToken) -> bool:
        """Return whether the application alone has refreshed the token since it was imported."""
        origin = token.origin
        return origin is not None and self._is_from_here(origin) and origin.untouched and not origin.activated

    def _after(self, token: StoredToken, basis: Row, current: Row | None, *, now: datetime) -> Row:
        """Return the row with the token's values; `current` itself if it has them."""
        cells = write(self.layout, basis.cells, self._values(token), self.cipher, now=now)
        if current is not None and cells is current.cells:
            return current
        return replace(basis, cells=cells)

    def _values(self, token: StoredToken) -> Values:
        return replace(token.values, refresh_token=shown(self.show, token.values.refresh_token))

    def _is_ours(self, current: Row, last: Collection[str], *, now: datetime) -> bool:
        """Return whether refreshd has read or written `current` last. A stand-in for a refresh token is proof enough."""
        text = self.place.encode(current.cells)
        if any(self.digests.matches(text, digest) for digest in last):
            return True
        reading = self._reading(current, now=now)
        return reading is not None and _is_stand_in(reading)

    def _reading(self, row: Row, *, now: datetime) -> Reading | None:
        try:
            return read(self.layout, row, self.cipher, now=now)
        except RowInvalid:
            return None

    def _digest(self, cells: Cells) -> str:
        return self.digests.digest(self.place.encode(cells))


def _is_stand_in(reading: Reading) -> bool:
    return reading.body.get("refresh_token") == STAND_IN
