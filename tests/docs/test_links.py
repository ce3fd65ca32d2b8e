"""Every way from one document to another leads somewhere: files and headings, in Markdown and in deploy's comments."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *DOCS.rglob("*.md")]
)
DEPLOYED = sorted(file for file in (ROOT / "deploy").rglob("*") if file.is_file())

_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_MENTION = re.compile(r"(?<![\w/.])((?:docs|deploy|bench)/[\w./@-]*\w(?:#[\w-]+)?)")


def anchors(page: Path) -> set[str]:
    """What its headings are called in a link, as GitHub makes it."""
    text = _CODE.sub("", page.read_text())
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


def leads_somewhere(target: str, base: Path, page: Path) -> bool:
    name, _, anchor = target.partition("#")
    file = base / name if name else page
    return file.exists() and (not anchor or anchor in anchors(file))


def links(page: Path) -> Iterator[str]:
    for target in _LINK.findall(_CODE.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path):
    """From where the page stands."""
    assert [target for target in links(page) if not leads_somewhere(target, page.parent, page)] == []


@pytest.mark.parametrize("file", DEPLOYED, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_deployed_files_point_to_exists(file: Path):
    """Runbooks and comments name documents from the top of the clone."""
    mentioned = _MENTION.findall(file.read_text())
    assert [target for target in mentioned if not leads_somewhere(target, ROOT, file)] == []


def test_every_document_is_in_the_index():
    """A page that nobody finds is not there. A folder with an index of its own lists its pages there."""
    indexes = [DOCS / "README.md", DOCS / "develop/README.md"]
    listed = {
        (index.parent / target.partition("#")[0]).resolve() for index in indexes for target in links(index)
    }
    assert {*DOCS.rglob("*.md")} - {DOCS / "README.md"} - listed == set()


def test_the_readme_leads_to_the_index_and_to_what_is_deployed():
    """The two doors of a newcomer."""
    assert {"docs/README.md", "docs/install.md", "deploy/"} <= set(links(ROOT / "README.md"))
