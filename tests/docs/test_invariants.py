"""What docs/develop/invariants.md names as proof is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(
    set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)", (ROOT / "docs/develop/invariants.md").read_text()))
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_document_names_exists(file, name):
    """Renamed or removed, the document must follow."""
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
