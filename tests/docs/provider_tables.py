"""Rewrites the two tables of docs/providers.md from the definitions; look at the diff before you keep it.

python -m tests.docs.provider_tables
"""

import re
from collections.abc import Callable

from daemon.domain.provider import Definition
from daemon.runtime.config.providers.definitions import shipped
from tests.docs.test_providers import DOCUMENT, ROOT, consent_row, row

_FIRST = re.compile(r"^\| Name \|.*\n\|[-|]+\n", re.MULTILINE)


def rewritten(text: str) -> str:
    """Return `text` with the rows of today's definitions in both tables, which are the first ones with a name."""
    for make, head in zip((row, consent_row), list(_FIRST.finditer(text))[:2], strict=True):
        text = _with_rows(text, head[0], make)
    return text


def _with_rows(text: str, head: str, make: Callable[[Definition], str]) -> str:
    before, after = text.split(head)
    rest = re.sub(r"\A(?:\|.*\n)+", "", after)
    rows = "".join(f"{make(known)}\n" for _, known in sorted(shipped().items()))
    return f"{before}{head}{rows}{rest}"


if __name__ == "__main__":
    page = ROOT / "docs" / DOCUMENT
    page.write_text(rewritten(page.read_text("utf-8")), "utf-8")
