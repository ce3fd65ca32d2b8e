"""Environment variables that are configuration: REFRESHD_SECTION__KEY. The double underscore distinguishes
them from names like REFRESHD_CONFIG, or REFRESHD_KEY that a `{ env = ... }` refers to.

Shells can't export names with `-`, but providers and keys have such names. So `___` stands for `-`
everywhere. In the name of a provider or a key, `_` also stands for `-`, if the name with `-` is known and the
one with `_` isn't.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon.runtime.config.problems import InvalidValue, Place, Problem

PREFIX = "REFRESHD_"
_DASH = "___"

Names = Mapping[Place, Iterable[str]]  # the table -> the names in it that are known


class VariableText(str):
    """The text of an environment variable, which may stand for a number, a boolean or a list."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """The keys that variables set, the origin of each, and contradictions between variables."""

    table: dict[str, Any] = field(default_factory=dict, repr=False)
    origins: dict[Place, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_configuration(variable: str) -> bool:
    return variable.startswith(PREFIX) and len(_written(variable)) > 1


def variable_for(place: Place) -> str:
    """Return the variable that sets the key at `place`. The ring is a table of keys by their ids."""
    place = (*place, "id") if place == ("keys", "ring") else place
    return PREFIX + "__".join(step.upper().replace("-", _DASH) for step in place)


def read_overrides(variables: Mapping[str, str], source: str, names: Names) -> Overrides:
    found = Overrides()
    for variable in sorted(filter(is_configuration, variables)):
        where = f"{source}: {variable}"
        try:
            place = _meant(_written(variable), names)
            _set(found.table, place, variables[variable])
        except InvalidValue as wrong:
            found.problems.append(Problem(where=where, what=wrong.what, do=wrong.do))
        else:
            found.origins[place] = where
    return found


def _written(variable: str) -> Place:
    return tuple(variable.removeprefix(PREFIX).lower().replace(_DASH, "-").split("__"))


def _set(table: dict[str, Any], place: Place, text: str) -> None:
    """Set the key at `place`. Raises InvalidValue if another variable has set the same key, or one above or
    below it.
    """
    for step in place[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            raise InvalidValue("another variable sets a part of it as a value", "Unset one of the two.")
    if place[-1] in table:
        raise InvalidValue("another variable sets the same key", "Unset one of the two.")
    table[place[-1]] = VariableText(text)


def _meant(place: Place, names: Names) -> Place:
    for table, members in names.items():
        if place[: len(table)] == table and len(place) > len(table):
            return (*table, _known_name(place[len(table)], members), *place[len(table) + 1 :])
    return place


def _known_name(written: str, names: Iterable[str]) -> str:
    """Return the member of `names` that `written` stands for, else `written` itself. Raises InvalidValue if
    it could be several.
    """
    names = set(names)
    if written in names:
        return written
    found = {name for name in names if name.lower() == written} or {
        name for name in names if name.lower().replace("-", "_") == written
    }
    if len(found) > 1:
        raise InvalidValue(
            f"could mean any of {', '.join(sorted(found))}",
            f"Write {_DASH} for each '-'. If names differ only in capital letters, set it in the file.",
        )
    return found.pop() if found else written
