"""Refuses an operator's pattern that some text would make backtrack for seconds or endlessly.

A variable's pattern is matched against a value from a database, and an error's pattern against a provider's
reply. Python's engine can't be interrupted, so one such match would stop the whole daemon. Most patterns are
cheap by their form. The others are tried in a separate process, once for each text of a pattern.
"""

import json
import re
import subprocess
import sys
from functools import cache

from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.providers import pattern_trial
from daemon.runtime.config.providers.shipped_tables import shipped_tables

_ESCAPED = re.compile(r"\\.", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_REPEATED = re.compile(r"(?<!\()[*+?{]")
_FEW = 2  # repetitions beside each other cost at most the square of the text's length
_CHOICES = 8  # bars: so many cost at most 2^8 attempts at one place
_LONGEST_PATTERN = 2000  # characters
_WAIT = 60.0  # seconds; the trial limits its own CPU time, but the machine may be busy


def check_cost(pattern: str, *, longest: int) -> None:
    """Raise InvalidValue if `pattern` takes long on a text of at most `longest` characters."""
    if not is_cheap(pattern) and pattern not in _shipped() and not passes_trial(pattern, longest):
        raise InvalidValue(
            "takes too long on some inputs",
            "Don't repeat a group that contains a repetition, like (a+)+, and use at most two repetitions in sequence.",
        )


def is_cheap(pattern: str) -> bool:
    """Return whether the form alone shows that a pattern is cheap: no repeated group, few repetitions, and
    few choices.
    """
    plain = _CLASS.sub("x", _ESCAPED.sub("x", pattern))
    repetitions, choices = len(_REPEATED.findall(plain)), plain.count("|")
    return not _REPEATED_GROUP.search(plain) and repetitions <= _FEW and choices <= _CHOICES


@cache
def _shipped() -> frozenset[str]:
    """Return the patterns of the shipped definitions, which a test has tried."""
    tables = shipped_tables().values()
    variables = (row for table in tables for row in table.get("variables", {}).values())
    signs = (
        row
        for table in tables
        for meaning in ("rejected", "misconfigured", "unavailable")
        for row in table.get(meaning, ())
    )
    return frozenset(row["pattern"] for row in (*variables, *signs) if "pattern" in row)


@cache
def passes_trial(pattern: str, longest: int) -> bool:
    if len(pattern) > _LONGEST_PATTERN:
        return False
    try:
        done = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-I", "-S", pattern_trial.__file__],
            input=json.dumps({"pattern": pattern, "longest": longest}).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_WAIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
