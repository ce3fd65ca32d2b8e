"""The order of the suite on several workers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.order import ordered

TESTS = Path(__file__).parents[1]
ROOMS = ("adapters", "domain", "e2e", "faults", "serving")


def suite(*sizes: int) -> list[Any]:
    """Modules of these sizes, in rooms that take turns."""
    return [
        SimpleNamespace(
            path=TESTS / ROOMS[number % len(ROOMS)] / f"test_{number}.py", name=f"{number}.{test}"
        )
        for number, size in enumerate(sizes)
        for test in range(size)
    ]


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 6))
def test_every_test_runs_once(sizes: list[int], workers: int) -> None:
    items = suite(*sizes)
    assert sorted(item.name for item in ordered(items, workers=workers)) == sorted(
        item.name for item in items
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_each_workers_part_has_its_share_of_what_waits_and_none_at_its_end(workers: int) -> None:
    found = ordered(suite(*[10] * 100), workers=workers)
    size = len(found) // workers
    for worker in range(workers):
        part = found[worker * size : (worker + 1) * size]
        waiting = [number for number, item in enumerate(part) if item.path.parent.name in {"e2e", "faults"}]
        assert len(waiting) == 400 // workers
        assert waiting[0] == 0
        assert 0.6 * size < waiting[-1] < 0.9 * size
