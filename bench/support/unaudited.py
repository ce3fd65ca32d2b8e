"""`refreshd serve` without its audit of reads: a program of the benchmarks alone, for the cost of that audit.

    python -m support.unaudited --config FILE serve

Nothing is counted, so nothing is stored every ten seconds. Everything else is the service as it is.
"""

import sys

from daemon.__main__ import main
from daemon.runtime.access import life as access
from daemon.serving.doorkeeper import Caller
from daemon.serving.usage import Usage


class NoUsage(Usage):
    """Counts nothing."""

    def note(self, caller: Caller, token: str | None, result: str) -> None:
        pass


if __name__ == "__main__":
    access.Usage = NoUsage  # type: ignore[misc]
    sys.exit(main())
