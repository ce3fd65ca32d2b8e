"""Access keys in MongoDB: each is one document of `<collection>_access`, which holds a hash of the secret.

Other programs can write these documents too. So no type is assumed, and an ill-formed document allows nothing. A
missing limit is a fault as well, because "no limit" is written as null or as an empty list.

The keys of one name have generations, and the highest generation is the name's current key. The unique index lets
each generation exist once: of two commands that create or rotate a name at the same moment, one is refused.
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from bson.int64 import Int64
from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError, PyMongoError

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_document import Document, InvalidDocument, as_stored
from daemon.domain.access_key import ID_FORM, NAME_FORM, AccessKey, Verb, is_field, new_key, secret_hash
from daemon.domain.claim import StoreLost
from daemon.domain.provider import Rate
from daemon.domain.secret import Secret

NAME_INDEX = IndexModel(
    [("name", ASCENDING), ("generation", ASCENDING)],
    name="name",
    unique=True,
    partialFilterExpression={"generation": {"$type": "number"}},
)
_HASH = re.compile(r"[0-9a-f]{64}")
_VERBS = frozenset(Verb)
_LONGEST_SHOWN = 100  # characters
_LONGEST_RATE = timedelta(days=36_500)


class NoSuchKey(LookupError):
    """No key has this name."""


class KeyRefused(ValueError):
    """The operation is refused for this name. The text gives the reason and the alternative."""


class Issued(NamedTuple):
    """A new access key: its whole text, which is stored nowhere, and the stored key."""

    text: Secret
    key: AccessKey


@dataclass(frozen=True, slots=True, kw_only=True)
class IllFormed:
    """A document that allows nothing. `name`: the text in its field of this name, if it is a text."""

    id: str
    name: str | None
    why: str


class AccessKeys:
    """The stored access keys. Every method raises StoreLost."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def find(self, key_id: str) -> AccessKey | None:
        """Return the key with this id, whether it is valid or not. Raises InvalidDocument."""
        found = await self._mongo.guarded(self._mongo.access.find_one({"_id": {"$eq": key_id}}))
        return None if found is None else access_key_of(found)

    async def named(self, name: str) -> Sequence[AccessKey | IllFormed]:
        """Return the keys of this name, the current one first."""
        return [_read(document) for document in await self._documents(name)]

    async def all(self) -> AsyncIterator[AccessKey | IllFormed]:
        """Return all keys, sorted by name, the oldest first."""
        cursor = self._mongo.access.find({}).sort(
            [("name", ASCENDING), ("generation", ASCENDING), ("_id", ASCENDING)]
        )
        try:
            async for document in cursor:
                yield _read(document)
        except PyMongoError as error:
            raise self._mongo.lost(error) from None

    async def names(self) -> Sequence[str]:
        """Return the names of all keys, sorted."""
        found = await self._mongo.guarded(self._mongo.access.distinct("name"))
        return sorted(name for name in found if isinstance(name, str))

    async def create(
        self,
        name: str,
        *,
        tokens: Sequence[str],
        can: Sequence[Verb],
        audit: Audit,
        where: Mapping[str, str] | None = None,
        networks: Sequence[IPv4Network | IPv6Network] = (),
        rate: Rate | None = None,
        lifetime: timedelta | None = None,
    ) -> Issued:
        """Store a new key. Raises KeyRefused if the name has a key that is neither revoked nor expired."""
        now = as_stored(self._mongo.clock.now())
        last = _last(await self._documents(name))
        if last is not None and not _is_over(last, now):
            raise KeyRefused(
                f"{name} has a key already. Use `refreshd access rotate {name}` for a new key with the same rights,"
                f" `refreshd access revoke {name}` before you create one with other rights, or another name"
            )
        wanted = AccessKey(
            id="",
            name=name,
            secret_hash="",
            tokens=tuple(tokens),
            can=frozenset(can),
            where=dict(where or {}),
            networks=tuple(networks),
            rate=rate,
            created_at=now,
            expires_at=None if lifetime is None else as_stored(now + lifetime),
        )
        return await self._issue("access_create", wanted, _generation(last) + 1, audit)

    async def rotate(self, name: str, *, overlap: timedelta, audit: Audit) -> tuple[Issued, datetime]:
        """Store a new key with the rights and the lifetime of the name's current one. Returns it, and when the
        earlier ones end.

        Until the earlier keys are ended, they stay valid. So a command that dies in between costs no access, and is
        repeated. Raises NoSuchKey, KeyRefused.
        """
        now = as_stored(self._mongo.clock.now())
        last = _last(await self._documents(name))
        if last is None:
            raise NoSuchKey(name)
        key = _read(last)
        if isinstance(key, IllFormed):
            raise KeyRefused(
                f"{name}: the stored key is ill-formed ({key.why}). Revoke it and create a new one"
            )
        if key.revoked_at is not None:
            raise KeyRefused(f"{name} is revoked. Create a new key with `refreshd access create {name}`")
        if key.disabled_at is not None:
            raise KeyRefused(f"{name} is disabled. Enable it first, with `refreshd access enable {name}`")
        lifetime = key.expires_at and key.created_at and key.expires_at - key.created_at
        wanted = replace(
            key, created_at=now, expires_at=as_stored(now + lifetime) if lifetime else None, last_used_at=None
        )
        generation = _generation(last) + 1
        issued = await self._issue("access_rotate", wanted, generation, audit)
        ends_at = as_stored(now + overlap)
        await self._end_before(name, generation, ends_at)
        if await self._is_revoked(key.id):  # in the meantime, by another command
            await self._revoke({"_id": {"$eq": issued.key.id}})
            raise KeyRefused(f"{name} was revoked during the rotation, and so is the new key")
        return issued, ends_at

    async def revoke(self, name: str, audit: Audit) -> int:
        """Revoke every key of this name, also those that a rotation has left. Returns how many were not revoked
        before. Raises NoSuchKey.
        """
        if not await self._documents(name):
            raise NoSuchKey(name)
        await audit.note("access_revoke", name)
        return await self._revoke({"name": {"$eq": name}})

    async def enable(self, name: str, audit: Audit) -> int:
        """Enable the keys of this name that a restore has disabled. Returns their number. Raises NoSuchKey."""
        if not await self._documents(name):
            raise NoSuchKey(name)
        await audit.note("access_enable", name)
        disabled = {"name": {"$eq": name}, "disabled_at": {"$type": "date"}}
        result = await self._mongo.guarded(
            self._mongo.access.update_many(disabled, {"$set": {"disabled_at": None}})
        )
        return result.modified_count

    # ---------------------------------------------------------------- the parts

    async def _documents(self, name: str) -> Sequence[Document]:
        """Return the documents of this name, the highest generation first. No key has a name of another form."""
        if not NAME_FORM.fullmatch(name):
            return []
        found = await self._mongo.guarded(self._mongo.access.find({"name": {"$eq": name}}).to_list())
        return sorted(found, key=_generation, reverse=True)

    async def _issue(self, action: str, wanted: AccessKey, generation: int, audit: Audit) -> Issued:
        """Store `wanted` with a new id and secret."""
        text, presented = new_key()
        key = replace(wanted, id=presented.id, secret_hash=secret_hash(presented.secret))
        await self._mongo.guarded(self._mongo.access.create_indexes([NAME_INDEX]))
        await audit.note(action, key.name, result=key.id)
        try:
            await self._mongo.access.insert_one(_document(key, generation))
        except DuplicateKeyError:
            self._mongo.seen()
            raise KeyRefused(f"{key.name} got another key at the same moment. Try again") from None
        except PyMongoError as error:
            raise StoreLost(
                f"{self._mongo.lost(error)}. Whether the new key of {key.name} was stored is unknown: if `refreshd"
                f" access list` shows {key.id}, run `refreshd access rotate {key.name}`, because its text is lost"
            ) from None
        self._mongo.seen()
        return Issued(text, key)

    async def _end_before(self, name: str, generation: int, ends_at: datetime) -> None:
        """Let the earlier generations end at `ends_at`, unless they end before."""
        earlier = {"name": {"$eq": name}, "generation": {"$lt": generation}}
        later = {"$or": [{"expires_at": None}, {"expires_at": {"$gt": ends_at}}]}
        await self._mongo.guarded(
            self._mongo.access.update_many({**earlier, **later}, {"$set": {"expires_at": ends_at}})
        )

    async def _is_revoked(self, key_id: str) -> bool:
        found = await self._mongo.guarded(
            self._mongo.access.find_one({"_id": {"$eq": key_id}}, {"revoked_at": 1})
        )
        return found is None or found.get("revoked_at") is not None

    async def _revoke(self, which: dict[str, object]) -> int:
        now = as_stored(self._mongo.clock.now())
        unrevoked = {**which, "revoked_at": {"$not": {"$type": "date"}}}
        result = await self._mongo.guarded(
            self._mongo.access.update_many(unrevoked, {"$set": {"revoked_at": now}})
        )
        return result.modified_count


