"""A mapping whose values are read on first use: most commands need few of the shipped definitions and layouts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TypeVar

Value = TypeVar("Value")


class LazyMapping(Mapping[str, Value]):
    """Its names are known from the start. `read` returns the value of a name."""

    def __init__(self, names: Iterable[str], read: Callable[[str], Value]) -> None:
        self._names = dict.fromkeys(names)
        self._read = cache(read)

    def under(self, top: Mapping[str, Value]) -> Mapping[str, Value]:
        """Return these values together with those of `top`, which take precedence."""
        return LazyMapping([*self, *top], lambda name: top[name] if name in top else self[name])

    def __getitem__(self, name: str) -> Value:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
