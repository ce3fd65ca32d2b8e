"""The table of a sign: one error, or one confirmation, in a reply."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

from daemon.domain.provider import ErrorPattern
from daemon.domain.sign import LONGEST_TEXT
from daemon.runtime.config.fields import ARRAY, STRICT, Flag, Read, Span, Text, pattern, whole
from daemon.runtime.config.problems import Place
from daemon.runtime.config.providers.pattern_cost import check_cost
from daemon.runtime.config.providers.url_rules import Fault

Status = Annotated[int, Read(whole(100, 599))]


def sign_pattern(value: object) -> re.Pattern[str]:
    """Read the pattern of an error. A pattern that takes long on a provider's possible replies is refused."""
    found = pattern(value)
    check_cost(found.pattern, longest=LONGEST_TEXT)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SignTable:
    __pydantic_config__: ClassVar = STRICT

    field: Text
    values: Annotated[frozenset[Text], ARRAY] = frozenset()
    pattern: Annotated[re.Pattern[str], Read(sign_pattern)] | None = None
    status: Annotated[frozenset[Status], ARRAY] = frozenset()
    wait: Span | None = None
    doubt: Flag = False
    tenant: Flag = False


Signs = Annotated[tuple[SignTable, ...], ARRAY]


def error_pattern(table: SignTable) -> ErrorPattern:
    """Convert `table` into the domain's term."""
    return ErrorPattern(**{field.name: getattr(table, field.name) for field in fields(SignTable)})


def empty_sign_faults(place: Place, signs: tuple[SignTable, ...]) -> Iterator[Fault]:
    """Yield a fault for each sign that matches nothing."""
    for sign in signs:
        if not sign.values and sign.pattern is None:
            do = "Add values, or a pattern for the text of its field."
            yield place, "an entry has neither values nor a pattern", do
