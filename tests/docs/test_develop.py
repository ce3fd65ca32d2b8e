"""CONTRIBUTING.md and docs/develop: the files that they name exist, their commands are real, their examples are our code."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/develop").rglob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text()

_PATH = re.compile(r"`((?:daemon|tests|bench|docs|deploy|supply|requirements)/[\w./-]*\w)`")
_TARGET = re.compile(r"`make ([a-z]+)")
_PYTHON = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_DECISION = re.compile(r"\*\*(Question|Decision|Why|Costs|Alternatives|Revisit)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_every_file_that_a_page_names_exists(page: Path):
    """A moved file takes its mentions along."""
    assert [name for name in _PATH.findall(page.read_text()) if not (ROOT / name).exists()] == []


@pages
def test_every_make_target_that_a_page_names_exists(page: Path):
    """They are the first commands that a newcomer types."""
    assert [name for name in _TARGET.findall(page.read_text()) if f"\n{name}:" not in MAKEFILE] == []


def examples() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        yield from _PYTHON.findall(page.read_text())


def plain(node: ast.AST) -> str:
    """The code of a statement, without docstring, comments and layout."""
    if (
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and ast.get_docstring(node) is not None
    ):
        node.body = node.body[1:]
    return ast.dump(node)


@pytest.mark.parametrize(("name", "code"), list(examples()))
def test_an_example_of_our_style_is_code_of_ours(name: str, code: str):
    """An example that has been improved in the code is to be improved here."""
    ours = {
        plain(node) for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.stmt)
    }
    assert [node for node in ast.parse(code).body if plain(node) not in ours] == []


def test_the_architecture_page_lists_every_import_contract():
    """In the order of `lint-imports`, so that a broken one is found by its number."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    page = (ROOT / "docs/develop/architecture.md").read_text()
    [section] = re.findall(r"^## Who may import whom\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^(\d+)\. ", section, re.MULTILINE) == [str(n + 1) for n in range(len(contracts))]


def test_the_architecture_page_lists_every_file_of_the_domain_once():
    """The room is flat, so the page is the way in."""
    page = (ROOT / "docs/develop/architecture.md").read_text()
    [section] = re.findall(r"^## The rules, by subject\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    rules = [path.stem for path in (ROOT / "daemon/domain").glob("*.py") if path.stem != "__init__"]
    assert sorted(re.findall(r"`([a-z_]+)`", section)) == sorted(rules)


@pytest.mark.parametrize(
    "record", sorted((ROOT / "docs/develop/decisions").glob("*.md")), ids=lambda path: path.stem[:4]
)
def test_a_decision_says_what_a_later_reader_asks(record: Path):
    """What was asked and decided, why, and what it costs; since the fourth also what else was possible and until when."""
    said = set(_DECISION.findall(record.read_text()))
    expected = {"Question", "Decision", "Why", "Costs"}
    assert said >= expected | ({"Alternatives", "Revisit"} if int(record.name[:4]) > 3 else set())
