"""A mapping whose values are read on first use."""

import pytest

from daemon.runtime.config.lazy_mapping import LazyMapping


def test_a_value_is_read_once_and_not_before_it_is_used() -> None:
    read: list[str] = []

    def of(name: str) -> str:
        read.append(name)
        return name.upper()

    values = LazyMapping(["b", "a"], of)
    assert (list(values), len(values), "a" in values, "c" in values) == (["b", "a"], 2, True, False)
    assert read == []
    assert (values["a"], values["a"], read) == ("A", "A", ["a"])
    assert values == {"a": "A", "b": "B"}


def test_an_unknown_name_is_never_read() -> None:
    values = LazyMapping(["a"], lambda name: {"a": 1}[name])
    assert values.get("b") is None
    with pytest.raises(KeyError):
        values["b"]


def test_values_on_top_take_precedence() -> None:
    values = LazyMapping("ab", str.upper).under({"b": "mine", "c": "also mine"})
    assert dict(values) == {"a": "A", "b": "mine", "c": "also mine"}
