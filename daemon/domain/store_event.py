"""The loss and the return of the store, as events. They stand apart from the others because every command that opens the
store imports them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLost:
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBack:
    pass
