"""The shipped definitions as their files contain them."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from daemon.runtime.config.lazy_mapping import LazyMapping


@cache
def shipped_tables() -> LazyMapping[Mapping[str, Any]]:
    """Return each definition's keys by its name."""
    directory = resources.files("daemon.providers")
    files = sorted(file.name for file in directory.iterdir() if file.name.endswith(".toml"))
    return LazyMapping(
        (file.removesuffix(".toml") for file in files),
        lambda name: tomllib.loads((directory / f"{name}.toml").read_text("utf-8")),
    )
