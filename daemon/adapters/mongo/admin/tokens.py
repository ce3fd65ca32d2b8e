"""Operators' work on stored tokens: add, list, request a refresh, pause, resume, remove, reveal.

Everything but reading is written to the audit collection first, so that attempts that failed are recorded
too. Every write compares and swaps against the content that was read, so that a result of the daemon is never
undone unseen. Leases are the daemon's and never touched here.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeGuard

from bson import ObjectId
from pymongo.errors import PyMongoError

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
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.bulk import AT_ONCE, Update, update_each, update_where
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.pause_events import resumed as pause_is_over
from daemon.adapters.mongo.pauses import pause_of
from daemon.adapters.mongo.resting import resting
from daemon.adapters.mongo.token_document import Document, failure_of
from daemon.adapters.mongo.token_events import (
    NEXT_REVISION,
    NONE_WAITING,
    WAITING,
    Pipeline,
    new_ids,
    reporting,
)
from daemon.domain.circuit_breaker import Reason
from daemon.domain.stored_grant import GONE, REMOVED, REVOKED, REVOKING, PausedBy, removed_fields
from daemon.domain.token import UNPARSED_STORED, Failure, FailureKind, State, Token
from daemon.domain.transition import RECOVERED, resumed

LISTED_FIELDS = (
    "provider",
    "account",
    "state",
    "expires_at",
    "refresh_expires_at",
    "due_at",
    "refreshed_at",
    "failures",
    "last_failure",
    "revision",
    "lease",
    "consent_ends_at",
    "subject",
    "last_used_at",
)
SHOWN_FIELDS = (*LISTED_FIELDS, "scope", "vars", "extra", "meta", "doubt")


# Imported, and never activated or taken back: the application that it came from renews it.
AWAITING_ACTIVATION: Fields = {"origin.key": {"$type": "string"}, "origin.activated": None}
LAST_CHARACTER = "\U0010ffff"


class NoSuchToken(LookupError):
    """No token with this id is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a token. Compared with an earlier one, it shows the result of a refresh. `not_before`: the provider
    asked for no request until this time, which is still to come.
    """

    state: str
    refreshed_at: object
    failure: Failure | None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSelection:
    """A selection of tokens. Without a `state`, revoked and removed tokens are left out. `failing`: their last attempt failed; `expired`: active and past their
    expiry.
    """

    provider: str | None = None
    account: str | None = None
    subject: str | None = None
    state: str | None = None
    failing: bool = False
    expired: bool = False


class TokenAdmin:
    """`audit` records each operation. Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo, keyring: KeyRing, audit: Audit) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._audit = audit
        self._consents = Consents(mongo, keyring, self._audit)

    # ---------------------------------------------------------------- consents

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

    # ---------------------------------------------------------------- looking

    async def get(self, name: str) -> Document:
        """Return the document of `name` without its tokens; `has_refresh_token` says whether it has one.
        Raises NoSuchToken.
        """
        has = {"has_refresh_token": {"$eq": [{"$type": "$refresh_token"}, "string"]}}
        fields: Fields = {**dict.fromkeys(SHOWN_FIELDS, 1), **has}
        found = await self._mongo.guarded(self._mongo.tokens.find_one({"_id": name}, fields))
        if found is None:
            raise NoSuchToken(name)
        return found

    async def list(self, selection: TokenSelection, *, limit: int | None = None) -> AsyncIterator[Document]:
        """Return the listed fields of the tokens in `selection`, by id, as they arrive; at most `limit` of
        them.
        """
        query = self._query(selection)
        rows = (
            self._mongo.tokens.find(query, dict.fromkeys(LISTED_FIELDS, 1)).sort("_id", 1).limit(limit or 0)
        )
        try:
            async for found in rows:
                yield found
        except PyMongoError as error:
            raise self._mongo.lost(error) from None

    async def count(self) -> int:
        """Return the approximate number of all stored tokens. Tombstones are no tokens; an index counts them."""
        tombstones = {"state": REVOKED, "forget_at": {"$gt": EPOCH}}
        documents = await self._mongo.guarded(self._mongo.tokens.estimated_document_count())
        gone = await self._mongo.guarded(self._mongo.tokens.count_documents(tombstones))
        return max(documents - gone, 0)

    async def matching(self, selection: TokenSelection) -> int:
        """Return how many tokens are in `selection`."""
        return await self._mongo.guarded(self._mongo.tokens.count_documents(self._query(selection)))

    async def beginning(self, start: str, *, limit: int) -> Sequence[str]:
        """Return the first ids that start with `start`."""
        query = {"_id": {"$gte": start, "$lt": start + LAST_CHARACTER}}
        found = self._mongo.tokens.find(query, {"_id": 1}).sort("_id", 1).limit(limit)
        return [str(row["_id"]) for row in await self._mongo.guarded(found.to_list())]

    def _query(self, selection: TokenSelection) -> Fields:
        exact = {"provider": selection.provider, "account": selection.account, "state": selection.state}
        query: Fields = {name: value for name, value in exact.items() if value is not None}
        if selection.state is None:
            query["state"] = {"$nin": sorted(GONE)}
        if selection.subject is not None:
            # The type lets MongoDB use the index, which is partial.
            query["subject"] = {"$eq": selection.subject, "$type": "string"}
        if selection.failing:
            query["last_failure.kind"] = {"$type": "string"}
        if selection.expired:
            active = {"state": State.ACTIVE.value, "expires_at": {"$lt": self._mongo.clock.now()}}
            query["$and"] = [{name: value} for name, value in active.items()]
        return query

    async def stored(self, names: Sequence[str]) -> Sequence[str]:
        """Return those of `names` that are stored ids."""
        found = self._mongo.tokens.find({"_id": {"$in": list(names)}}, {"_id": 1})
        return [str(row["_id"]) for row in await self._mongo.guarded(found.to_list())]

    async def has_tokens_of(self, provider: str) -> bool:
        """Return whether a token of this provider is stored."""
        found = self._mongo.tokens.find_one({"provider": provider}, {"_id": 1})
        return await self._mongo.guarded(found) is not None

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

    # ---------------------------------------------------------------- refreshing

    async def progress(self, target: str, *, withheld: bool = False) -> Mapping[str, Progress]:
        """Return the progress of the token `target`, or of each active token of the provider `target`.

        `withheld`: only of tokens that are withheld because a reply could not be parsed. Raises NoSuchToken.
        """
        found = await self._progress(_selection(target, withheld=withheld))
        if not found and ":" in target and not (withheld and await self._progress({"_id": target})):
            raise NoSuchToken(target)
        return found

    async def progress_of(self, names: Sequence[str]) -> Mapping[str, Progress]:
        """Return the progress of these ids. Removed ones are missing."""
        return await self._progress({"_id": {"$in": list(names)}})

    async def request_refresh(self, target: str, *, withheld: bool = False) -> int:
        """Make a token, or every active token of a provider, due now, and change nothing else. Returns their
        number.

        `withheld`: only tokens that are withheld because a reply could not be parsed.
        """
        await self._audit.note("refresh withheld" if withheld else "refresh", target)
        due_now = {"$set": {"due_at": self._mongo.clock.now()}}
        query = {"$and": [_selection(target, withheld=withheld), {"state": {"$ne": REVOKING}}]}
        return (await update_where(self._mongo, query, due_now)).matched

    async def _progress(self, query: Fields) -> Mapping[str, Progress]:
        fields = {"state": 1, "refreshed_at": 1, "last_failure": 1}
        rows = await self._mongo.guarded(self._mongo.tokens.find(query, fields).to_list())
        return {str(row["_id"]): self._progress_in(row) for row in rows}

    def _progress_in(self, document: Document) -> Progress:
        failure = failure_of(document)
        asked = None if failure is None else failure.not_before
        return Progress(
            state=str(document.get("state")),
            refreshed_at=document.get("refreshed_at"),
            failure=failure,
            not_before=asked if asked is not None and asked > self._mongo.clock.now() else None,
        )

    # ---------------------------------------------------------------- pausing, resuming, removing

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

    async def pause_provider(self, provider: str) -> bool:
        """Pause a provider. Returns whether the operator had not paused it before. A pause for another reason
        becomes the operator's.
        """
        found = await self._mongo.guarded(self._mongo.providers.find_one({"_id": provider}))
        if _rests(found) and pause_of(found).reason is Reason.OPERATOR:
            return False
        paused = {
            "reason": Reason.OPERATOR.value,
            "since": self._mongo.clock.now(),
            "by": self._audit.who.actor,
            "next_probe_at": None,
        }
        await self._audit.note("pause", provider)
        await self._mongo.guarded(
            self._mongo.providers.update_one({"_id": provider}, {"$set": {"paused": paused}}, upsert=True)
        )
        return True

    async def resume_provider(self, provider: str) -> bool:
        """End a provider's pause, whatever its reason. Returns whether there was one."""
        found = await self._mongo.guarded(self._mongo.providers.find_one({"_id": provider}))
        if not _rests(found):
            return False
        await self._audit.note("resume", provider)
        await self._mongo.guarded(
            self._mongo.providers.update_one({"_id": provider}, pause_is_over(self._mongo.clock.now()))
        )
        return True

    async def paused_providers(self) -> Mapping[str, str]:
        """Return the paused providers and their reasons."""
        return {name: pause.reason.value for name, pause in (await resting(self._mongo)).items()}

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


def _selection(target: str, *, withheld: bool) -> Fields:
    """Return the condition for the token with that id, or for the provider's active tokens that have a date,
    since the others are inactive for a reason.

    `withheld`: only tokens that are inactive because a reply could not be parsed.
    """
    of_target: Fields = {"_id": target} if ":" in target else {"provider": target}
    if withheld:
        unparsed = {"last_failure.kind": {"$in": UNPARSED_STORED}, "due_at": None}
        return {**of_target, "state": State.ACTIVE.value, **unparsed}
    if ":" in target:
        return {**of_target, "state": {"$nin": sorted(GONE)}}
    return {**of_target, "state": State.ACTIVE.value, "due_at": {"$gt": EPOCH}}


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


def _rests(row: Mapping[str, object] | None) -> TypeGuard[Mapping[str, object]]:
    return row is not None and row.get("paused") is not None
