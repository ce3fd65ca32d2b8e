"""What is known of a stored value while the store may be away."""

from typing import Generic, NamedTuple, TypeVar

Value_co = TypeVar("Value_co", covariant=True)


class Known(NamedTuple, Generic[Value_co]):
    """What is stored under an id, or None. `away`: the store does not answer, and this is what was last known."""

    value: Value_co | None
    away: bool = False
