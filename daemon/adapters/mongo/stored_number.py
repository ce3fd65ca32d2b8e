"""Numbers in documents, as Python and as MongoDB read them. Other programs write them too, some every number as floating
point. They may store any number: one below zero, or one so large that one more is not a whole number any more.

Every decision on a stored number goes through this module, so that both sides read the same and no number lifts a limit.
A test compares both sides for every kind of value.
"""

from collections.abc import Mapping

MOST_COUNTED = 2**31 - 1  # one more fits every field
LARGEST_EXACT = (
    2**53 - 1
)  # that each JSON parser keeps, and to which MongoDB adds exactly (RFC 7493 section 2.2)
LAST_REVISION = LARGEST_EXACT

Expression = Mapping[str, object]


def whole(value: object) -> int | None:
    """Return a whole number, or None for anything else: a part of a number, infinity, true and false."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) else None


def count(value: object) -> int:
    """Return a stored count, from 0 to MOST_COUNTED: the nearest one to a whole number, and 0 for anything else."""
    return min(max(whole(value) or 0, 0), MOST_COUNTED)


def revision_after(value: object) -> int:
    """Return the revision that follows a stored one: one more, or 1 if there is no number that one more can be added to."""
    found = whole(value)
    return found + 1 if is_revision(found) and found is not None else 1


def is_revision(value: int | None) -> bool:
    """Return whether a revision can follow this one."""
    return value is not None and 0 <= value < LAST_REVISION


def counted(path: str) -> Expression:
    """Return the expression of what `count` reads at `path`."""
    bounded = {"$min": [{"$max": [path, 0]}, MOST_COUNTED]}
    return {"$cond": [is_whole(path), {"$toInt": bounded}, 0]}


def next_revision(path: str = "$revision") -> Expression:
    """Return the expression of what `revision_after` returns for the number at `path`."""
    usable = {"$and": [{"$gte": [path, 0]}, {"$lt": [path, LAST_REVISION]}]}
    following = {"$add": [{"$toLong": path}, 1]}
    return {"$cond": [is_whole(path), {"$cond": [usable, following, 1]}, 1]}


def is_whole(path: str) -> Expression:
    """Return the expression of whether `whole` reads a number at `path`. MongoDB evaluates the inner ones only for numbers,
    since they fail on others.
    """
    fraction = {"$cond": [{"$eq": [path, {"$trunc": path}]}, _is_finite(path), False]}
    return {
        "$switch": {
            "branches": [
                {"case": {"$in": [{"$type": path}, ["int", "long"]]}, "then": True},
                {"case": {"$eq": [{"$type": path}, "double"]}, "then": fraction},
            ],
            "default": False,
        }
    }


def _is_finite(path: str) -> Expression:
    return {"$and": [{"$gt": [path, float("-inf")]}, {"$lt": [path, float("inf")]}]}
