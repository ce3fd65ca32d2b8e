"""docs/layouts.md: its tables are those of the code, and its example is read."""

import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from daemon.domain.cipher_form import read_form
from daemon.domain.layout import Row
from daemon.domain.layout_reading import read
from daemon.runtime.config.layouts import CipherTable, LayoutTable, read_layout, shipped_layouts
from tests.support import wall_clock

DOCUMENT = "layouts.md"
TEXT = (Path(__file__).parents[2] / "docs" / DOCUMENT).read_text()
Blocks = Callable[[str, str], list[str]]


def table(head: str) -> list[str]:
    """The first cell of each row of the table that begins with `head`."""
    (found,) = re.findall(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\n((?:\|.+\n)+)", TEXT, flags=re.MULTILINE)
    return [row.split(" | ")[0].strip("| ") for row in found.splitlines()]


def names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_shipped_layouts_are_listed() -> None:
    assert names(table("layout")) == set(shipped_layouts())


def test_the_tables_of_keys_are_those_of_the_code() -> None:
    assert names(table("key")) == {one.name for one in fields(LayoutTable)}
    assert names(table("key of `cipher`")) == {one.name for one in fields(CipherTable)}


def test_every_form_is_one() -> None:
    forms = names(table("form"))
    assert len(forms) == 4
    for form in forms:
        assert len(read_form(form).names) == 3


def test_the_example_reads_the_row_beside_it(blocks: Blocks) -> None:
    (example,) = [block for block in blocks(DOCUMENT, "toml") if block.startswith("# layouts/")]
    layout = read_layout("credentials", tomllib.loads(example))
    (row,) = blocks(DOCUMENT, "json")
    found = read(layout, Row(cells=json.loads(row)), None, now=wall_clock.now())
    assert (found.provider, found.account) == ("google", "7")
    assert found.body["expires_at"] == 1767225600
