"""The proof that the keys of the ring are those that the store was sealed with.

AES-GCM opens nothing with another key, so a few stored texts prove a key. For each key id the store also
keeps one text of its own, the check value. It proves a key before any token is stored, and makes the proof
cheap.
"""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo, Refusal

CHECK_FIELD = "access_token"  # so that a reader key opens it too
WRITER_FIELD = "refresh_token"
ENOUGH = 3  # stored texts that open prove a key well enough to make its check value
LOOKED_AT = 10  # stored texts of each field, of which some may be damaged
_LONGEST = 20_000  # characters of a sealed text

NOT_THE_KEY = "is not the key that this store was sealed with"


class CheckValue(StrEnum):
    """The result of opening the check value of one key."""

    OPENS = "opens"
    FAILS = "fails"
    NONE = "none"
    UNREADABLE = "unreadable"  # the stored text is not a check value
    UNKNOWN = "unknown"  # this login may not read it


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The evidence in the store about one key. `opened` and `failed` are the ids of documents with its stored
    texts.
    """

    key_id: str
    check_value: CheckValue
    opened: Sequence[str] = ()
    failed: Sequence[str] = ()
    complete: bool = True  # there was time for the whole look

    @property
    def wrong(self) -> bool:
        """Return whether the store was sealed with another key of this id."""
        if self.check_value in (CheckValue.OPENS, CheckValue.FAILS):
            return self.check_value is CheckValue.FAILS
        return bool(self.failed) and not self.opened

    @property
    def earns_check_value(self) -> bool:
        """Return whether to store a check value: there is none, and either nothing is sealed with this key,
        or enough of it opens.
        """
        enough = min(ENOUGH, len(self.opened) + len(self.failed))
        return self.check_value is CheckValue.NONE and self.complete and len(self.opened) >= enough


async def prove(
    mongo: Mongo,
    ring: KeyRing,
    key_ids: Collection[str],
    *,
    within: timedelta,
    thorough: bool = False,
    passing_by: Collection[str] = (),
) -> list[Proof]:
    """Try these keys of the ring on the store. Raises StoreLost.

    Stored texts are opened if there is no check value, or if `thorough`, but not those of the keys in
    `passing_by`. The search for them takes at most `within`.
    """
    rows = await _rows(mongo, key_ids)
    proofs = []
    for key_id in key_ids:
        found = _check_value(rows, ring, key_id)
        conclusive = found in (CheckValue.OPENS, CheckValue.FAILS)
        if key_id in passing_by or (conclusive and not thorough):
            proofs.append(Proof(key_id=key_id, check_value=found, complete=conclusive))
        else:
            proofs.append(await _proof(mongo, ring.only(key_id), found, within))
    return proofs


async def keep_check_value(mongo: Mongo, ring: KeyRing, key_id: str) -> bool:
    """Store the check value of a key that has none. Raises StoreLost, Refusal.

    Returns False if another process has just done so, perhaps with another key.
    """
    try:
        await mongo.tried(mongo.keys.insert_one(_row(mongo, ring, key_id)))
    except DuplicateKeyError:
        return False
    return True


async def renew_check_value(mongo: Mongo, ring: KeyRing, key_id: str, audit: Audit) -> None:
    """Replace the check value with one that this key opens. Audited first. Raises StoreLost."""
    await audit.note("renew_check_value", key_id)
    row = _row(mongo, ring, key_id)
    await mongo.guarded(mongo.keys.replace_one({"_id": key_id}, row, upsert=True))


def openable(ring: KeyRing, field: str) -> dict[str, object]:
    """Return the condition that `field` is not sealed with a distrusted key of the ring."""
    if not ring.distrusted:
        return {}
    ids = "|".join(map(re.escape, sorted(ring.distrusted)))
    return {field: {"$not": {"$regex": rf"^[vw]1\.({ids})\."}}}


def _row(mongo: Mongo, ring: KeyRing, key_id: str) -> dict[str, object]:
    place = place_of_check_value(key_id)
    return {
        "_id": key_id,
        "check_v1": ring.only(key_id).seal(place, token_id=place, field=CHECK_FIELD),
        "writer_public_key": b64encode(ring.writer_seal(WRITER_FIELD, key_id).public_key).decode(),
        "created_at": mongo.clock.now(),
    }


def place_of_check_value(key_id: str) -> str:
    """Return the id under which a check value is sealed."""
    return f"refreshd:{key_id}"


async def _rows(mongo: Mongo, key_ids: Collection[str]) -> Mapping[str, object] | None:
    """Return the stored check values by key id, or None if this login may not read them."""
    try:
        found = await mongo.tried(mongo.keys.find({"_id": {"$in": list(key_ids)}}, {"check_v1": 1}).to_list())
    except Refusal:
        return None
    return {str(row["_id"]): row.get("check_v1") for row in found}


def _check_value(rows: Mapping[str, object] | None, ring: KeyRing, key_id: str) -> CheckValue:
    if rows is None:
        return CheckValue.UNKNOWN
    if key_id not in rows:
        return CheckValue.NONE
    sealed = rows[key_id]
    if not isinstance(sealed, str) or not re.fullmatch(_pattern(key_id), sealed):
        return CheckValue.UNREADABLE
    return (
        CheckValue.OPENS
        if _opens(ring.only(key_id), sealed, place_of_check_value(key_id), CHECK_FIELD)
        else CheckValue.FAILS
    )


async def _proof(mongo: Mongo, key: KeyRing, check_value: CheckValue, within: timedelta) -> Proof:
    opened: list[str] = []
    failed: list[str] = []
    try:
        with pymongo.timeout(within.total_seconds()):
            for field in ("refresh_token", "access_token"):
                for name, sealed in await _stored(mongo, key.active, field):
                    (opened if _opens(key, sealed, name, field) else failed).append(name)
        complete = True
    except PyMongoError as error:
        if not error.timeout:
            raise mongo.lost(error) from None
        complete = False
    return Proof(key_id=key.active, check_value=check_value, opened=opened, failed=failed, complete=complete)


async def _stored(mongo: Mongo, key_id: str, field: str) -> list[tuple[str, str]]:
    """Return some texts that name this key in `field`, with the ids of their documents. Raises
    PyMongoError.
    """
    query = {field: {"$regex": f"^{_pattern(key_id)}$"}, "_id": {"$type": "string"}}
    found = await mongo.tokens.find(query, {field: 1}).limit(LOOKED_AT).to_list()
    form = re.compile(_pattern(key_id))  # MongoDB also finds such a text in an array, and before a line's end
    return [
        (str(row["_id"]), sealed)
        for row in found
        if isinstance(sealed := row[field], str) and form.fullmatch(sealed)
    ]


def _pattern(key_id: str) -> str:
    """Return the pattern of a sealed text of this key, of a permitted size."""
    return rf"v1\.{re.escape(key_id)}\.[A-Za-z0-9_-]{{38,{_LONGEST}}}"


def _opens(key: KeyRing, sealed: str, name: str, field: str) -> bool:
    try:
        key.open(sealed, token_id=name, field=field)
    except DecryptionError:
        return False
    return True
