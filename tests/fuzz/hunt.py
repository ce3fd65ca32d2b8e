"""Made-up replies, grants, streams and documents, for as long as wanted: `make fuzz SECONDS=3600 SEED=7`.

Each round takes a seed, and gives every target a hundred cases from it. The seed is printed, and the same seed makes the
same cases. The first case that fails is made as small as possible, saved in tests/fuzz/found/, and ends the run. The
normal tests try every saved case, so commit it together with the fix.
"""

import argparse
import hashlib
import json
import sys
import traceback
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from secrets import randbelow
from time import monotonic
from typing import Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz import documents, grants, journals, replies, streams

FOUND = Path(__file__).parent / "found"


class Target(Protocol):
    """`cases`: what is tried, as plain JSON; `check` raises for a case in which something is wrong."""

    @staticmethod
    def cases() -> SearchStrategy[dict]: ...
    @staticmethod
    def check(case: dict) -> None: ...


TARGETS: dict[str, Target] = {
    "replies": replies,
    "grants": grants,
    "streams": streams,
    "documents": documents,
    "journals": journals,
}
CASES = 100  # of a target in one round


def failing(target: Target, number: int, cases: int = CASES) -> tuple[dict, BaseException] | None:
    """The smallest case of those from the seed `number` that fails, and how; None if all pass."""
    last: list[tuple[dict, BaseException]] = []

    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(target.cases())
    def run(case: dict) -> None:
        try:
            target.check(case)
        except Exception as why:
            last[:] = [(case, why)]
            raise

    try:
        run()
    except Exception as why:  # noqa: BLE001  the case's own failure, or hypothesis' word that it does not fail each time
        return last[0] if last else ({}, why)
    return None


def save(name: str, case: dict, folder: Path = FOUND) -> Path:
    """Keep a failing case as a file that the tests read."""
    text = json.dumps({"target": name, "case": case}, indent=1) + "\n"
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"
    path.write_text(text, encoding="utf-8")
    return path


def hunt(seconds: float, first: int, *, targets: Mapping[str, Target] = TARGETS, folder: Path = FOUND) -> int:
    """Run rounds until the time is over, or a case fails. Returns the exit code."""
    end, tried = monotonic() + seconds, 0
    for number in count(first):
        for name, target in targets.items():
            found = failing(target, number)
            tried += CASES
            if found is not None:
                case, why = found
                traceback.print_exception(why)
                print(f"{name} fails with seed {number}; saved: {save(name, case, folder)}")
                return 1
            if monotonic() >= end:
                print(f"fuzz: {tried} cases, seeds {first} to {number}: nothing found")
                return 0
    raise AssertionError("unreachable")


def main() -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.hunt", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="of the first round; by chance if left out")
    chosen = parser.parse_args()
    first = randbelow(1_000_000) if chosen.seed is None else chosen.seed
    print(f"fuzz: {chosen.seconds:.0f} s from seed {first}", flush=True)
    return hunt(chosen.seconds, first)


if __name__ == "__main__":
    sys.exit(main())
