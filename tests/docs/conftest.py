"""The code that stands in the documents, as files: a block whose first line is a comment with a name is that file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?:#|//) ([\w.-]+)\n")

Blocks = Callable[[str, str], list[str]]
WriteFiles = Callable[[str, Path], list[str]]


@pytest.fixture
def blocks() -> Blocks:
    """Gives a document's blocks in one language, in their order."""

    def found(document: str, language: str) -> list[str]:
        written = _BLOCK.findall(Path(DOCS, document).read_text())
        return [code for its, code in written if its == language]

    return found


@pytest.fixture
def write_files() -> WriteFiles:
    """Writes a document's named blocks into a directory, and tells their names."""

    def write(document: str, directory: Path) -> list[str]:
        names = []
        for _, code in _BLOCK.findall(Path(DOCS, document).read_text()):
            if name := _NAME.match(code):
                Path(directory, name[1]).write_text(code)
                names.append(name[1])
        return names

    return write
