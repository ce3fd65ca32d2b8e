"""Operators' work on stored tokens: add, reveal, pause, resume, remove.

Each operation is written to the audit collection first, so that attempts that failed are recorded
too. Every write compares and swaps against the content that was read, so that a result of the daemon is never
undone unseen. Leases are the daemon's and never touched here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from bson import ObjectId

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.consents import (
    SWAPS,
    Added,
    Consents,
    Contended,
    Fields,
    Refused,
    next_revision,
    same,
)
from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.bulk import AT_ONCE, Update, update_each
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.token_document import Document
from daemon.adapters.mongo.token_events import (
    NEXT_REVISION,
    NONE_WAITING,
    WAITING,
    Pipeline,
    new_ids,
    reporting,
)
from daemon.domain.stored_grant import GONE, REMOVED, REVOKING, PausedBy, removed_fields
from daemon.domain.token import FailureKind, State, Token
from daemon.domain.transition import RECOVERED, resumed

# Imported, and never activated or taken back: the application that it came from renews it.
AWAITING_ACTIVATION: Fields = {"origin.key": {"$type": "string"}, "origin.activated": None}


class TokenAdmin:
    """`audit` records each operation. Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo, keyring: KeyRing, audit: Audit) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._audit = audit
        self._consents = Consents(mongo, keyring, self._audit)

    async def add(
        self,
        token: Token,
        *,
        extra: Mapping[str, object] | None = None,
        meta: Mapping[str, str] | None = None,
        subject: str | None = None,
    ) -> Added:
        """Store `token`, or let it replace the document with its id, whose subject stays if `subject` is None. Raises
        Refused.
        """
        return await self._consents.add(token, extra=extra, meta=meta, subject=subject)

    async def reveal(self, name: str, field: str) -> str:
        """Return the secret in `field`, once the audit of it is written.

        Raises NoSuchToken, Refused if there is none, DecryptionError.
        """
        stored = await self._stored(name, field, "revision")
        if stored.get(field) is None:
            raise Refused(f"{name} contains no {field.replace('_', ' ')}")
        opened = self._keyring.open(stored[field], token_id=name, field=field)
        await self._audit.note("reveal", name, stored.get("revision"))
        return opened

    async def pause(self, name: str) -> bool:
        """Pause a token. Returns whether it was not paused before. Raises NoSuchToken, and Refused for one
        that needs a consent.

        An imported token that was not activated yet is paused already. It gets a mark by which activations of
        whole slices leave it alone. A pause of an application becomes the operator's, so that no application ends it.
        """
        now = self._mongo.clock.now()
        ours = {"kind": PausedBy.OPERATOR.value, "at": now}

        def paused(stored: Document) -> Fields | None:
            if stored.get("state") == State.NEEDS_REAUTH.value:
                raise Refused(f"{name} is already inactive: it needs a new consent")
            _refuse_ended(name, stored)
            if stored.get("state") == State.PAUSED.value:
                if _awaits_activation(stored):
                    return {"origin.held": now}
                return {"paused_by": ours} if _is_paused_by_application(stored) else None
            return {"state": State.PAUSED.value, "due_at": None, "paused_by": ours}

        return await self._change(name, "pause", paused)

    async def resume(self, name: str) -> bool:
        """Make a token active and due now, also after a rejection, since the operator may know more.

        Returns whether it was not active before. Raises NoSuchToken, and Refused if another active token holds the
        same refresh token.
        """
        await self._refuse_duplicate(name)

        def resumed(stored: Document) -> Fields | None:
            if stored.get("state") == State.ACTIVE.value:
                return None
            _refuse_ended(name, stored)
            now = self._mongo.clock.now()
            in_use = {"origin.activated": now, "origin.held": None} if _is_imported(stored) else {}
            return {
                "state": State.ACTIVE.value,
                "due_at": now,
                "failures": 0,
                "paused_by": None,
                **in_use,
            }

        return await self._change(name, "resume", resumed)

    async def resume_rejected(self, provider: str, *, since: datetime) -> int:
        """Make the tokens of `provider` active and due now that were rejected at or after `since`. Returns
        their number. Those that were taken back for another program are left alone.

        All of them share one audit record.
        """
        rejected = {
            "provider": provider,
            "state": State.NEEDS_REAUTH.value,
            "last_failure.kind": FailureKind.REJECTED.value,
            "last_failure.at": {"$gte": since},
            "$and": [{"$nor": [AWAITING_ACTIVATION]}],
        }
        found = self._mongo.tokens.find({**rejected, **NAMED}, {"_id": 1})
        ids = [str(row["_id"]) for row in await self._mongo.guarded(found.to_list())]
        if not ids:
            return 0
        await self._audit.note(f"resume rejected since {since.isoformat()}", provider, count=len(ids))
        refused = 0
        for start in range(0, len(ids), AT_ONCE):
            now = self._mongo.clock.now()
            fields = {"state": State.ACTIVE.value, "due_at": now, "failures": 0, "updated_at": now}
            some = ids[start : start + AT_ONCE]
            updates = [
                Update(
                    ids=[name], condition=rejected, change=reporting(fields, [(event, RECOVERED)], now=now)
                )
                for name, event in zip(some, new_ids(len(some)), strict=True)
            ]
            refused += len((await update_each(self._mongo, updates)).refused)
        return len(ids) - refused

    async def remove(self, name: str) -> None:
        """Delete the token. Its grant remains valid at the provider. One with an event that waits is marked, and the daemon
        deletes it when the event is in the outbox. Raises NoSuchToken.
        """
        stored = await self._stored(name, "state", "revision")
        if stored.get("state") == REMOVED:
            raise NoSuchToken(name)
        await self._audit.note("remove", name, stored.get("revision"))
        tokens, wanted = self._mongo.tokens, {"_id": {"$eq": name}}
        for _ in range(SWAPS):
            if (await self._mongo.guarded(tokens.delete_one({**wanted, **NONE_WAITING}))).deleted_count:
                return
            mark = {
                name: {"$literal": value} for name, value in removed_fields(self._mongo.clock.now()).items()
            }
            marked = [{"$set": {**mark, "revision": NEXT_REVISION}}]
            if (await self._mongo.guarded(tokens.update_one({**wanted, **WAITING}, marked))).matched_count:
                return
            if await self._mongo.guarded(tokens.find_one(wanted, {"_id": 1})) is None:
                return
        raise Contended(name)

    # ---------------------------------------------------------------- the parts

    async def _change(self, name: str, action: str, decide: Callable[[Document], Fields | None]) -> bool:
        """Set the fields that `decide` derives from the current document. None: no change is needed."""
        audit_id, names = ObjectId(), new_ids()
        for _ in range(SWAPS):
            stored = await self._stored(
                name, "state", "revision", "origin.activated", "origin.held", "paused_by.kind"
            )
            fields = decide(stored)
            if fields is None:
                return False
            revision = next_revision(stored)
            await self._audit.note(action, name, revision, audit_id=audit_id)
            now = self._mongo.clock.now()
            update: Fields | Pipeline = {"$set": {**fields, "revision": revision, "updated_at": now}}
            is_resumed = fields.get("state") == State.ACTIVE.value
            if is_resumed and (event := resumed(stored.get("state"))) is not None:
                events = list(zip(names, [event], strict=True))
                update = reporting({**fields, "updated_at": now}, events, now=now, revision=revision)
            result = await self._mongo.guarded(
                self._mongo.tokens.update_one(same(stored, "state", "revision"), update)
            )
            if result.matched_count:
                return True
        raise Contended(name)

    async def _refuse_duplicate(self, name: str) -> None:
        stored = await self._stored(name, "grant_fingerprint")
        if not isinstance(held := stored.get("grant_fingerprint"), str):
            return
        other = {
            "grant_fingerprint": {"$eq": held, "$type": "string"},
            "state": State.ACTIVE.value,
            "_id": {"$ne": name},
        }
        found = await self._mongo.guarded(self._mongo.tokens.find_one(other, {"_id": 1}))
        if found is not None:
            raise Refused(
                f"{found['_id']} is active and holds the same refresh token as {name}: remove one of them, or let the"
                " owner consent again"
            )

    async def _stored(self, name: str, *fields: str) -> Document:
        found = await self._mongo.guarded(
            self._mongo.tokens.find_one({"_id": name}, dict.fromkeys(fields, 1))
        )
        if found is None:
            raise NoSuchToken(name)
        return found


def _refuse_ended(name: str, stored: Document) -> None:
    """Raise NoSuchToken for a token that is gone, and Refused for one that is being revoked."""
    if stored.get("state") in GONE:
        raise NoSuchToken(name)
    if stored.get("state") == REVOKING:
        raise Refused(f"{name} is being revoked, so its state can't be changed")


def _is_imported(stored: Document) -> bool:
    return isinstance(stored.get("origin"), Mapping)


def _awaits_activation(stored: Document) -> bool:
    """Return whether an activation of a slice would activate this token."""
    origin = stored.get("origin")
    untouched = isinstance(origin, Mapping) and not (origin.get("activated") or origin.get("held"))
    return untouched and stored.get("state") == State.PAUSED.value


def _is_paused_by_application(stored: Document) -> bool:
    pause = stored.get("paused_by")
    return isinstance(pause, Mapping) and pause.get("kind") == PausedBy.APPLICATION.value
