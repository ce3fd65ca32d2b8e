"""What every command takes. Nothing is imported here that `--help` would have to wait for."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """May stand before the command or after it; after it wins."""

    config: Path | None = None
    env_file: Path | None = None
    debug: bool = False
    json: bool = False
    reason: str | None = None  # why, for the audit