async def as_restored(mongo: Mongo, archived: Sequence[Document]) -> Sequence[dict[str, object]]:
    """Return the documents of a backup as a restore stores them: disabled, because a key may have been revoked after
    the backup. A key that was created again since, under the same name, stays as it is. Raises StoreLost.
    """
    now = as_stored(mongo.clock.now())
    wanted = [place for one in archived if (place := _place(one))]
    same = [{"name": {"$eq": name}, "generation": {"$eq": generation}} for name, generation in wanted]
    stored = await mongo.guarded(mongo.access.find({"$or": same}).to_list()) if same else []
    taken = {_place(one) for one in stored} - {None}
    return [{**one, "disabled_at": now} for one in archived if _place(one) not in taken]


def _place(document: Document) -> tuple[str, int] | None:
    """Return what the unique index holds of a document; None for one without a generation."""
    name, generation = document.get("name"), _generation(document)
    return (name, generation) if type(name) is str and generation else None


# ---------------------------------------------------------------- the document


def access_key_of(document: Document) -> AccessKey:
    """Return the access key in `document`. Raises InvalidDocument, which names the field and contains no value."""
    return AccessKey(
        id=_text(document, "_id", ID_FORM),
        name=_text(document, "name", NAME_FORM),
        secret_hash=_text(document, "secret_hash", _HASH),
        tokens=tuple(_texts(document, "tokens")),
        can=frozenset(_verbs(document)),
        where=_where(document),
        networks=tuple(_networks(document)),
        rate=_rate(document),
        created_at=_date(document, "created_at"),
        expires_at=_date(document, "expires_at"),
        revoked_at=_date(document, "revoked_at"),
        disabled_at=_date(document, "disabled_at"),
        last_used_at=_date(document, "last_used_at"),
    )


