"""Seals as an application with a writer key does: by the program in docs/sealing.md, not by the daemon's code."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).parents[2] / "docs" / "sealing.md"
_PROGRAM = re.compile(r"^```python\n# seal_writer\.py\n(.*?)^```$", re.MULTILINE | re.DOTALL)

(_program,) = _PROGRAM.findall(_PAGE.read_text())
_names: dict[str, Any] = {}
exec(compile(_program, str(_PAGE), "exec"), _names)

Writer = Mapping[str, str]  # one line of `refreshd keys writer`
seal: Callable[[Writer, str, str], str] = _names["seal"]  # the line, the token's id, the text
fingerprint: Callable[[Writer, str], str] = _names["fingerprint"]
