"""Limits for reading a document: whatever other programs store, a document is neither fetched nor named
whole.

A document whose `_id` can't be a token's is not fetched at all. Nothing here can fail on a strange value.
MongoDB's `$substrCP` fails on a string that is not UTF-8, so a string that is too long is replaced instead of
cut.
"""

from collections.abc import Mapping

from daemon.adapters.mongo.token_document import CLAIMED_FIELDS

LONGEST_ID = 700  # characters: a provider's name, a colon, and an account of 512 bytes
LARGEST_CLAIMED = 64 * 1024  # bytes of all that a claim reads
LONGEST_TEXT = 1200  # bytes: 300 characters
LONGEST_ECHOED = 8192  # bytes: 2,048 characters, the longest reply field that is stored
TOO_LONG = "(too long to read)"

Expression = Mapping[str, object]

# Inside `$nor`, so that MongoDB does not plan with the index of `_id`. A text that is not UTF-8 matches no pattern.
NAMELESS = {"_id": {"$not": {"$regex": rf"(?s)\A.{{1,{LONGEST_ID}}}\z"}}}
NAMED = {"$nor": [NAMELESS]}

_CLAIMED = {name: f"${name}" for name in (*CLAIMED_FIELDS, "access_token", "lease")}

# Most documents are smaller than the limit for a part of them, which is cheaper to check.
READABLE: Expression = {
    "$or": [{"$lte": [{"$bsonSize": whole}, LARGEST_CLAIMED]} for whole in ("$$ROOT", _CLAIMED)]
}
LARGE: Expression = {"$not": [READABLE]}


def short_text(path: str, *, otherwise: object = None) -> Expression:
    """Return the string at `path`, TOO_LONG if it is too long, or `otherwise` if it has another type."""
    short = {"$cond": [{"$lte": [{"$strLenBytes": path}, LONGEST_TEXT]}, path, TOO_LONG]}
    return {"$cond": [{"$eq": [{"$type": path}, "string"]}, short, otherwise]}


def echoed_text(path: str) -> Expression:
    """Return the string at `path`, or null if it is too long to be sent or has another type."""
    short = {"$cond": [{"$lte": [{"$strLenBytes": path}, LONGEST_ECHOED]}, path, None]}
    return {"$cond": [{"$eq": [{"$type": path}, "string"]}, short, None]}


def date_or_null(path: str) -> Expression:
    return {"$cond": [{"$eq": [{"$type": path}, "date"]}, path, None]}


# An `_id` may be anything; MongoDB's `$convert` can't make a text of each.
SHORT_ID: Expression = {
    "$cond": [
        {"$lte": [{"$bsonSize": {"_id": "$_id"}}, LONGEST_TEXT]},
        "$_id",
        {"$concat": ["(a long _id of type ", {"$type": "$_id"}, ")"]},
    ]
}
SHORT_FAILURE: Expression = {
    **{name: short_text(f"$last_failure.{name}", otherwise="") for name in ("kind", "code", "message")},
    **{name: date_or_null(f"$last_failure.{name}") for name in ("at", "not_before")},
}