def _document(key: AccessKey, generation: int) -> dict[str, object]:
    return {
        "_id": key.id,
        "name": key.name,
        "generation": generation,
        "secret_hash": key.secret_hash,
        "tokens": list(key.tokens),
        "can": sorted(key.can),
        "where": [{"field": name, "equals": text} for name, text in key.where.items()],
        "from": [str(network) for network in key.networks],
        "rate": key.rate and {"count": key.rate.count, "seconds": key.rate.per.total_seconds()},
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "disabled_at": key.disabled_at,
    }


def _read(document: Document) -> AccessKey | IllFormed:
    try:
        return access_key_of(document)
    except InvalidDocument as why:
        name = document.get("name")
        key_id = str(document.get("_id"))[:_LONGEST_SHOWN]
        return IllFormed(id=key_id, name=name if type(name) is str else None, why=str(why))


def _generation(document: Document | None) -> int:
    """Return the generation, 0 if there is none or it has another type."""
    found = (document or {}).get("generation")
    return int(found) if isinstance(found, int) and type(found) in (int, Int64) else 0


def _last(documents: Sequence[Document]) -> Document | None:
    return documents[0] if documents else None


def _is_over(document: Document, now: datetime) -> bool:
    """Return whether the key is revoked or expired. A disabled one may be enabled again, so it isn't."""
    revoked_at, expires_at = document.get("revoked_at"), document.get("expires_at")
    return isinstance(revoked_at, datetime) or (isinstance(expires_at, datetime) and expires_at <= now)


def _text(document: Document, name: str, form: re.Pattern[str]) -> str:
    value = document.get(name)
    if type(value) is not str or not form.fullmatch(value):
        raise InvalidDocument(f"{name} does not have the right form")
    return value


def _texts(document: Document, name: str, *, least: int = 1) -> Sequence[str]:
    value = document.get(name)
    if type(value) is not list or len(value) < least or not all(type(one) is str and one for one in value):
        raise InvalidDocument(f"{name} is not a list of texts" + (", or is empty" if least else ""))
    return value


def _verbs(document: Document) -> Iterator[Verb]:
    for text in _texts(document, "can"):
        if text not in _VERBS:
            raise InvalidDocument("can holds an unknown verb")
        yield Verb(text)


def _where(document: Document) -> Mapping[str, str]:
    rows, found = document.get("where"), dict[str, str]()
    if type(rows) is not list:
        raise InvalidDocument("where is not a list")
    for row in rows:
        known = isinstance(row, Mapping) and row.keys() == {"field", "equals"}
        field, text = (row["field"], row["equals"]) if known else (None, None)
        if type(field) is not str or type(text) is not str or not is_field(field) or field in found:
            raise InvalidDocument(
                "where has an element other than a field, each only once, and the text that it must equal"
            )
        found[field] = text
    return found


def _networks(document: Document) -> Iterator[IPv4Network | IPv6Network]:
    for text in _texts(document, "from", least=0):
        try:
            yield ip_network(text)
        except ValueError:
            raise InvalidDocument("from holds a text that is not a network") from None


def _rate(document: Document) -> Rate | None:
    stored = _present(document, "rate")
    if stored is None:
        return None
    count, seconds = (
        (stored.get("count"), stored.get("seconds")) if isinstance(stored, Mapping) else (None, None)
    )
    if (
        not isinstance(count, int)
        or type(count) not in (int, Int64)
        or count < 1
        or not isinstance(seconds, int | float)
        or type(seconds) not in (int, Int64, float)
        or not 0.001 <= seconds <= _LONGEST_RATE.total_seconds()  # also refuses NaN
    ):
        raise InvalidDocument("rate is not a positive count and a positive number of seconds")
    return Rate(count=int(count), per=timedelta(seconds=seconds))


def _date(document: Document, name: str) -> datetime | None:
    value = _present(document, name)
    if value is not None and (type(value) is not datetime or value.tzinfo is None):
        raise InvalidDocument(f"{name} is neither a date nor null")
    return value


def _present(document: Document, name: str) -> object:
    """Return the field's value. It must be there, if only as null: a limit that was taken out is no longer a limit."""
    if name not in document:
        raise InvalidDocument(f"{name} is missing")
    return document[name]
