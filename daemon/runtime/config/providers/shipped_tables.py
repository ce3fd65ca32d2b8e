"""The shipped definitions as their files contain them."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any


@cache
def shipped_tables() -> Mapping[str, Mapping[str, Any]]:
    """Return each definition's keys by its name."""
    files = (file for file in resources.files("daemon.providers").iterdir() if file.name.endswith(".toml"))
    return MappingProxyType(
        {file.name.removesuffix(".toml"): tomllib.loads(file.read_text("utf-8")) for file in files}
    )
