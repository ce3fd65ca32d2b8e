"""What a mirror writes to an application's store, and what it leaves alone."""

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.layout import NAME, Layout, Row, SourceKind, Values
from daemon.domain.mirrored import STAND_IN, Shown
from daemon.domain.origin import Origin, StoredToken, Unreadable
from daemon.domain.secret import Secret
from daemon.migrating.mirror import Mirror
from daemon.migrating.write_back import WriteBack
from tests.migrating.memory_place import MemoryPlace

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ENDS = NOW + timedelta(minutes=30)
ENDS_MS = int(ENDS.timestamp() * 1000)
LAYOUT = Layout(
    name="token-files",
    title="",
    source=SourceKind.JSON,
    provider_name="xero",
    account=(NAME,),
    access_token=("accessToken",),
    refresh_token=("refreshToken",),
    expires_at=("expiresAt",),
)


class Digests:
    def digest(self, text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    def matches(self, text: str, digest: str) -> bool:
        return self.digest(text) == digest


class Stored:
    """Fits `migrating.mirror.FollowedTokens`."""

    def __init__(self, *tokens: StoredToken) -> None:
        self.tokens: dict[str, StoredToken | Unreadable] = {token.id: token for token in tokens}

    async def marks(self, providers: Collection[str] | None) -> AsyncIterator[tuple[str, str]]:
        for name, token in self.tokens.items():
            yield (
                name,
                repr(
                    (token.values.access_token.reveal(), token.usable, token.origin)
                    if isinstance(token, StoredToken) and token.values.access_token
                    else token
                ),
            )

    async def of(self, ids: Collection[str]) -> Sequence[StoredToken | Unreadable]:
        return [self.tokens[name] for name in ids if name in self.tokens]

    async def note_written(self, digests: Mapping[str, tuple[str, str]]) -> None:
        for name, (before, after) in digests.items():
            token = self.tokens[name]
            assert isinstance(token, StoredToken)
            assert token.origin is not None
            if token.origin.digest == before:
                self.tokens[name] = replace(token, origin=replace(token.origin, digest=after))


class Remembered:
    """Fits `migrating.mirror.Memory`."""

    def __init__(self) -> None:
        self.digests: Mapping[str, tuple[str, ...]] = {}

    def load(self) -> Mapping[str, tuple[str, ...]]:
        return self.digests

    def store(self, digests: Mapping[str, tuple[str, ...]]) -> None:
        self.digests = dict(digests)


def row(account: str, number: int, **more: object) -> Row:
    cells = {"accessToken": f"at-{number}", "refreshToken": f"rt-{number}", "expiresAt": ENDS_MS - 1, **more}
    return Row(cells=cells, name=account)


def token(account: str, number: int, *, origin: Origin | None = None, usable: bool = True) -> StoredToken:
    values = Values(
        provider="xero",
        account=account,
        access_token=Secret(f"at-{number}"),
        refresh_token=Secret(f"rt-{number}"),
        issued_at=NOW,
        expires_at=ENDS,
    )
    return StoredToken(id=f"xero:{account}", values=values, origin=origin, usable=usable, unsettled=False)


def origin_of(place: MemoryPlace, account: str, *, activated: bool = True) -> Origin:
    cells = place.rows_by_key[account].cells
    rest = {**cells, "accessToken": None, "refreshToken": None}
    return Origin(
        layout=LAYOUT.name,
        source=place.name,
        key=account,
        cells=place.encode(rest),
        digest=Digests().digest(place.encode(cells)),
        activated=activated,
    )


def mirror(
    place: MemoryPlace, stored: Stored, *, show: Shown = Shown.NONE, memory: Remembered | None = None
) -> Mirror:
    write_back = WriteBack(layout=LAYOUT, place=place, cipher=None, digests=Digests(), show=show)
    return Mirror(write_back, tokens=stored, memory=memory, providers=["xero"])


def shown(place: MemoryPlace, account: str) -> tuple[object, object]:
    cells = place.rows_by_key[account].cells
    return cells["accessToken"], cells["refreshToken"]


async def test_a_renewed_token_appears_with_a_stand_in_and_all_other_fields_stay() -> None:
    place = MemoryPlace(LAYOUT, [row("a", 1, apiDomain="x", nested={"k": [1, 2]})])
    stored = Stored(token("a", 2, origin=origin_of(place, "a")))
    done = await mirror(place, stored).catch_up(now=NOW)
    assert done.written == 1
    assert place.rows_by_key["a"].cells == {
        "accessToken": "at-2",
        "refreshToken": STAND_IN,
        "expiresAt": ENDS_MS,
        "apiDomain": "x",
        "nested": {"k": [1, 2]},
    }
    assert (await mirror(place, stored).catch_up(now=NOW)).written == 0


async def test_a_token_that_the_application_still_refreshes_is_never_touched() -> None:
    place = MemoryPlace(LAYOUT, [row("a", 1)])
    stored = Stored(token("a", 2, origin=origin_of(place, "a", activated=False), usable=False))
    await mirror(place, stored).catch_up(now=NOW)
    assert shown(place, "a") == ("at-1", "rt-1")


async def test_a_row_that_another_program_has_changed_is_reported_and_left_alone() -> None:
    place = MemoryPlace(LAYOUT, [row("a", 1)])
    stored = Stored(token("a", 2, origin=origin_of(place, "a")))
    place.rows_by_key["a"] = row("a", 7)
    done = await mirror(place, stored).catch_up(now=NOW)
    assert list(done.refused) == ["xero:a"]
    assert shown(place, "a") == ("at-7", "rt-7")


@pytest.mark.parametrize("end", ["paused", "removed"])
async def test_a_token_that_ended_leaves_the_place_even_after_a_restart(end: str) -> None:
    place = MemoryPlace(LAYOUT)
    stored = Stored(token("a", 1), token("b", 1))
    await mirror(place, stored).catch_up(now=NOW)
    assert set(place.rows_by_key) == {"a", "b"}
    if end == "paused":
        stored.tokens["xero:a"] = token("a", 1, usable=False)
    else:
        del stored.tokens["xero:a"]
    assert (await mirror(place, stored).catch_up(now=NOW)).removed == 1
    assert set(place.rows_by_key) == {"b"}


async def test_a_token_that_can_not_be_decrypted_keeps_its_row() -> None:
    place = MemoryPlace(LAYOUT)
    stored = Stored(token("a", 1))
    following = mirror(place, stored)
    await following.catch_up(now=NOW)
    stored.tokens["xero:a"] = Unreadable(id="xero:a", why="")
    await following.catch_up(now=NOW)
    assert set(place.rows_by_key) == {"a"}


async def test_rows_with_refresh_tokens_are_known_again_after_a_crash_between_write_and_record() -> None:
    place, memory = MemoryPlace(LAYOUT), Remembered()
    stored = Stored(token("a", 1))
    await mirror(place, stored, show=Shown.LIVE, memory=memory).catch_up(now=NOW)
    before = dict(memory.digests)
    stored.tokens["xero:a"] = token("a", 2)

    class Crash(Exception):
        pass

    class Crashing(Remembered):
        def store(self, digests: Mapping[str, tuple[str, ...]]) -> None:
            if len(digests["xero:a"]) == 1:
                raise Crash
            super().store(digests)

    crashing = Crashing()
    crashing.digests = before
    with pytest.raises(Crash):
        await mirror(place, stored, show=Shown.LIVE, memory=crashing).catch_up(now=NOW)
    assert shown(place, "a") == ("at-2", "rt-2")
    stored.tokens["xero:a"] = token("a", 3)
    memory.digests = crashing.digests
    done = await mirror(place, stored, show=Shown.LIVE, memory=memory).catch_up(now=NOW)
    assert (done.written, done.refused) == (1, {})
    assert shown(place, "a") == ("at-3", "rt-3")


async def test_only_what_changed_is_written() -> None:
    place = MemoryPlace(LAYOUT)
    stored = Stored(*(token(f"n{number}", 1) for number in range(3)))
    following = mirror(place, stored)
    assert (await following.catch_up(now=NOW)).written == 3
    stored.tokens["xero:n1"] = token("n1", 2)
    assert (await following.catch_up(now=NOW)).written == 1
    assert (await following.catch_up(now=NOW)).written == 0
