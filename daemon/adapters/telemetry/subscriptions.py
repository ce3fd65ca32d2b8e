"""Tables of events: one row for each kind, with what is done for it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

Subscriptions = Mapping[type, Callable[..., None]]

_Event = TypeVar("_Event")
_Result = TypeVar("_Result")


def on(
    kind: type[_Event], do: Callable[[_Event], _Result]
) -> tuple[type[_Event], Callable[[_Event], _Result]]:
    """Return a row of such a table. mypy checks that `do` accepts this kind of event."""
    return kind, do
