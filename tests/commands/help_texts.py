"""The help of every command as people see it on 80 columns. `python -m tests.commands.help_texts` writes the files."""

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import typer
from typer.core import TyperGroup

from daemon.commands.app import NAME, app, invoke

FILES = Path(__file__).with_name("help")
WIDTH = 80


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, in the order in which the help lists them; the first are none, for refreshd itself."""
    root = typer.main.get_command(app)
    yield ()
    with typer.Context(root, info_name=NAME) as ctx:
        for name in root.list_commands(ctx):
            yield (name,)
            _, command, _ = root.resolve_command(ctx, [name])
            if isinstance(command, TyperGroup):
                yield from ((name, inner) for inner in command.commands)


def file_of(words: tuple[str, ...]) -> Path:
    return FILES / f"{'-'.join((NAME, *words))}.txt"


def text_of(words: tuple[str, ...]) -> str:
    """What `refreshd WORDS --help` prints."""
    with mock.patch.dict(os.environ, COLUMNS=str(WIDTH)), redirect_stdout(io.StringIO()) as printed:
        assert invoke([*words, "--help"]) == 0
    return printed.getvalue()


def main() -> None:
    for old in FILES.iterdir():
        old.unlink()
    for words in commands():
        file_of(words).write_text(text_of(words))


if __name__ == "__main__":
    main()
