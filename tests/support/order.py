"""The order of the tests on several workers: first those that mostly wait, for a daemon, a lease or an election.

Left to the end, as their directories' names have it, they are waited for by idle workers. Each worker begins with an equal
share of them, and the tests that use a core run beside.
"""

from collections.abc import Sequence
from itertools import groupby, islice
from pathlib import Path

import pytest

WAITING = {"docs", "e2e", "faults"}  # below tests/
_TESTS = Path(__file__).parents[1]


def ordered(items: Sequence[pytest.Item], *, workers: int) -> list[pytest.Item]:
    """Return `items` so that each of `workers` equal parts begins with its share of the waiting ones.

    A module stays together, for the sake of what its tests share. That the parts are equal is the rule of pytest-xdist's
    `worksteal`, which gives each worker one of them.
    """
    modules = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    waiting = [module for module in modules if _waits(module[0])]
    others = iter([item for module in modules if not _waits(module[0]) for item in module])
    found: list[pytest.Item] = []
    for worker in range(workers):
        share = [item for module in waiting[worker::workers] for item in module]
        size = (len(items) - len(found)) // (workers - worker)
        found += share
        found += islice(others, max(0, size - len(share)))
    return [*found, *others]


def _waits(item: pytest.Item) -> bool:
    return item.path.relative_to(_TESTS).parts[0] in WAITING
