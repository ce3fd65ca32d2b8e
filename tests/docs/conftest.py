"""The code that stands in the documents, as files: a block whose first line is a comment with a name is that file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import pages

_NAME = re.compile(r"(?:#|//) ([\w.-]+)\n")

Blocks = Callable[[str, str], list[str]]
WriteFiles = Callable[[str, Path], list[str]]


@pytest.fixture
def blocks() -> Blocks:
    """Gives a document's blocks in one language, in their order."""
    return pages.blocks


@pytest.fixture
def write_files() -> WriteFiles:
    """Writes a document's named blocks into a directory, and tells their names."""

    def write(document: str, directory: Path) -> list[str]:
        names = []
        for _, code in pages.BLOCK.findall(Path(pages.DOCS, document).read_text()):
            if name := _NAME.match(code):
                Path(directory, name[1]).write_text(code)
                names.append(name[1])
        return names

    return write
