"""Writes of the access service: a consent is stored as `add` stores it, and fields change by compare and swap.

Its keys seal refresh tokens and open none, and its login may delete nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from bson import ObjectId
from pymongo.errors import PyMongoError

from daemon.adapters.door_keys import DoorKeys
from daemon.adapters.mongo.admin.consents import (
    SWAPS,
    Ambiguous,
    Consents,
    Contended,
    GrantRevoked,
    Laying,
    SecondCopy,
    all_of,
    next_revision,
    same,
)
from daemon.adapters.mongo.audit import Record
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import date_or_null, short_text
from daemon.adapters.mongo.pause_author import pause_author
from daemon.adapters.mongo.serving.access_audit import AccessAudit
from daemon.adapters.mongo.serving.selected_tokens import SIMPLE, matching
from daemon.adapters.mongo.serving.tokens import FIELDS, LARGEST_SEALED, bounded, served_token
from daemon.adapters.mongo.token_document import Document
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.domain.served_token import ServedToken
from daemon.domain.stored_grant import (
    Author,
    DuplicateGrant,
    Edit,
    GrantOver,
    KeepsChanging,
    StoredGrant,
    Unclear,
)
from daemon.domain.token import State, Token

_LARGEST_PART = 16 * 1024  # bytes

# What a write looks at, beside what a reading does. Whatever other programs store, no more than this is fetched.
_FIELDS: Mapping[str, object] = {
    **FIELDS,
    # A value that can't be fetched is not fetched, but must not pass for "none": it would be replaced with nothing.
    "refresh_token": {
        "$cond": [
            {"$in": [{"$type": "$refresh_token"}, ["null", "missing"]]},
            None,
            {"$ifNull": [bounded("$refresh_token", "string", LARGEST_SEALED), ""]},
        ]
    },
    "grant": short_text("$grant"),
    "grant_fingerprint": short_text("$grant_fingerprint"),
    "refresh_expires_at": date_or_null("$refresh_expires_at"),
    "vars": bounded("$vars", "object", _LARGEST_PART),
    "provider_account": short_text("$provider_account"),
    "paused_by": bounded("$paused_by", "object", 2048),
    "origin": {
        "$cond": [
            {"$eq": [{"$type": "$origin"}, "object"]},
            {
                "key": short_text("$origin.key"),
                "activated": date_or_null("$origin.activated"),
                "held": date_or_null("$origin.held"),
            },
            None,
        ]
    },
}


class ServedWrites:
    """Implements `serving.ports.Writes`. `log` receives each audit record, `changed` the id of each changed token."""

    def __init__(
        self,
        mongo: Mongo,
        keys: DoorKeys,
        *,
        log: Callable[[Record], None],
        changed: Callable[[str], None],
    ) -> None:
        self._mongo = mongo
        self._keys = keys
        self._log = log
        self._changed = changed

    def fingerprints(self, refresh_token: Secret) -> Sequence[str]:
        return self._keys.fingerprints(refresh_token.reveal())

    async def put(
        self,
        author: Author,
        where: Mapping[str, str],
        token: Token,
        extra: Mapping[str, object],
        meta: Mapping[str, str],
        decide: Callable[[StoredGrant | None], Edit],
    ) -> tuple[bool, ServedToken]:
        consents = Consents(self._mongo, self._keys, self._audit(author), read=_FIELDS)

        def laying(document: Document | None) -> Laying:
            stored = _stored_grant(document, token.id)
            edit = decide(stored)
            if document is None or stored is None:
                return Laying(condition={}, fields=edit.fields, anew=edit.anew)
            state = same(document, "state", read=_FIELDS)
            condition = all_of(state, {} if edit.anew else matching(where))
            return Laying(condition=condition, fields=edit.fields, anew=edit.anew)

        try:
            added = await consents.add(token, extra=extra, meta=meta, decide=laying)
        except SecondCopy:
            raise DuplicateGrant from None
        except GrantRevoked:
            raise GrantOver from None
        except Contended:
            raise KeepsChanging from None
        except Ambiguous:
            raise Unclear from None
        finally:
            self._changed(token.id)
        return not added.replaced, await self._as_stored(token.id)

    async def edit(
        self,
        author: Author,
        where: Mapping[str, str],
        name: str,
        decide: Callable[[StoredGrant | None], tuple[str, Edit] | None],
        *,
        alone: bool = False,
    ) -> ServedToken:
        audit, audit_id = self._audit(author), ObjectId()
        for _ in range(SWAPS):
            document = await self._found(name)
            stored = _stored_grant(document, name)
            decided = decide(stored)
            assert document is not None  # noqa: S101  a decision about nothing raises
            assert stored is not None  # noqa: S101
            if decided is None:
                return stored.token
            action, edit = decided
            if alone:
                await self._refuse_second_copy(stored)
            revision = next_revision(document)
            await audit.note(action, name, revision, audit_id=audit_id)
            if await self._swapped(document, where, edit, revision):
                return await self._as_stored(name)
        raise KeepsChanging

    async def stored(self, name: str) -> StoredGrant | None:
        return _stored_grant(await self._found(name), name)

    async def _found(self, name: str) -> Document | None:
        return await self._mongo.guarded(self._mongo.tokens.find_one({"_id": {"$eq": name}}, _FIELDS))

    def _audit(self, author: Author) -> AccessAudit:
        return AccessAudit(self._mongo, author=author, log=self._log)

    async def _swapped(self, stored: Document, where: Mapping[str, str], edit: Edit, revision: int) -> bool:
        """Make the change. Returns False if another writer was faster."""
        read = same(stored, "state", "revision", "access_token", read=_FIELDS)
        unchanged = all_of(read, matching(where), edit.condition)
        set_ = {**edit.fields, "revision": revision, "updated_at": self._mongo.clock.now()}
        unset = {"$unset": dict.fromkeys(edit.unset, "")} if edit.unset else {}
        try:
            result = await self._mongo.tokens.update_one(unchanged, {"$set": set_, **unset}, collation=SIMPLE)
        except PyMongoError as error:
            self._mongo.lost(error)
            raise Unclear from None
        finally:
            self._changed(str(stored["_id"]))
        self._mongo.seen()
        return result.matched_count == 1

    async def _refuse_second_copy(self, stored: StoredGrant) -> None:
        if stored.fingerprint is None:
            return
        other = {
            "grant_fingerprint": {"$eq": stored.fingerprint, "$type": "string"},
            "state": State.ACTIVE.value,
            "_id": {"$ne": stored.token.id},
        }
        if await self._mongo.guarded(self._mongo.tokens.find_one(other, {"_id": 1})) is not None:
            raise DuplicateGrant

    async def _as_stored(self, name: str) -> ServedToken:
        """Return the token after a write."""
        try:
            found = await self._mongo.guarded(self._mongo.tokens.find_one({"_id": {"$eq": name}}, FIELDS))
        except StoreLost:
            raise Unclear from None
        if found is None:
            raise KeepsChanging
        return served_token(found)


def _stored_grant(document: Document | None, name: str) -> StoredGrant | None:
    """Return the token in `document`. One with another id was found by a collation that ignores differences."""
    if document is None or document.get("_id") != name:
        return None
    pause, meta = document.get("paused_by"), document.get("meta")
    variables = document.get("vars")
    grant, fingerprint = document.get("grant"), document.get("grant_fingerprint")
    ends = document.get("refresh_expires_at")
    ends = ends if isinstance(ends, datetime) else None
    return StoredGrant(
        token=served_token(document),
        has_refresh_token=document.get("refresh_token") is not None,
        grant=grant if isinstance(grant, str) else "refresh_token",
        refresh_expires_at=ends,
        fingerprint=fingerprint if isinstance(fingerprint, str) else None,
        vars={str(one): text for one, text in variables.items() if isinstance(text, str)}
        if isinstance(variables, Mapping)
        else {},
        meta=meta if isinstance(meta, Mapping) else None,
        paused_by=pause_author(document),
        pause=pause if isinstance(pause, Mapping) else None,
    )
