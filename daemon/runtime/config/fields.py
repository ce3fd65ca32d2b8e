"""The kinds of value in configuration and definitions, and the check of a table of them by pydantic.

A table is a plain dataclass; `Annotated[type, Read(function)]` names the function that reads a value.

The environment contains text only, so each kind reads its text form too, but only of a `VariableText`: in a file,
a number in quotes is a mistake. Each refusal has its own sentence here, because the library's would quote the input.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from daemon.runtime.config.environment import VariableText
from daemon.runtime.config.problems import Findings, InvalidValue, Place

STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)  # for `__pydantic_config__` of each table

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=36_500)
_LONGEST_HOST = 253  # characters of a name (RFC 1035 section 2.3.4, without the final dot)

# Plugins of pydantic would see secrets, and the search for them reads the metadata of all installed packages.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")

Read = PlainValidator  # of a function that takes the raw value and raises InvalidValue
Context = ValidationInfo  # such a function's second argument, if it has one: holds the `context` of `checked`

Kind = TypeVar("Kind")
Choice = TypeVar("Choice", bound=StrEnum)


def duration(value: object) -> timedelta:
    """Parse a duration like "90s", "5m", "1h", "7d" or "0ms". Raises InvalidValue."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidValue(
            "is not a duration", 'Write a number and its unit (ms, s, m, h, d), like "90s" or "7d".'
        )
    if int(found[1]) * timedelta(**{_UNITS[found[2]]: 1}) > _LONGEST:
        raise InvalidValue("is longer than a hundred years", "Write a shorter one.")
    return int(found[1]) * timedelta(**{_UNITS[found[2]]: 1})


def format_duration(span: timedelta) -> str:
    """Format `span` as in a configuration."""
    return (
        f"{span // timedelta(milliseconds=1)}ms" if span.microseconds else f"{span // timedelta(seconds=1)}s"
    )


def flag(value: object) -> bool:
    if value in (True, False) and isinstance(value, bool):
        return value
    if isinstance(value, VariableText) and value in ("true", "false"):
        return value == "true"
    raise InvalidValue("must be true or false", "Write true or false, without quotes.")


def text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidValue("must be a non-empty string", "Write it in quotes.")
    if "\0" in value:
        raise InvalidValue("contains a NUL character", "Remove it.")
    return str(value)  # a plain one also of a variable


def host(value: object) -> str:
    """Return a name or an address to listen on. Raises InvalidValue."""
    name = text(value)
    if not name.isascii() or not name.isprintable() or " " in name or len(name) > _LONGEST_HOST:
        raise InvalidValue("is not a name or an address", "Write an address of this machine, like 127.0.0.1.")
    return name


def whole(least: int, most: int) -> Callable[[object], int]:
    """Return a reader of whole numbers from `least` to `most`."""

    def read(value: object) -> int:
        number = _number_of(value) if isinstance(value, VariableText) else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            quoted = isinstance(value, str) and not isinstance(value, VariableText)
            do = f"Write a number in this range{', without quotes' if quoted else ''}."
            raise InvalidValue(f"must be a whole number from {least} to {most}", do)
        return number

    return read


def _number_of(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def one_of(kind: type[Choice], *, later: Iterable[str] = ()) -> Callable[[object], Choice]:
    """Return a reader of members of `kind`. The names in `later` are known but not supported yet."""
    names = ", ".join(kind)

    def read(value: object) -> Choice:
        for name in later:
            if value == name:
                raise InvalidValue(f"{name} is not supported yet", f"Use one of: {names}.")
        if not isinstance(value, str) or value not in set(kind):
            raise InvalidValue("is not one of the possible values", f"Use one of: {names}.")
        return kind(value)

    return read


def pattern(value: object) -> re.Pattern[str]:
    try:
        return re.compile(text(value))
    except re.error:
        raise InvalidValue(
            "is not a regular expression", "Write one in single quotes, so that \\ stays \\."
        ) from None


def day(value: object) -> date:
    try:
        return value if type(value) is date else date.fromisoformat(text(value))
    except ValueError:
        raise InvalidValue("is not a date", "Write it like 2026-11-21, without quotes.") from None


def _above_zero(span: timedelta) -> timedelta:
    if not span:
        raise InvalidValue("must be greater than zero", "Write a longer one.")
    return span


def _array(value: object) -> object:
    """Return a list unchanged, or parse one from text: `["a", "b"]` in the environment."""
    if isinstance(value, VariableText):
        try:
            return tomllib.loads(f"list = {value}")["list"]
        except (tomllib.TOMLDecodeError, KeyError):
            return value
    return value


Duration = Annotated[timedelta, Read(duration)]
Span = Annotated[timedelta, Read(duration), AfterValidator(_above_zero)]  # a duration above zero
Flag = Annotated[bool, Read(flag)]
Text = Annotated[str, Read(text)]
Host = Annotated[str, Read(host)]
Day = Annotated[date, Read(day)]
ARRAY = BeforeValidator(_array)


def checked(
    kind: type[Kind], table: object, place: Place, findings: Findings, *, context: object = None
) -> Kind | None:
    """Read `table` as the dataclass `kind`, adding every problem to `findings` under `place`.

    Invalid values are left out and the rest is read again, so that checks across keys still happen: compare
    only values that `findings` does not call broken. Returns None if a required key is missing or invalid.
    """
    adapter: TypeAdapter[Kind] = _adapter(kind)  # type: ignore[arg-type]  # mypy takes no class for hashable
    try:
        return adapter.validate_python(table, context=context)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False)
    paths = [tuple(str(step) for step in error["loc"] if step != "[key]") for error in errors]
    for error, path in zip(errors, paths, strict=True):
        findings.add((*place, *path), *_sentences(error, path, kind))
    try:
        return adapter.validate_python(_without(table, paths), context=context)
    except ValidationError:
        return None


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Return the adapter for `kind`, made only once: that takes as long as reading twenty tables, and each
    definition needs it.
    """
    return TypeAdapter(kind)


def _sentences(error: ErrorDetails, path: Place, kind: type) -> tuple[str, str]:
    """Return the problem and the remedy."""
    match error["type"]:
        case "value_error" if isinstance(refused := error["ctx"]["error"], InvalidValue):
            return refused.what, refused.do
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "unknown key", did_you_mean(path[-1], known_keys(kind) if len(path) == 1 else ())
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return "is required", "Add it."
        case "list_type" | "tuple_type" | "set_type" | "frozen_set_type":
            return "must be a list", 'Write it in brackets: ["one", "two"].'
        case _:
            return "must be a table", "Write it as its own section, or in braces: { key = value }."


def did_you_mean(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f"Did you mean {close[0]}?" if close else "Correct its spelling, or remove it."


def known_keys(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def _without(table: object, paths: Iterable[Place]) -> Any:
    """Copy `table` without `paths`. If a path leads into a list, the whole list is left out."""
    if not isinstance(table, Mapping):
        return table
    inner: dict[str, list[Place]] = {}
    for head, *rest in paths:
        inner.setdefault(head, []).append(tuple(rest))
    return {
        key: _without(value, inner.get(key, []))
        for key, value in table.items()
        if key not in inner or (all(inner[key]) and isinstance(value, Mapping))
    }
