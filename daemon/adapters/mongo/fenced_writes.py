"""Fenced writes of results: a result is written only if the document still holds the presented value.

Many results share one bulk write. It is not a retryable one, for which MongoDB stores a record of its own beside
each result. If MongoDB does not cleanly acknowledge all of them, the documents are read again: that shows which are
stored, and the fence keeps a command that arrives late from changing anything. A token may have been re-sealed, or another replica may have rejected it because this one had spent it;
then the result is swapped onto the stored document. A newer consent always wins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

import bson
from bson import ObjectId
from bson.errors import BSONError
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import NetworkTimeout, PyMongoError, ServerSelectionTimeoutError

from daemon.adapters.batcher import Batcher
from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.bulk import refusals
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.document_limits import LARGE, READABLE
from daemon.adapters.mongo.stored_number import is_revision
from daemon.adapters.mongo.token_changes import Written, written
from daemon.adapters.mongo.token_document import Document, failure_of
from daemon.adapters.mongo.token_events import NEXT_REVISION, appended, reporting
from daemon.domain.change import Change, Postponed, Renewed, RevocationPostponed, Revoked, Scheduled, Withheld
from daemon.domain.claim import Claim, Recorded, StoreLost, Unusable
from daemon.domain.secret import Secret
from daemon.domain.token import Failure, State
from daemon.domain.transition import transition_of

RECORDED_AT_ONCE = 500
APART = timedelta(
    milliseconds=10
)  # saves a quarter of all CPU if a provider takes 200 ms; see bench/README.md
SWAPS = 4  # how often a write is swapped onto a document that keeps changing under it, before it is left to a replay

# The fields that show whether a result is stored or may still be; nothing of a document that is now too large.
_RESOLVED_BY: Mapping[str, object] = {
    **{
        name: {"$cond": [READABLE, f"${name}", "$$REMOVE"]}
        for name in ("state", "access_token", "refresh_token", "lease", "updated_at", "last_failure")
    },
    "large": LARGE,
}

# Fields that an application may leave out when it inserts a document. refreshd adds them on first sight.
_FILL = [
    {
        "$set": {name: {"$ifNull": [f"${name}", {"$literal": {}}]} for name in ("vars", "extra", "meta")}
        | {
            name: {"$ifNull": [f"${name}", None]}
            for name in ("last_used_at", "token_type", "scope", "refreshed_at")
        }
    }
]

WriteOutcome = Recorded | StoreLost | Unusable

_ACTIVE = State.ACTIVE.value
_RESTING = [
    State.NEEDS_REAUTH.value,
    State.PAUSED.value,
    State.REVOKING.value,
]  # states that a record respects


@dataclass(frozen=True, kw_only=True)  # without slots, which leave no place for what is computed once
class _Write:
    """One change to be written into a document."""

    claim: Claim
    change: Change
    written: Written = field(repr=False)

    @cached_property
    def event(self) -> ObjectId:
        """Return the id of the event that the change is, if it is one. All attempts to make this write share it."""
        return ObjectId()

    @property
    def successor(self) -> Secret | None:
        return self.change.successor if isinstance(self.change, Renewed) else None

    @property
    def presented(self) -> Secret | None:
        token = self.claim.token
        return token.access_token if self.is_exchange else token.refresh_token

    @property
    def is_exchange(self) -> bool:
        """Return whether the access token was presented and is replaced by the new one."""
        return self.claim.spent_field == "access_token"

    @property
    def replaces(self) -> bool:
        """Return whether another value replaces the presented one, which alone is fence enough."""
        if self.is_exchange and isinstance(self.change, Renewed):
            return self.change.granted.access_token != self.presented
        return self.successor is not None

    def operations(self) -> list[UpdateMany]:
        """Return the operations for an unchanged document. Each must match. They name one document each: PyMongo retries
        no bulk that has an `UpdateMany`.
        """
        if self.claim.token.revision is None and not isinstance(self.change, Revoked):
            return [self._fast(), UpdateMany({"_id": self.claim.token.id}, _FILL)]
        return [self._fast()]

    def _fast(self) -> UpdateMany:
        state = self.claim.token.state.value
        conditions = {
            "_id": self.claim.token.id,
            self.claim.spent_field: {"$eq": self.claim.spent},
            "state": state,
            "lease.claim": self.claim.id,
        }
        failure = self.claim.token.last_failure
        return UpdateMany(conditions, _update(self, _allowed(self, state), state=state, failure=failure))


class MongoRecords:
    """Fenced writes to `mongo.tokens`."""

    def __init__(self, mongo: Mongo, *, keyring: Callable[[], KeyRing]) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self.written = 0  # results that were sent to MongoDB so far
        self._writes: Batcher[_Write, Recorded] = Batcher(self._commit, limit=RECORDED_AT_ONCE, apart=APART)

    async def record(self, claim: Claim, change: Change) -> Recorded:
        """Write `change` together with other waiting changes. Raises StoreLost, or Unusable if its result
        can't be determined.
        """
        fields = written(claim.token, change, self._keyring(), now=self._mongo.clock.now())
        return await self._writes.submit(_Write(claim=claim, change=change, written=fields))

    async def _commit(self, writes: Sequence[_Write]) -> list[Recorded | BaseException]:
        operations = [operation for write in writes for operation in write.operations()]
        if not operations:
            return []
        self.written += len(writes)
        try:
            result = await self._mongo.tokens.bulk_write(operations, ordered=False)
        except PyMongoError as error:
            if isinstance(error, NetworkTimeout | ServerSelectionTimeoutError):
                self._mongo.lost(error)  # reported now, since the check below may take as long to fail
            return await self._resolve(writes)  # ambiguous: read the stored document
        except (BSONError, OverflowError, ValueError):
            return await self._partitioned(writes)
        self._mongo.seen()
        if result.matched_count == len(operations):
            return [Recorded.STORED] * len(writes)
        return await self._resolve(writes)

    async def _partitioned(self, writes: Sequence[_Write]) -> list[Recorded | BaseException]:
        """Separate writes that can't be encoded, so that they don't affect the others."""
        spoilt = {index: why for index, write in enumerate(writes) if (why := _unwritable(write)) is not None}
        if not spoilt:
            raise Unusable("MongoDB's driver rejects a result without naming it")
        others = await self._commit([write for index, write in enumerate(writes) if index not in spoilt])
        left = iter(others)
        return [spoilt[index] if index in spoilt else next(left) for index in range(len(writes))]

    async def _resolve(self, writes: Sequence[_Write]) -> list[Recorded | BaseException]:
        """Read the documents, and swap each write onto its stored document if that still holds the spent
        value.
        """
        outcomes: dict[int, WriteOutcome] = {}
        try:
            for _ in range(SWAPS):
                pending = {index: write for index, write in enumerate(writes) if index not in outcomes}
                if not pending:
                    break
                outcomes |= await self._resolve_once(pending)
            lost = StoreLost(
                "the document keeps changing, or a majority does not confirm the write; the reply is kept for a replay"
            )
        except StoreLost as why:
            lost = why
        return [outcomes.get(index, lost) for index in range(len(writes))]

    async def _resolve_once(self, pending: Mapping[int, _Write]) -> dict[int, WriteOutcome]:
        """Determine the results of `pending` with one read and one round of swaps. Raises StoreLost."""
        ids = [write.claim.token.id for write in pending.values()]
        found = await self._mongo.guarded(
            self._mongo.tokens.find({"_id": {"$in": ids}}, _RESOLVED_BY).to_list()
        )
        documents = {document["_id"]: document for document in found}
        outcomes: dict[int, WriteOutcome] = {}
        swaps: dict[int, UpdateOne] = {}
        for index, write in pending.items():
            outcome: Recorded | Unusable | UpdateOne
            try:
                outcome = self._outcome(documents.get(write.claim.token.id), write)
            except DecryptionError as why:
                outcome = Unusable(f"the stored document can't be compared: {why}")
            except Exception as why:  # noqa: BLE001  one document must not stop the others
                outcome = Unusable(f"the stored document can't be compared: {type(why).__name__}")
            if isinstance(outcome, UpdateOne):
                swaps[index] = outcome
            else:
                outcomes[index] = outcome
        return outcomes | await self._swapped(swaps)

    async def _swapped(self, swaps: Mapping[int, UpdateOne]) -> dict[int, WriteOutcome]:
        """Return swaps known to be stored or permanently rejected; re-read to learn about the rest."""
        if not swaps:
            return {}
        try:
            result = await self._mongo.tokens.bulk_write(list(swaps.values()), ordered=False)
        except PyMongoError as error:
            refused = refusals(error)
            if refused is None:
                raise self._mongo.lost(error) from None
            places = list(swaps)
            return {
                places[index]: Unusable(f"MongoDB rejects the result: {why}")
                for index, why in refused.items()
            }
        if result.matched_count < len(swaps):
            return {}
        return dict.fromkeys(swaps, Recorded.STORED)

    def _outcome(self, document: Document | None, write: _Write) -> Recorded | Unusable | UpdateOne:
        """Return the result of `write`, or the write for the document as it is now. Raises
        DecryptionError.
        """
        if document is None:
            return Recorded.SUPERSEDED
        if document["large"]:
            return Unusable("the stored document is too large to compare")
        if self._is_stored(document, write):
            return Recorded.STORED
        if self._holds(document, write, write.claim.spent_field, write.presented) and (
            _is_under_our_claim(document, write) or write.replaces
        ):
            return _swap(document, write)
        return Recorded.SUPERSEDED

    def _is_stored(self, document: Document, write: _Write) -> bool:
        """Return whether `document` holds the values of this write, from now or from an earlier run of the
        same record.
        """
        ours = write.written
        if isinstance(write.change, Revoked):
            return document.get("state") == State.REVOKED.value
        if write.successor is not None:
            return document.get("refresh_token") == ours.refresh_token or self._holds(
                document, write, "refresh_token", write.successor
            )
        if ours.access_token is not None:
            sealed = document.get("access_token")
            if write.is_exchange and sealed == write.claim.spent:
                return False  # though the same value may have come again
            return sealed == ours.access_token or self._holds_access(document, write)
        compared = [name for name in ("updated_at", "last_failure") if name in ours.fields]
        return all(document.get(name) == ours.fields[name] for name in compared)

    def _holds(self, document: Document, write: _Write, field: str, expected: Secret | None) -> bool:
        sealed = document.get(field)
        if sealed is None or expected is None:
            return sealed is None and expected is None
        if expected == write.presented and sealed == write.claim.spent:
            return True
        return Secret(self._keyring().open(sealed, token_id=write.claim.token.id, field=field)) == expected

    def _holds_access(self, document: Document, write: _Write) -> bool:
        """Return whether the document holds the access token; False if that can't be determined. It is not a
        fence.
        """
        match write.change:
            case Renewed() as renewed:
                pass
            case Withheld(renewed=Renewed() as renewed):
                pass
            case _:
                return False
        try:
            stored = self._keyring().open(
                document.get("access_token"), token_id=write.claim.token.id, field="access_token"
            )
        except DecryptionError:
            return False
        return Secret(stored) == renewed.granted.access_token


def _unwritable(write: _Write) -> Unusable | None:
    try:
        bson.encode(write.written.fields)
    except (BSONError, OverflowError, ValueError) as why:
        return Unusable(f"MongoDB can't store the result: {type(why).__name__}")
    return None


def _swap(document: Document, write: _Write) -> UpdateOne:
    """Build the write for the document as it is now, without fields that its state, its lease or its owner's
    fields forbid.
    """
    state = document.get("state")
    fields = dict(_allowed(write, state))
    field = write.claim.spent_field
    unchanged: dict[str, object] = {
        field: {"$eq": document.get(field)},
        "state": {"$eq": state} if state in _RESTING else {"$nin": _RESTING},
    }
    if _is_under_our_claim(document, write):
        unchanged["lease.claim"] = write.claim.id
    else:
        fields.pop("lease", None)  # another replica's claim stays
    update = _update(write, fields, state=state, failure=failure_of(document), lenient=True)
    return UpdateOne({"_id": write.claim.token.id, **unchanged}, update)


def _allowed(write: _Write, state: object) -> Mapping[str, object]:
    """Return the fields that may be set in this `state`: an operator's pause stays, an order to revoke stays, and only a
    success reactivates a rejected token.
    """
    fields, change = write.written.fields, write.change
    if state == _ACTIVE or isinstance(change, Revoked):
        return fields
    if state == State.PAUSED.value:
        return {name: value for name, value in fields.items() if name != "state"} | {"due_at": None}
    if state == State.REVOKING.value:
        return {name: value for name, value in fields.items() if name != "state"} | _due_for_revocation(write)
    if state == State.NEEDS_REAUTH.value:
        return {
            **fields,
            **({"state": State.ACTIVE.value} if isinstance(change, Renewed) else {"due_at": None}),
        }
    return fields


def _due_for_revocation(write: _Write) -> dict[str, object]:
    """Make the token due now, because its newest refresh token is stored. A date that was decided for a token which was
    being revoked already stays: it is a wait for the provider. A withheld reply settles no doubt, and ends it: another
    refresh would not help.
    """
    waits = isinstance(write.change, Scheduled | Postponed | RevocationPostponed)
    if waits and write.claim.token.state is State.REVOKING:
        return {}
    settled = {"doubt": None} if isinstance(write.change, Withheld) else {}
    return {"due_at": write.written.fields["updated_at"], **settled}


def _update(
    write: _Write,
    fields: Mapping[str, object],
    *,
    state: object,
    failure: Failure | None,
    lenient: bool = False,
) -> dict[str, object] | list[Mapping[str, object]]:
    """Return the update, with the event that it is. A tombstone replaces the whole document, and takes its revision over.

    `state` and `failure`: as stored before. `lenient`: build it so that MongoDB accepts it whatever the document holds by
    now. The cheaper form fails on a `revision` that is not a number, and on a text in the place of an object. It would add
    to any number, so it is for one that has a successor.
    """
    token, now = write.claim.token, write.written.fields["updated_at"]
    event = transition_of(write.change, state=state, failure=failure, order=token.revocation)
    events = [] if event is None else [(write.event, event)]
    if isinstance(write.change, Revoked):
        whole = {"_id": "$_id", **{name: {"$literal": value} for name, value in fields.items()}}
        left = {"revision": NEXT_REVISION, "events": appended(events, now=now)}
        return [{"$replaceWith": {**whole, **left}}]
    counts = token.revision is None or is_revision(token.revision)
    if events or lenient or not counts:
        return reporting(fields, events, now=now)
    return {"$set": fields, "$inc": {"revision": 1}}


def _is_under_our_claim(document: Document, write: _Write) -> bool:
    lease = document.get("lease")
    return isinstance(lease, Mapping) and lease.get("claim") == write.claim.id
