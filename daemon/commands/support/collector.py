"""Python's garbage collector in the processes that run on: it looks for cycles seldom, since they make few."""

import gc

# A renewal, like a request, makes hundreds of objects that die young and in no cycle: looking for cycles after every 700
# is wasted.
THRESHOLDS = (50_000, 20, 50)


def collect_seldom() -> None:
    gc.collect()
    gc.freeze()  # what is loaded by now stays; the collector need not look at it again
    gc.set_threshold(*THRESHOLDS)
