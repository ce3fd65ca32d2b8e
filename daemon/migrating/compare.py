"""Compares an application's store with the stored tokens, without changing either: which side has the newer token."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from daemon.domain.expiry import end_of
from daemon.domain.foreign import BadRow
from daemon.domain.layout import Cipher, Layout, Reading, Row, RowInvalid
from daemon.domain.layout_reading import read
from daemon.domain.mirrored import STAND_IN
from daemon.domain.origin import StoredToken, Unreadable
from daemon.domain.secret import Secret
from daemon.migrating.ports import ForeignStore
from daemon.migrating.write_back import Digests

AT_ONCE = 500


class Difference(StrEnum):
    """How a row and the stored token differ."""

    EQUAL = "equal"
    NEWER_HERE = "newer_here"  # refreshd has renewed it since
    NEWER_THERE = "newer_there"  # the application has renewed it since
    DIVERGED = "diverged"  # both have renewed it, or nothing shows which is newer
    ONLY_HERE = "only_here"
    ONLY_THERE = "only_there"


def difference(row: Reading, token: StoredToken, *, row_unchanged: bool | None, now: datetime) -> Difference:
    """Return how `row` differs from `token`.

    `row_unchanged`: whether the row is still as refreshd has read or written it last; None: that is unknown.
    """
    values = token.values
    same_access = _same(values.access_token, row.body.get("access_token"))
    refresh = row.body.get("refresh_token")
    if same_access and (refresh == STAND_IN or _same(values.refresh_token, refresh)):
        return Difference.EQUAL
    if row_unchanged:
        return Difference.NEWER_HERE
    if row_unchanged is False and token.origin is not None and not token.origin.activated:
        return Difference.NEWER_THERE
    end = end_of(row.body.get("expires_at"), asked_at=now)
    if row_unchanged is False or end is None or values.expires_at is None or end == values.expires_at:
        return Difference.DIVERGED
    return Difference.NEWER_THERE if end > values.expires_at else Difference.NEWER_HERE


def _same(secret: Secret | None, text: object) -> bool:
    if secret is None or not isinstance(text, str):
        return secret is None and text is None
    return Secret(text) == secret


class ComparedTokens(Digests, Protocol):
    """The stored tokens. Every method but those of Digests raises StoreLost."""

    def batches(
        self, providers: Collection[str] | None = None
    ) -> AsyncIterator[Sequence[StoredToken | Unreadable]]:
        """Yield all tokens of `providers` that are not gone, some hundred at a time."""

    async def living(self, ids: Collection[str]) -> Sequence[StoredToken | Unreadable]:
        """Return those of `ids` that are stored and not gone."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """The ids of the tokens by difference, and what could not be compared, with the reason."""

    ids: dict[Difference, list[str]] = field(default_factory=lambda: {one: [] for one in Difference})
    refused: dict[str, str] = field(default_factory=dict)


async def compare(
    layout: Layout, place: ForeignStore, cipher: Cipher | None, tokens: ComparedTokens, *, now: datetime
) -> Comparison:
    """Compare every row of `place` with the stored token of its id. Raises SourceLost, StoreLost."""
    found = Comparison()
    providers: set[str] = set()
    seen: set[str] = set()
    rows: dict[str, tuple[Row, Reading]] = {}
    async for row in place.rows():
        if isinstance(row, BadRow):
            found.refused[row.label] = row.why
            continue
        try:
            reading = read(layout, row, cipher, now=now)
        except RowInvalid as why:
            found.refused[row.name or f"row {len(seen) + len(found.refused) + 1}"] = str(why)
            continue
        name = f"{reading.provider}:{reading.account}"
        providers.add(reading.provider)
        seen.add(name)
        rows[name] = (row, reading)
        if len(rows) == AT_ONCE:
            await _compare_some(rows, place, tokens, found, now=now)
            rows = {}
    await _compare_some(rows, place, tokens, found, now=now)
    async for batch in tokens.batches(sorted(providers)):
        found.ids[Difference.ONLY_HERE] += [one.id for one in batch if one.id not in seen]
    return found


async def _compare_some(
    rows: dict[str, tuple[Row, Reading]],
    place: ForeignStore,
    tokens: ComparedTokens,
    found: Comparison,
    *,
    now: datetime,
) -> None:
    stored = {token.id: token for token in await tokens.living(list(rows))}
    for name, (row, reading) in rows.items():
        token = stored.get(name)
        if token is None:
            found.ids[Difference.ONLY_THERE].append(name)
        elif isinstance(token, Unreadable):
            found.refused[name] = token.why
        else:
            origin = token.origin
            unchanged = (
                tokens.matches(place.encode(row.cells), origin.digest)
                if origin is not None and origin.source == place.name
                else None
            )
            found.ids[difference(reading, token, row_unchanged=unchanged, now=now)].append(name)
