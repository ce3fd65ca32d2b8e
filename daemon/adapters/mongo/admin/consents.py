"""A new consent on its way into the store: inserted, or laid over what is there under its id.

The newest consent always wins, over a late result of the daemon's too; what must not happen is that one replaces a
refresh token by nothing, or that one refresh token is stored twice and spent by two.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from bson import ObjectId
from pymongo.errors import DuplicateKeyError, PyMongoError

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_document import Document
from daemon.domain.claim import StoreLost
from daemon.domain.token import State, Token

SWAPS = 5  # how often a write is swapped onto a document that keeps changing under it

Fields = dict[str, object]


class Refused(ValueError):
    """What was asked is not done to this token. The text says why, and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of a new consent. `replaced`: the id was there, and what it held is gone."""

    id: str
    replaced: bool
    revision: int


class Consents:
    """Adds tokens. Every write is compared and swapped on what was read; a lease is never touched."""

    def __init__(self, mongo: Mongo, keyring: KeyRing, audit: Audit) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._audit = audit

    async def add(
        self,
        token: Token,
        *,
        extra: Mapping[str, object] | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> Added:
        """Store `token`, or let it replace what is stored under its id: active again, whatever it was.

        Raises Refused when another document holds its refresh token, or when it has none and the stored one has:
        that one would be lost.
        """
        await self._refuse_second_copy(token)
        audit_id = ObjectId()
        for _ in range(SWAPS):
            stored = await self._find(token.id, "refresh_token", "revision", "vars", "extra", "meta")
            if stored and token.refresh_token is None and stored.get("refresh_token") is not None:
                raise Refused(
                    f"{token.id} holds a refresh token and this response has none, so it was not changed: let the"
                    " owner consent again with offline access, or remove the token first"
                )
            revision = next_revision(stored)
            note = partial(self._audit.note, "add", token.id, revision, audit_id=audit_id)
            await note()
            fields = self._consent_fields(token) | {"revision": revision}
            more = {"vars": token.vars, "extra": extra or {}, "meta": meta or {}}
            try:
                done = await self._write(token, stored, fields, more)
            except PyMongoError as error:
                await self._settle(token.id, fields, error, barrier=note)
                done = True
            if done:
                return Added(id=token.id, replaced=stored is not None, revision=revision)
        raise keeps_changing(token.id)

    def _consent_fields(self, token: Token) -> Fields:
        """What a consent sets, on a new document and on one that is there."""
        sealed = {
            field: None
            if secret is None
            else self._keyring.seal(secret.reveal(), token_id=token.id, field=field)
            for field, secret in (
                ("access_token", token.access_token),
                ("refresh_token", token.refresh_token),
            )
        }
        held = token.refresh_token
        return {
            **sealed,
            "state": State.ACTIVE.value,
            "token_type": token.token_type,
            "scope": token.scope,
            "issued_at": token.issued_at,
            "expires_at": token.expires_at,
            "refresh_expires_at": token.refresh_expires_at,
            "consent_ends_at": token.consent_ends_at,
            "due_at": token.due_at,
            "grant_fingerprint": None if held is None else self._keyring.fingerprint(held.reveal()),
            "failures": 0,
            "last_failure": None,
            "updated_at": self._mongo.clock.now(),
        }

    async def _write(
        self, token: Token, stored: Document | None, fields: Fields, more: Mapping[str, Mapping[str, object]]
    ) -> bool:
        """False: somebody was faster. Raises PyMongoError."""
        if stored is not None:
            unchanged = same(stored, "refresh_token", "revision")
            update = {"$set": fields | _laid_over(stored, more)}
            return (await self._mongo.tokens.update_one(unchanged, update)).matched_count == 1
        document = {
            "_id": token.id,
            "provider": token.provider,
            "account": token.account,
            "grant": token.grant,
            "lease": None,
            "doubt": None,
            "created_at": fields["updated_at"],
            "refreshed_at": None,
            "last_used_at": None,
            **fields,
            **more,
        }
        try:
            await self._mongo.tokens.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def _settle(
        self, name: str, fields: Fields, error: PyMongoError, *, barrier: Callable[[], Awaitable[None]]
    ) -> None:
        """After an ambiguous write: return if it is stored. A majority that has the `barrier`, a later write, has all
        that came before. Adding once more, later, would put a spent refresh token back, so it must be known.
        """
        lost = self._mongo.lost(error)
        mine = {field: fields[field] for field in ("access_token", "refresh_token")}
        try:
            await barrier()
            if await self._mongo.guarded(self._mongo.tokens.find_one({"_id": name, **mine}, {"_id": 1})):
                return
        except StoreLost:
            pass
        raise StoreLost(
            f"{lost}. Whether {name} was stored is unknown: run `refreshd show` before you add it again"
        ) from None

    async def _refuse_second_copy(self, token: Token) -> None:
        if token.refresh_token is None:
            return
        prints = self._keyring.fingerprints(token.refresh_token.reveal())
        other = {"grant_fingerprint": {"$in": prints}, "_id": {"$ne": token.id}}
        found = await self._mongo.guarded(self._mongo.tokens.find_one(other, {"_id": 1}))
        if found is not None:
            raise Refused(
                f"{found['_id']} already stores this refresh token. Store each grant only once, or two tokens would spend"
                " it. Use that token, or remove it first"
            )

    async def _find(self, name: str, *fields: str) -> Document | None:
        return await self._mongo.guarded(self._mongo.tokens.find_one({"_id": name}, dict.fromkeys(fields, 1)))


def same(stored: Document, *fields: str) -> Fields:
    """The condition that a document still holds what was read."""
    return {"_id": {"$eq": stored["_id"]}, **{name: {"$eq": stored.get(name)} for name in fields}}


def next_revision(stored: Document | None) -> int:
    known = (stored or {}).get("revision")
    return known + 1 if isinstance(known, int) else 1


def _laid_over(stored: Document, more: Mapping[str, Mapping[str, object]]) -> Fields:
    """What a new consent brings beside tokens, over what is there: the application's own names stay."""
    fields: Fields = {}
    for name, values in more.items():
        if isinstance(stored.get(name), Mapping):
            fields |= {f"{name}.{inner}": value for inner, value in values.items()}
        else:
            fields[name] = dict(values)
    return fields


def keeps_changing(name: str) -> StoreLost:
    return StoreLost(f"{name} kept changing during the write: try again")
