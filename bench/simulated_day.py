"""A day of mixed populations in simulated time: what bad tokens cost the good ones, and what is spent on the bad.

Prints one line for each population, summed over the seeds. Exits with 1 if a good token came late or was lost.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from daemon.runtime.config.providers.definitions import shipped
from tests.providers.samples import VARIABLES
from tests.refreshing.populations import POPULATIONS, of_definition
from tests.refreshing.simulation import Day, Figures, Population


def populations(*, definitions: bool) -> Mapping[str, Population]:
    if not definitions:
        return POPULATIONS
    return {name: of_definition(one, VARIABLES.get(name, {})) for name, one in shipped().items()}


def run(population: Population, seed: int) -> Figures:
    return Day(population, seed=seed).run()


def row(name: str, population: Population, days: list[Figures]) -> str:
    """The sums; requests for bad tokens are the mean of a day."""
    bad = sum(population.bad.values())
    vain = sum((day.vain for day in days), Counter[str]()).total() / max(bad, 1) / len(days)
    pauses = sum((day.pauses for day in days), Counter[str]())
    at_rest = sum(day.at_rest / population.lasts for day in days) / len(days)
    return (
        f"| {name} | {population.good} / {bad} | {sum(day.renewed for day in days)} |"
        f" {sum(len(day.late) for day in days)} | {sum(len(day.lost) for day in days)} |"
        f" {sum(len(day.condemned) for day in days)} | {at_rest:.1%} | {vain:.0f} | {dict(pauses) or '-'} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--definitions", action="store_true", help="every shipped definition instead")
    parser.add_argument("--only", default="", help="populations whose name holds this text")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    print(
        "| population | good / bad | renewed | late | lost | condemned | at rest | asked in vain, each | pauses |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    harmed = False
    with ProcessPoolExecutor(options.processes) as pool:
        for name, population in populations(definitions=options.definitions).items():
            if options.only in name:
                days = list(pool.map(run, [population] * len(seeds), seeds))
                harmed = harmed or any(day.late or day.lost for day in days)
                print(row(name, population, days), flush=True)
    return int(harmed)


if __name__ == "__main__":
    sys.exit(main())
