"""The table of a sign: one error, or one confirmation, in a reply."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from daemon.domain.provider import Condition, ErrorPattern, Reach
from daemon.domain.sign import LONGEST_TEXT
from daemon.runtime.config.fields import (
    ARRAY,
    STRICT,
    Flag,
    Read,
    Span,
    Text,
    one_of,
    pattern,
    text,
    whole,
)
from daemon.runtime.config.problems import InvalidValue, Place
from daemon.runtime.config.providers.pattern_cost import check_cost
from daemon.runtime.config.providers.url_rules import Fault

_FIRST_ERROR = 400
_CLIENT_ERROR = "invalid_client"  # RFC 6749 §5.2
_INDEX = re.compile(r"\[(?:\d+|\*)\]")
Status = Annotated[int, Read(whole(100, 599))]


def sign_pattern(value: object) -> re.Pattern[str]:
    """Read the pattern of an error. A pattern that takes long on a provider's possible replies is refused."""
    found = pattern(value)
    check_cost(found.pattern, longest=LONGEST_TEXT)
    return found


def dotted(value: object) -> str:
    """Read the path of a field. JSONPath is refused, since it would lead to no value. A form's name like "error[code]" is read."""
    path = text(value)
    if path.startswith(("$.", "$[")) or _INDEX.search(path) or not all(path.split(".")):
        raise InvalidValue(
            "is not a path", 'Write names or numbers with dots between them, like "errors.0.code".'
        )
    return path


FieldPath = Annotated[str, Read(dotted)]
SignPattern = Annotated[re.Pattern[str], Read(sign_pattern)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionTable:
    __pydantic_config__: ClassVar = STRICT

    field: FieldPath
    values: Annotated[frozenset[Text], ARRAY] = frozenset()
    pattern: SignPattern | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignTable:
    """The keys of a sign. `alone`: the definition's author knows that the status of a dead grant decides without its
    body.
    """

    __pydantic_config__: ClassVar = STRICT

    field: FieldPath = ""
    values: Annotated[frozenset[Text], ARRAY] = frozenset()
    pattern: SignPattern | None = None
    status: Annotated[frozenset[Status], ARRAY] = frozenset()
    alone: Flag = False
    also: ConditionTable | None = None
    wait: Span | None = None
    doubt: Flag = False
    reach: Annotated[Reach, Read(one_of(Reach))] | None = None
    tenant: Flag = False  # the former word for reach = "tenant"


Signs = Annotated[tuple[SignTable, ...], ARRAY]


def condition(table: ConditionTable) -> Condition:
    """Convert `table` into the domain's term."""
    return Condition(field=table.field, values=table.values, pattern=table.pattern)


def error_pattern(table: SignTable) -> ErrorPattern:
    """Convert `table` into the domain's term."""
    return ErrorPattern(
        field=table.field,
        values=table.values,
        pattern=table.pattern,
        status=table.status,
        also=condition(table.also) if table.also is not None else None,
        wait=table.wait,
        doubt=table.doubt,
        reach=Reach.TENANT if table.tenant else table.reach,
    )


def sign_faults(meaning: str, signs: tuple[SignTable, ...]) -> Iterator[Fault]:
    """Yield the faults of the signs with one meaning: `rejected`, `misconfigured` or `unavailable`."""
    yield from empty_sign_faults((meaning,), signs)
    for sign in signs:
        if meaning != "unavailable" and (sign.wait or sign.doubt):
            yield (meaning,), "an entry has wait or doubt", "Use those under unavailable only."
        if meaning != "misconfigured" and (sign.tenant or sign.reach):
            yield (meaning,), "an entry has tenant or reach", "Use those under misconfigured only."
        if sign.tenant and sign.reach:
            yield (meaning,), "an entry has tenant and reach", 'Write reach = "tenant", and remove tenant.'
        if meaning == "rejected" and _is_only_status(sign) and not sign.alone:
            do = (
                "Add the field that names the error. If the provider's replies have none, write alone = true."
            )
            yield (meaning,), "an entry is only a status, which other errors have, too", do
        if meaning == "rejected" and _names_client(sign):
            do = "Remove it. If the provider uses it for dead grants as well, add the table also with the field that shows which of the two it is."
            yield (meaning,), f"an entry has {_CLIENT_ERROR}, so a wrong secret would condemn every token", do
        if sign.alone and (meaning != "rejected" or sign.field):
            do = "Remove it: it is for an entry of rejected that is only a status."
            yield (meaning,), "an entry has alone", do


def _is_only_status(sign: SignTable) -> bool:
    return bool(sign.status) and not (sign.field or sign.values or sign.pattern or sign.also)


def _names_client(sign: SignTable) -> bool:
    """Return whether the standard's error for a wrong client is enough for `sign`."""
    matches = sign.field == "error" and sign.pattern is not None and sign.pattern.search(_CLIENT_ERROR)
    return sign.also is None and (_CLIENT_ERROR in sign.values or bool(matches))


def empty_sign_faults(place: Place, signs: tuple[SignTable, ...]) -> Iterator[Fault]:
    """Yield a fault for each sign that matches nothing, or that a grant could show."""
    for sign in signs:
        if sign.field:
            yield from condition_faults(place, sign)
        elif sign.values or sign.pattern is not None or sign.also is not None:
            yield place, "an entry has no field", "Name the field whose text decides."
        elif not sign.status:
            yield place, "an entry is empty", "Name a field with its values, or a status."
        elif min(sign.status) < _FIRST_ERROR:
            yield (
                place,
                "an entry is only a status that isn't an error",
                "Name the field that shows the error.",
            )
        if sign.also is not None:
            yield from condition_faults(place, sign.also)


def condition_faults(place: Place, table: ConditionTable | SignTable) -> Iterator[Fault]:
    if not table.values and table.pattern is None:
        do = "Add values, or a pattern for the text of its field."
        yield place, "an entry has neither values nor a pattern", do
