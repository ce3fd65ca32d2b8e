"""What every store of another application's tokens must do, whatever holds them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from daemon.domain.foreign import BadRow, Replacement
from daemon.domain.layout import Layout, Row, SourceKind
from daemon.domain.layout_reading import key_of
from daemon.migrating.ports import ForeignStore

Cells = dict[str, Any]
LAYOUT = Layout(
    name="test",
    title="",
    source=SourceKind.JSON,
    provider_name="acme",
    account=("account",),
    access_token=("access",),
    refresh_token=("refresh",),
)
ODD = {
    "text": "Zoë \u2028 \U0001f600",
    "number": 2**60,
    "fraction": 0.1,
    "nothing": None,
    "flag": True,
    "list": [1, "a", {"b": [None]}],
    "nested": {"deep": {"er": 1}},
    "a.b": "a dot",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A store with two rows in it. `look`: what is there, read past the store."""

    layout: Layout
    store: ForeignStore
    two: list[Cells]
    look: Callable[[], list[Cells]]


async def rows_of(store: ForeignStore) -> list[Row]:
    found = [row async for row in store.rows()]
    assert not [row for row in found if isinstance(row, BadRow)]
    return [row for row in found if isinstance(row, Row)]


class StoreContract:
    """The fixture `kind` is a store of one kind."""

    async def test_rows_come_as_they_stand_and_keep_their_types_through_a_text(self, kind: Kind) -> None:
        layout, store, two = kind.layout, kind.store, kind.two
        rows = await rows_of(store)
        assert [dict(row.cells) for row in rows] == two
        assert [key_of(layout, row) for row in rows] == ["a", "b"]
        for row in rows:
            back = store.decode(store.encode(row.cells))
            assert back == row.cells
            assert [type(value) for value in back.values()] == [type(value) for value in row.cells.values()]

    async def test_a_row_is_changed_and_every_other_value_stays(self, kind: Kind) -> None:
        store, two, look = kind.store, kind.two, kind.look
        row = (await rows_of(store))[0]
        changed = replace(row, cells={**row.cells, "access": "at-new"})
        assert await store.replace([Replacement(key="a", before=row, after=changed)]) == {}
        assert look() == [{**two[0], "access": "at-new"}, two[1]]
        assert (await store.again([row]))["a"].cells["access"] == "at-new"

    async def test_a_row_that_does_not_stand_as_it_was_read_is_left_alone(self, kind: Kind) -> None:
        store, two, look = kind.store, kind.two, kind.look
        first, second = await rows_of(store)
        changed = replace(first, cells={**first.cells, "access": "at-new"})
        stale = replace(first, cells={**first.cells, "refresh": "rt-older"})
        removed = Replacement(
            key="b", before=replace(second, cells={**second.cells, "access": "x"}), after=None
        )
        refused = await store.replace([Replacement(key="a", before=stale, after=changed), removed])
        assert set(refused) == {"a", "b"}
        assert look() == two

    async def test_rows_are_removed_and_come_back(self, kind: Kind) -> None:
        store, two, look = kind.store, kind.two, kind.look
        first, second = await rows_of(store)
        assert await store.replace([Replacement(key="a", before=first, after=None)]) == {}
        assert look() == [two[1]]
        assert await store.again([first, second]) == {"b": second}
        assert await store.replace([Replacement(key="a", before=None, after=first)]) == {}
        assert sorted(look(), key=lambda cells: str(cells["refresh"])) == two

    async def test_a_row_that_is_there_already_is_not_added(self, kind: Kind) -> None:
        store, two, look = kind.store, kind.two, kind.look
        first, _ = await rows_of(store)
        assert list(await store.replace([Replacement(key="a", before=None, after=first)])) == ["a"]
        assert look() == two
