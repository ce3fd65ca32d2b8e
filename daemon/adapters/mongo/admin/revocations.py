"""Orders to revoke grants, as operators give them. The daemon carries them out: see `refreshing.revoking`.

An order is one write, which keeps the lease and the doubt of a running request. It remembers the state and the date
before it, so that it can be undone until its first request.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.bulk import AT_ONCE, Update, update_each
from daemon.adapters.mongo.connecting.unfinished_consents import UnfinishedConsents
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.document_limits import NAMED
from daemon.adapters.mongo.serving.selected_tokens import SIMPLE, matching
from daemon.adapters.mongo.stored_number import count
from daemon.adapters.mongo.token_document import Document, failure_of
from daemon.adapters.mongo.token_events import NEXT_REVISION
from daemon.domain.consent_request import END_CONSENTS
from daemon.domain.stored_grant import GONE, REVOKED, REVOKING
from daemon.domain.token import Failure, State

ORDER, UNDO = "revoke", "revoke undo"  # in the audit
UNDO_MARGIN = timedelta(seconds=5)  # before the first request: clocks differ
_STATES = [state.value for state in (State.ACTIVE, State.PAUSED, State.NEEDS_REAUTH)]
_READ = dict.fromkeys(("provider", "state", "revision", "revocation", "last_failure"), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationSelection:
    """A selection of tokens: these ids, or all that meet every one of the other conditions."""

    ids: Sequence[str] = ()
    subject: str | None = None
    provider: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A token on its way out. `tries`: the revocation requests so far. `failure`: of the last one."""

    id: str
    provider: str
    state: str
    revision: object
    not_before: datetime | None
    tries: int
    failure: Failure | None


class Revocations:
    """Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo, audit: Audit) -> None:
        self._mongo = mongo
        self._audit = audit

    async def find(self, selection: RevocationSelection) -> Sequence[Ending]:
        """Return the selected tokens by id. Tombstones are among them only if their ids are given."""
        gone = [state for state in GONE if state != REVOKED] if selection.ids else sorted(GONE)
        conditions: list[Mapping[str, object]] = [{"state": {"$nin": gone}}, NAMED]
        if selection.ids:
            conditions.append({"_id": {"$in": list(selection.ids)}})
        if selection.provider is not None:
            conditions.append({"provider": {"$eq": selection.provider}})
        where = dict(selection.where)
        if selection.subject is not None:
            where["subject"] = selection.subject
        conditions.append(matching(where))
        found = self._mongo.tokens.find({"$and": [one for one in conditions if one]}, _READ, collation=SIMPLE)
        return sorted(map(_ending, await self._mongo.guarded(found.to_list())), key=lambda one: one.id)

    async def end_consents(self, subject: str, *, dry_run: bool = False) -> int:
        """End the consents of this subject that store nothing yet, and return their number. They have one record in the
        audit, before they end. A login without the rights on consents has none.
        """
        consents = UnfinishedConsents(self._mongo)
        found = await consents.of(subject)
        if dry_run or not found:
            return len(found)
        await self._audit.note(END_CONSENTS, None, subject=subject, count=len(found))
        return await consents.end([one.id for one in found])

    async def progress(self, ids: Collection[str]) -> Mapping[str, Ending]:
        """Return the present state of these tokens. Removed ones are missing."""
        found = self._mongo.tokens.find({"_id": {"$in": list(ids)}}, _READ)
        return {one.id: one for one in map(_ending, await self._mongo.guarded(found.to_list()))}

    async def order(self, found: Sequence[Ending], *, not_before: datetime | None) -> Collection[str]:
        """Order the revocation of these tokens, and return the ids of those that are being revoked now. Each order is in
        the audit first. A token that is gone in the meantime stays so.
        """
        now = self._mongo.clock.now()
        order = {
            "since": now,
            "not_before": not_before,
            "tries": 0,
            "was": {"state": "$state", "due_at": {"$ifNull": ["$due_at", None]}},
        }
        fields = {
            "state": REVOKING,
            "due_at": not_before or now,
            "updated_at": now,
            "revision": NEXT_REVISION,
            "revocation": order,
        }
        return await self._changed(ORDER, found, {"state": {"$in": _STATES}}, [{"$set": fields}], REVOKING)

    async def unsent(self, found: Sequence[Ending]) -> Collection[str]:
        """Return the ids of those of these tokens whose orders can be taken back."""
        ids = [one.id for one in found]
        query = {"_id": {"$in": ids}, **_unsent(self._mongo.clock.now())}
        rows = await self._mongo.guarded(self._mongo.tokens.find(query, {"_id": 1}).to_list())
        return {str(row["_id"]) for row in rows}

    async def undo(self, found: Sequence[Ending]) -> Collection[str]:
        """Take back the orders of these tokens, and return the ids of those that are not being revoked now. An order whose
        first request may have been sent stays.
        """
        now = self._mongo.clock.now()
        usable = {"$gt": ["$revocation.was.due_at", EPOCH]}
        fields = {
            "state": "$revocation.was.state",
            "due_at": {"$cond": [usable, "$revocation.was.due_at", None]},
            "updated_at": now,
            "revision": NEXT_REVISION,
        }
        left = await self._changed(
            UNDO, found, _unsent(now), [{"$set": fields}, {"$unset": "revocation"}], REVOKING
        )
        return {one.id for one in found} - set(left)

    async def _changed(
        self,
        action: str,
        found: Sequence[Ending],
        condition: Mapping[str, object],
        change: Sequence[Mapping[str, object]],
        state: str,
    ) -> Collection[str]:
        """Make the change, and return the ids of those in `state` afterwards."""
        reached: set[str] = set()
        for start in range(0, len(found), AT_ONCE):
            some = found[start : start + AT_ONCE]
            await self._audit.note_each(action, [(one.id, one.revision, None) for one in some])
            ids = [one.id for one in some]
            await update_each(self._mongo, [Update(ids=ids, condition=condition, change=change)])
            now = await self.progress(ids)
            reached |= {name for name, one in now.items() if one.state == state}
        return reached


def _unsent(now: datetime) -> Mapping[str, object]:
    """Return the condition for an order whose first request is still to come."""
    return {
        "state": REVOKING,
        "revocation.not_before": {"$gt": now + UNDO_MARGIN},
        "revocation.was.state": {"$in": _STATES},
    }


def _ending(document: Document) -> Ending:
    stored = document.get("revocation")
    order = stored if isinstance(stored, Mapping) else {}
    not_before, tries = order.get("not_before"), order.get("tries")
    return Ending(
        id=str(document["_id"]),
        provider=str(document.get("provider")),
        state=str(document.get("state")),
        revision=document.get("revision"),
        not_before=not_before if isinstance(not_before, datetime) else None,
        tries=count(tries),
        failure=failure_of(document),
    )
