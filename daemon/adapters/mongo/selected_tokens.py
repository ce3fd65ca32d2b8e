"""The tokens that an access key may use, as conditions of a query.

Comparisons are exact: of texts, byte by byte. `$eq` alone would also match a text inside a list.
"""

from collections.abc import Mapping, Sequence

from pymongo.collation import Collation

from daemon.domain.access_key import ANY
from daemon.domain.stored_grant import GONE

SIMPLE = Collation(locale="simple")  # also in a collection whose own collation ignores case
_FIRST_SURROGATE, _AFTER_SURROGATES, _LAST = 0xD800, 0xE000, 0x10FFFF
PRESENT: Mapping[str, object] = {"state": {"$nin": sorted(GONE)}}

Condition = dict[str, object]


def named(selectors: Sequence[str], field: str = "_id") -> Condition:
    """Return the condition that a selector names the id in `field`."""
    exact = [one for one in selectors if not one.endswith(ANY)]
    conditions: list[Condition] = [{field: {"$in": exact}}] if exact else []
    conditions += [{field: _range(one.removesuffix(ANY))} for one in selectors if one.endswith(ANY)]
    return conditions[0] if len(conditions) == 1 else {"$or": conditions}


def matching(where: Mapping[str, str]) -> Condition:
    """Return the condition that each field is exactly this text."""
    if not where:
        return {}
    strict = [{"$eq": [f"${name}", {"$literal": text}]} for name, text in where.items()]
    return {"$and": [{name: {"$eq": text}} for name, text in where.items()], "$expr": {"$and": strict}}


def _range(beginning: str) -> Condition:
    """Return the condition for a text that begins so. In UTF-8, the order of bytes is that of characters."""
    after = _after(beginning)
    if after is None:
        return {"$gte": beginning, "$type": "string"}
    return {"$gte": beginning, "$lt": after}


def _after(beginning: str) -> str | None:
    """Return the first text behind all those that begin so, or None if there is none."""
    text = beginning.rstrip(chr(_LAST))
    if not text:
        return None
    following = ord(text[-1]) + 1
    return text[:-1] + chr(_AFTER_SURROGATES if following == _FIRST_SURROGATE else following)
