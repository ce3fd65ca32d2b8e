"""The parameters of a query and the fields of a form. An answer to faulty ones names every fault."""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TypeVar
from urllib.parse import parse_qsl

from daemon.runtime.config.fields import duration
from daemon.runtime.config.problems import InvalidValue
from daemon.serving.problems import Invalid

MOST_FIELDS = 100
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

Value = TypeVar("Value")
Default = TypeVar("Default")
Faults = list[tuple[str, str]]


class Query:
    """The parameters of one query, each read by its own rule. `check()` raises Invalid if any of them was faulty.

    `repeated` is the parameter that may be given several times.
    """

    def __init__(self, encoded: str, allowed: Collection[str], *, repeated: str | None = None) -> None:
        """`encoded`: as it stands in the URL. `allowed`: the names of the other parameters."""
        parts = encoded.split("&")
        several = [part for part in parts if repeated is not None and part.partition("=")[0] == repeated]
        others = "&".join(part for part in parts if part not in several)
        self.given, self._faults = _read(others, "query", allowed)
        self.values: list[str] = []
        if len(several) > MOST_FIELDS:
            self._faults.append((f"query {repeated}", "is given too often"))
            return
        for part in several:
            found, faults = _read(part, "query", (str(repeated),))
            self.values += found.values()
            self._faults += faults

    def read(self, name: str, rule: Callable[[str], Value], default: Default) -> Value | Default:
        """Return the value of a parameter by its rule, which raises Invalid. The default: it is missing or faulty."""
        return self.part(lambda: rule(self.given[name]), default) if name in self.given else default

    def part(self, rule: Callable[[], Value], default: Default) -> Value | Default:
        """Return what a rule for another part of the request returns. The default: it has raised Invalid."""
        try:
            return rule()
        except Invalid as invalid:
            self._faults += invalid.faults
            return default

    def check(self) -> None:
        """Raise Invalid with every fault, if there is one."""
        if self._faults:
            raise Invalid(*self._faults)


def pairs(encoded: str, where: str, allowed: Collection[str] | None = None) -> dict[str, str]:
    """Return the names and values in a query or a form. Raises Invalid with every fault."""
    found, faults = _read(encoded, where, allowed)
    if faults:
        raise Invalid(*faults)
    return found


def _read(encoded: str, where: str, allowed: Collection[str] | None) -> tuple[dict[str, str], Faults]:
    """Return the parameters without a fault, and the faults. Names that are not allowed are faults; None allows all."""
    if _ESCAPE.search(encoded):
        return {}, [(where, "contains a malformed percent escape")]
    try:
        given = parse_qsl(
            encoded, keep_blank_values=True, strict_parsing=False, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        return {}, [(where, "is not valid UTF-8, or has too many fields")]
    faults: Faults = []
    found: dict[str, str] = {}
    faulty: set[str] = set()
    for name, value in given:
        if name in faulty:
            continue
        if (fault := _fault(name, value, where, found, allowed)) is None:
            found[name] = value
        else:
            faults.append(fault)
            faulty.add(name)
    return {name: value for name, value in found.items() if name not in faulty}, faults


def _fault(
    name: str, value: str, where: str, found: Mapping[str, str], allowed: Collection[str] | None
) -> tuple[str, str] | None:
    """Return what is wrong with one parameter beside those that were `found` before it."""
    shown = name if name.isidentifier() and len(name) <= 64 else "a parameter"
    if allowed is not None and name not in allowed:
        return where, f"has an unknown parameter: {shown}"
    if name in found:
        return f"{where} {shown}", "is given twice"
    if "\x00" in value:
        return f"{where} {shown}", "contains a NUL"
    return None


def span(name: str) -> Callable[[str], timedelta]:
    """Return the rule of the parameter `name` that is a duration like "5m"."""

    def read(text: str) -> timedelta:
        try:
            return duration(text)
        except InvalidValue:
            raise Invalid((f"query {name}", 'is not a duration like "90s" or "5m"')) from None

    return read
