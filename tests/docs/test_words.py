"""The texts that people read avoid a short list of words: documents, help, log messages, metrics, alerts, the status page,
definitions of providers, and what the code says about itself.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
import typer
import yaml
from prometheus_client.parser import text_string_to_metric_families

from daemon.adapters.telemetry.metrics import Metrics
from daemon.commands.app import app
from daemon.domain.statistics import Statistics
from tests.support import wall_clock

ROOT = Path(__file__).parents[2]
AVOIDED = re.compile(
    r"\b(tells?|told|whoever|(?<!there )is no(?! longer)|at once|all the same|anew|mend(?:s|ed|ing)?|for ever|where (?:it|that|there|nobody))\b",
    re.IGNORECASE,
)

NAME = re.compile(r"`[^`\n]+`")  # of something in the code, in a docstring

# A place in which a word stays: (start of a text's name, the words around it) -> the reason.
ALLOWED: Mapping[tuple[str, str], str] = {}

Text = tuple[str, str]  # its name, and the text itself


def documents() -> Iterator[Text]:
    """Yield the documents that a user reads."""
    names = (
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "config.example.toml",
        "bench/README.md",
    )
    files = (*(ROOT / name for name in names), *sorted((ROOT / "docs").rglob("*.md")))
    for file in files:
        if file.exists():
            yield str(file.relative_to(ROOT)), file.read_text()


def deployment_files() -> Iterator[Text]:
    """Yield the samples and units under deploy/, comments included. The dashboard and the rules' tests come below."""
    for file in sorted((ROOT / "deploy").rglob("*")):
        if file.is_file() and file.suffix != ".json" and not file.name.endswith(".test.yml"):
            yield str(file.relative_to(ROOT)), file.read_text()


def alerts() -> Iterator[Text]:
    """Yield the annotations of each alert, with line breaks folded."""
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", " / ".join(rule["annotations"].values())


def dashboard() -> Iterator[Text]:
    """Yield each title and description of the dashboard."""
    pending: list[object] = [json.loads((ROOT / "deploy" / "grafana" / "refreshd.json").read_text())]
    while pending:
        match pending.pop():
            case dict() as table:
                for key in ("title", "description"):
                    if isinstance(table.get(key), str):
                        yield f"dashboard, {key}", table[key]
                pending.extend(table.values())
            case list() as items:
                pending.extend(items)


def metrics() -> Iterator[Text]:
    """Yield the HELP of every metric that a daemon can expose."""
    made = Metrics(providers=("xero",), version="0")
    made.set_clock_skew(timedelta(0))
    made.set_statistics(Statistics(at=wall_clock.now()))
    for family in text_string_to_metric_families(made.expose("")[0].decode()):
        if family.name.startswith("refreshd_"):
            yield f"HELP {family.name}", family.documentation


def helps() -> Iterator[Text]:
    """Yield the help of each command, argument and option."""
    commands = [("refreshd", typer.main.get_command(app))]
    while commands:
        name, command = commands.pop()
        parts = (command.help, command.short_help, command.epilog)
        options = (getattr(param, "help", None) for param in command.params)
        yield f"help of {name}", "\n".join(filter(None, (*parts, *options)))
        inner = getattr(command, "commands", None) or {}
        commands.extend((f"{name} {each}", one) for each, one in inner.items())


def literals() -> Iterator[Text]:
    """Yield each string in the daemon's code that may reach a person: messages, `do` texts, problems, the status page.

    A string counts if it has a blank in it; docstrings don't.
    """
    for file in sorted((ROOT / "daemon").rglob("*.py")):
        name = str(file.relative_to(ROOT))
        for line, text in strings(ast.parse(file.read_text())):
            yield f"{name}:{line}", text


def explanations() -> Iterator[Text]:
    """Yield the docstrings and the comments of the daemon's code, for those who carry it on."""
    for file in sorted((ROOT / "daemon").rglob("*.py")):
        name, code = str(file.relative_to(ROOT)), file.read_text()
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = NAME.sub("a name", ast.get_docstring(node) or "")
                yield f"{name}: {getattr(node, 'name', 'the file')}", text
        yield f"{name}: comments", "\n".join(comments(code))


def comments(code: str) -> Iterator[str]:
    """Yield the comments in `code`."""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def definitions() -> Iterator[Text]:
    """Yield the definitions of providers, comments included."""
    for file in sorted((ROOT / "daemon" / "providers").glob("*.toml")):
        yield str(file.relative_to(ROOT)), file.read_text()


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each string in `tree`: an f-string is one text, with `{}` for each value."""
    skipped = {id(statement.value) for statement in ast.walk(tree) if isinstance(statement, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value.strip()
            and id(node) not in skipped
        ):
            yield node.lineno, node.value


def found(texts: Iterable[Text], exceptions: Collection[tuple[str, str]] = ALLOWED.keys()) -> list[str]:
    """List the avoided words in `texts`, each with the name of its text and the words around it."""
    return [
        f"{name}: ...{folded[max(match.start() - 40, 0) : match.end() + 40]}..."
        for name, text in texts
        for folded in [re.sub(r"\s+(?:[#/]+\s)?", " ", text)]
        for match in AVOIDED.finditer(folded)
        if not any(name.startswith(start) and covers(folded, around, match) for start, around in exceptions)
    ]


def covers(text: str, around: str, match: re.Match[str]) -> bool:
    """Return whether `match` lies within an occurrence of `around` in `text`."""
    at = text.find(around, max(match.end() - len(around), 0))
    return 0 <= at <= match.start() and at + len(around) >= match.end()


KINDS = {
    "documents": documents,
    "deployment files": deployment_files,
    "alerts": alerts,
    "dashboard": dashboard,
    "metrics": metrics,
    "help": helps,
    "strings in the code": literals,
    "docstrings and comments": explanations,
    "definitions": definitions,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_words_are_avoided(kind: str):
    """Each is a habit that makes a sentence hard to read: name the act, the person and the condition instead."""
    texts = list(KINDS[kind]())
    assert texts
    assert found(texts) == []


def test_each_exception_is_still_needed():
    """An entry whose text is gone is dropped; each has a reason."""
    kinds = KINDS.values() if ALLOWED else ()
    texts = [(name, re.sub(r"\s+", " ", text)) for kind in kinds for name, text in kind()]
    for (start, around), reason in ALLOWED.items():
        assert reason
        assert any(name.startswith(start) and around in text for name, text in texts), (start, around)


def test_the_search_finds_each_word_also_across_a_line_break():
    """The words are found at the end of one line and the start of the next, behind a comment's mark too."""
    for text in (
        "It tells.",
        "told",
        "Whoever",
        "is\nno",
        "at\n# once",
        "ANEW",
        "is mended",
        "for ever",
        "where\n  it",
    ):
        assert found([("a text", text)]), text
    assert found([("a text", "is now; there is no file; is no longer; retold; amend; where its")]) == []


def test_an_exception_covers_its_own_place_only():
    """Not the same word elsewhere in the text, and not the same words in another text."""
    text = "the sandbox tells lies; it tells the time"
    assert len(found([("a.md", text)], [("a", "tells lies")])) == 1
    assert len(found([("b.md", text)], [("a", "tells lies")])) == 2
