"""The tokens that an access key may use, as conditions of a query.

Comparisons are exact: of texts, byte by byte. `$eq` alone would also match a text inside a list.
"""

from collections.abc import Mapping

from pymongo.collation import Collation

from daemon.domain.selection import Ids
from daemon.domain.stored_grant import GONE

SIMPLE = Collation(locale="simple")  # also in a collection whose own collation ignores case
PRESENT: Mapping[str, object] = {"state": {"$nin": sorted(GONE)}}

Condition = dict[str, object]


def named(ids: Ids, field: str = "_id") -> Condition:
    """Return the condition that `field` is one of these ids, which must not be none."""
    conditions: list[Condition] = [{field: {"$in": sorted(ids.exact)}}] if ids.exact else []
    for start, end in ids.ranges:
        bounds = {"$gte": start, "$type": "string"} if end is None else {"$gte": start, "$lt": end}
        conditions.append({field: bounds})
    return conditions[0] if len(conditions) == 1 else {"$or": conditions}


def matching(where: Mapping[str, str]) -> Condition:
    """Return the condition that each field is exactly this text."""
    if not where:
        return {}
    strict = [{"$eq": [f"${name}", {"$literal": text}]} for name, text in where.items()]
    # The type lets MongoDB use the index of subjects, which is partial.
    equal = [{name: {"$eq": text, "$type": "string"}} for name, text in where.items()]
    return {"$and": equal, "$expr": {"$and": strict}}
