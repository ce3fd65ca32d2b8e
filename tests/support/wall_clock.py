"""The machine's wall clock, for tests that compare it with another real one: of mongod, of APScheduler, of a process.

`tests/ruff.toml` bans every other way to read it and lists the tests that may. All others set their own time
(`clocks.SetClock`, a constant): a test that compares a fixed date with this clock fails one day.
"""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def timestamp() -> float:
    """Seconds since 1970, as ledgers have them."""
    return now().timestamp()
