"""How a command file declares its commands: `@app.command(cls=Command, epilog="an example")`."""

from collections.abc import Callable
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from daemon.commands.support.options import audited, common
from daemon.commands.support.ranges import with_bounds_in_words


def declared(function: Callable[..., None]) -> list[Any]:
    """Return the options that the parameters of `function` declare. Typer exports no type for them."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return list(typer.main.get_command(app).params)


class Command(TyperCommand):
    """A command that takes the common options. Its epilog is an example."""

    shared: ClassVar[tuple[Callable[..., None], ...]] = (common,)

    def __init__(self, *args: Any, params: list[Any] | None = None, **settings: Any) -> None:
        settings["rich_markup_mode"] = None  # Rich would take "[keys.ring]" for markup
        super().__init__(*args, params=[*(params or ()), *_options(self.shared)], **settings)

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002
        """Return the first paragraph of the help, uncut."""
        return " ".join((self.help or "").partition("\n\n")[0].split())

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the arguments without the Python type that Typer puts behind each name, and bounds in words."""
        found = [(param, param.get_help_record(ctx)) for param in self.get_params(ctx)]
        records = [(param, (one[0], with_bounds_in_words(one[1]))) for param, one in found if one]
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            rows = [record for param, record in records if param.param_type_name == kind]
            if kind == "argument":
                rows = [(name.partition(" <")[0], text) for name, text in rows]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        _write_example(self.epilog, formatter)


class Audited(Command):
    """A command whose actions are recorded in the audit, with the reason for them."""

    shared = (common, audited)


class Group(TyperGroup):
    """A command with commands of its own. Its epilog is an example."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings["rich_markup_mode"] = None
        super().__init__(*args, **settings)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        _write_example(self.epilog, formatter)


def _options(functions: tuple[Callable[..., None], ...]) -> list[Any]:
    return [option for function in functions for option in declared(function)]


def _write_example(example: str | None, formatter: Any) -> None:
    if example:
        with formatter.section("Example"):
            formatter.write_text(f"\b\n{example}")  # the mark keeps its lines as they are
