"""The order of the tests on several workers: those that mostly wait, for a daemon, a lease or an election, among the others.

By the names of their directories they would follow each other: all workers would wait at the same time, and at the end one
of them alone. Spread over the others, they leave the cores to them.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from pathlib import Path

import pytest

WAITING = {"docs", "e2e", "faults"}  # below tests/
EARLY = 0.8  # of a worker's other tests have begun when its last waiting module is over
_TESTS = Path(__file__).parents[1]
Module = list[pytest.Item]


def ordered(items: Sequence[pytest.Item], *, workers: int) -> list[pytest.Item]:
    """Return `items` so that the waiting ones are spread evenly over each of `workers` equal parts, but for its end.

    A module stays together, for the sake of what its tests share. That the parts are equal is the rule of pytest-xdist's
    `worksteal`, which gives each worker one of them.
    """
    modules = _modules(items)
    waiting = [module for module in modules if _waits(module[0])]
    others = (item for module in modules if not _waits(module[0]) for item in module)
    found: list[pytest.Item] = []
    for worker in range(workers):
        share = waiting[worker::workers]
        size = (len(items) - len(found)) // (workers - worker)
        rest = list(islice(others, max(0, size - sum(map(len, share)))))
        found += _spread(share, over=rest)
    return [*found, *others]


def _spread(share: Sequence[Module], *, over: Sequence[pytest.Item]) -> list[pytest.Item]:
    beside = iter(_modules(over))
    found: list[pytest.Item] = []
    passed = 0
    for number, module in enumerate(share, 1):
        found += module
        while passed < EARLY * len(over) * number / len(share) and (other := next(beside, None)):
            found += other
            passed += len(other)
    return [*found, *(item for module in beside for item in module)]


def _modules(items: Iterable[pytest.Item]) -> list[Module]:
    return [list(module) for _, module in groupby(items, key=lambda item: item.path)]


def _waits(item: pytest.Item) -> bool:
    return item.path.relative_to(_TESTS).parts[0] in WAITING
