"""Try a regular expression on texts that make a bad one backtrack endlessly.

It runs as a program in a separate process, because only the end of its process stops such a match.

    python pattern_trial.py < {"pattern": ..., "longest": 253}       exit code 0: no slow text was found

The part that backtracks may follow other parts that no made-up text matches. So each part of the pattern that is
itself a pattern is tried alone. The texts repeat the characters and words of the pattern.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Iterator

SLOW = 0.25  # seconds of CPU for one match
BUDGET = 0.4  # ... for the whole trial, after which nothing is found
LIMIT = 1  # ... after which the system ends a match that does not end
_PARTS = 200
_ENDINGS = ("", "!", "~", ".", "-", "_", "\n")
_COMMON = ("a", "A", "0", "-", ".", "_", "a-", "a.", "a0", "aA", "a ", " ")


def is_slow(pattern: str, longest: int) -> bool:
    """Return whether some text of at most `longest` characters takes long. May not return."""
    texts = list(_texts(pattern, longest))
    began = time.process_time()
    for part in _parts(pattern):
        for text in texts:
            before = time.process_time()
            part.fullmatch(text)
            part.search(text)
            after = time.process_time()
            if after - before > SLOW:
                return True
            if after - began > BUDGET:
                return False
    return False


def _parts(pattern: str) -> Iterator[re.Pattern[str]]:
    """Yield the pattern, its groups with their repetitions, and the rest after each of its characters."""
    found = dict.fromkeys([pattern, *_groups(pattern)])
    found |= dict.fromkeys(pattern[start:] for start in range(1, len(pattern)))
    for part in list(found)[:_PARTS]:
        try:
            yield re.compile(part)
        except (re.error, RecursionError, OverflowError):
            continue


def _groups(pattern: str) -> Iterator[str]:
    for start in (found.start() for found in re.finditer(r"\(", pattern)):
        depth = 0
        for end in range(start, len(pattern)):
            depth += {"(": 1, ")": -1}.get(pattern[end], 0)
            if not depth:
                repeated = re.compile(r"[*+?]?|\{[0-9,]*\}").match(pattern, end + 1)
                yield pattern[start : repeated.end() if repeated else end + 1]
                break


def _texts(pattern: str, longest: int) -> Iterator[str]:
    words = re.findall(r"[A-Za-z0-9]{2,}", pattern)[:20]
    own = dict.fromkeys(character for character in pattern if character.isprintable())
    pumps = dict.fromkeys([*_COMMON, *words, *list(own)[:30], *(f"a{mark}" for mark in list(own)[:30])])
    for pump in pumps:
        text = (pump * longest)[: longest - 1]
        yield from (text + ending for ending in _ENDINGS)


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    asked = json.load(sys.stdin)
    return int(is_slow(asked["pattern"], asked["longest"]))


if __name__ == "__main__":
    sys.exit(main())
