"""What commands do to access keys. Each change is audited before it is made.

The keys of one name have generations, and the highest generation is the name's current key. The unique index lets
each generation exist once: of two commands that create or rotate a name at the same moment, one is refused.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from pymongo import ASCENDING, IndexModel
from pymongo.errors import DuplicateKeyError, PyMongoError

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.serving.access_keys import (
    IllFormed,
    access_key_document,
    generation_of,
    key_or_fault,
)
from daemon.adapters.mongo.serving.uses import OF_KEY
from daemon.adapters.mongo.token_document import Document, as_stored
from daemon.domain.access_key import NAME_FORM, AccessKey, Verb, new_key, secret_hash
from daemon.domain.claim import StoreLost
from daemon.domain.provider import Rate
from daemon.domain.secret import Secret

NAME_INDEX = IndexModel(
    [("name", ASCENDING), ("generation", ASCENDING)],
    name="name",
    unique=True,
    partialFilterExpression={"generation": {"$type": "number"}},
)


class NoSuchKey(LookupError):
    """No key has this name."""


class KeyRefused(ValueError):
    """The operation is refused for this name. The text gives the reason and the alternative."""


class Issued(NamedTuple):
    """A new access key: its whole text, which is stored nowhere, and the stored key."""

    text: Secret
    key: AccessKey


class AccessKeys:
    """The stored access keys. Every method raises StoreLost."""

    def __init__(self, mongo: Mongo, audit: Audit) -> None:
        self._mongo = mongo
        self._audit = audit

    async def all(self) -> AsyncIterator[AccessKey | IllFormed]:
        """Return all keys, sorted by name, the oldest first."""
        uses = await self._last_uses()
        cursor = self._mongo.access.find({}).sort(
            [("name", ASCENDING), ("generation", ASCENDING), ("_id", ASCENDING)]
        )
        try:
            async for document in cursor:
                key = key_or_fault(document)
                if isinstance(key, AccessKey) and key.id in uses:
                    key = replace(key, last_used_at=uses[key.id])
                yield key
        except PyMongoError as error:
            raise self._mongo.lost(error) from None

    async def _last_uses(self) -> Mapping[str, datetime]:
        """Return when each key was last used, by id. The access service stores that beside the keys, which it may not
        change. Empty if this login may not read it.
        """
        try:
            found = await self._mongo.tried(
                self._mongo.access_use.find({"kind": OF_KEY}, {"key": 1, "last_used_at": 1}).to_list()
            )
        except Refusal:
            return {}
        rows = ((row.get("key"), row.get("last_used_at")) for row in found)
        # BSON's code is a str that can't be a key of a dict.
        return {key: at for key, at in rows if type(key) is str and isinstance(at, datetime)}

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
        return await self._issue("access_create", wanted, generation_of(last) + 1)

    async def rotate(self, name: str, *, overlap: timedelta) -> tuple[Issued, datetime]:
        """Store a new key with the rights and the lifetime of the name's current one. Returns it, and when the
        earlier ones end.

        Until the earlier keys are ended, they stay valid. So a command that dies in between costs no access, and is
        repeated. Raises NoSuchKey, KeyRefused.
        """
        now = as_stored(self._mongo.clock.now())
        last = _last(await self._documents(name))
        if last is None:
            raise NoSuchKey(name)
        key = key_or_fault(last)
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
        generation = generation_of(last) + 1
        issued = await self._issue("access_rotate", wanted, generation)
        ends_at = as_stored(now + overlap)
        await self._end_before(name, generation, ends_at)
        if await self._is_revoked(key.id):  # in the meantime, by another command
            await self._revoke({"_id": {"$eq": issued.key.id}})
            raise KeyRefused(f"{name} was revoked during the rotation, and so is the new key")
        return issued, ends_at

    async def revoke(self, name: str) -> int:
        """Revoke every key of this name, also those that a rotation has left. Returns how many were not revoked
        before. Raises NoSuchKey.
        """
        if not await self._documents(name):
            raise NoSuchKey(name)
        await self._audit.note("access_revoke", name)
        return await self._revoke({"name": {"$eq": name}})

    async def enable(self, name: str) -> int:
        """Enable the keys of this name that a restore has disabled. Returns their number. Raises NoSuchKey."""
        if not await self._documents(name):
            raise NoSuchKey(name)
        await self._audit.note("access_enable", name)
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
        return sorted(found, key=generation_of, reverse=True)

    async def _issue(self, action: str, wanted: AccessKey, generation: int) -> Issued:
        """Store `wanted` with a new id and secret."""
        text, presented = new_key()
        key = replace(wanted, id=presented.id, secret_hash=secret_hash(presented.secret))
        await self._mongo.guarded(self._mongo.access.create_indexes([NAME_INDEX]))
        await self._audit.note(action, key.name, result=key.id)
        try:
            await self._mongo.access.insert_one(access_key_document(key, generation))
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
    name, generation = document.get("name"), generation_of(document)
    return (name, generation) if type(name) is str and generation else None


def _last(documents: Sequence[Document]) -> Document | None:
    return documents[0] if documents else None


def _is_over(document: Document, now: datetime) -> bool:
    """Return whether the key is revoked or expired. A disabled one may be enabled again, so it isn't."""
    revoked_at, expires_at = document.get("revoked_at"), document.get("expires_at")
    return isinstance(revoked_at, datetime) or (isinstance(expires_at, datetime) and expires_at <= now)
