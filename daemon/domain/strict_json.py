"""JSON from strangers, where two readers must never see two contents: no name twice, no text that is not Unicode."""

import json
import math
from collections.abc import Iterable
from typing import NoReturn


def strict_json(content: bytes) -> object:
    """Return the JSON value in `content`. Raises ValueError, also for a repeated name and an infinite number."""
    try:
        found: object = json.loads(
            content.decode(), object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite
        )
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate is JSON, but no character
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found


def _once(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("a name is given twice")
        found[name] = value
    return found


def _refuse(_name: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return number
