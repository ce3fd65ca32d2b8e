"""The keys of a definition about the form of a request: its method, its parameters and its headers."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from daemon.domain.provider import BodyFormat, Grant, Method, Parameter, VariableKind
from daemon.domain.token_url import LONGEST_VALUE
from daemon.runtime.config.fields import Context, Read, pattern, text
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.providers.pattern_cost import check_cost
from daemon.runtime.config.providers.url_rules import Fault, safe_pattern

OMISSIBLE = ("grant_type",)  # the others carry the token, or are left out by `client_auth`
_FIELD = re.compile(r"[A-Za-z0-9_-]+")
_VISIBLE = r"(?=[!-~]+\Z)"


def header_value(value: object) -> str:
    if not text(value).isprintable() or not text(value).isascii():
        raise InvalidValue(
            "contains characters that are not allowed in a header", "Use visible ASCII characters and spaces."
        )
    return text(value)


def parameter(value: object) -> Parameter:
    """Read a parameter: a text, or for JSON also true, false, a number or a list of texts."""
    if isinstance(value, list) and value:
        return tuple(map(text, value))
    if isinstance(value, bool | int | float) and value == value and abs(value) != float("inf"):  # noqa: PLR0124  NaN
        return value
    if isinstance(value, str):
        return text(value)
    raise InvalidValue(
        "is not a parameter's value", "Write a text, true, false, a number or a list of texts."
    )


Parameters = dict[str, Annotated[Parameter, Read(parameter)]]


def variable_pattern(value: object, info: Context) -> re.Pattern[str]:
    """Read a variable's pattern. One of kind "value" may match any visible ASCII, since it never stands in a URL."""
    if info.data.get("kind") is not VariableKind.VALUE:
        return safe_pattern(value)
    found = pattern(value)
    check_cost(found.pattern, longest=LONGEST_VALUE)
    return pattern(f"{_VISIBLE}(?:{found.pattern})")  # refuses flags for the whole, too


def method_faults(method: Method, grant: Grant, body: BodyFormat, *, repeatable: bool) -> Iterator[Fault]:
    if method is not Method.GET:
        return
    if body is not BodyFormat.QUERY:
        yield ("method",), "is GET, which has no body", 'Use POST, or set body = "query".'
    elif grant is Grant.REFRESH_TOKEN and not repeatable:
        do = "Use POST. If the provider takes GET only and says that a repetition is harmless, set repeatable = true."
        yield ("method",), "is GET, which proxies and clients may repeat", do


def parameter_faults(key: str, params: Mapping[str, Parameter], body: BodyFormat) -> Iterator[Fault]:
    for name, value in params.items():
        if not isinstance(value, str) and body is not BodyFormat.JSON:
            do = 'Write it in quotes, as it is sent, or set body = "json".'
            yield (key, name), "is not a text, and only JSON carries such a value", do
        elif key == "params" and not isinstance(value, str) and "${" in str(value):
            yield (key, name), "has a variable in a list", "Write the value itself."


def omission_faults(omit: Collection[str], params: Mapping[str, Parameter]) -> Iterator[Fault]:
    for name in sorted(omit):
        if name not in OMISSIBLE:
            yield (
                ("omit",),
                f"lists {name[:40]}, which is always sent",
                f"Use one of: {', '.join(OMISSIBLE)}.",
            )
        elif name in params:
            yield ("omit",), f"lists {name}, which params sends", "Remove it from one of the two."


def echo_faults(echo: Collection[str], sent: Collection[str]) -> Iterator[Fault]:
    """Check the reply fields that are sent back. `sent`: the parameters that a refresh has anyway."""
    for name in echo:
        if not _FIELD.fullmatch(name):
            yield (
                ("echo",),
                "lists a path",
                "Name fields at the top of the reply: letters, digits, '-' and '_'.",
            )
        elif name in sent:
            yield ("echo",), f"lists {name}, which is sent anyway", "Remove it from one of the two."
