"""NAME=VALUE on the command line."""

import re
from collections.abc import Sequence

from daemon.commands.support.failure import Exit, Failed

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Return the values by name. Raises Failed."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise Failed(
                f"{option}: the value is not NAME=VALUE. Write a name of letters, digits, '_' and '-'",
                Exit.USAGE,
            )
        if name in found:
            raise Failed(f"{option}: {name} is given twice. Give it once", Exit.USAGE)
        found[name] = value
    return found
