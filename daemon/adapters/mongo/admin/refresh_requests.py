"""Requests to refresh tokens now, and the progress of those tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.adapters.mongo.admin.consents import Fields
from daemon.adapters.mongo.admin.lookup import NoSuchToken
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.bulk import update_where
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.token_document import Document, failure_of
from daemon.domain.stored_grant import GONE, REVOKING
from daemon.domain.token import UNPARSED_STORED, Failure, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a token. Compared with an earlier one, it shows the result of a refresh.
    `not_before`: the provider asked for no request until this time, which is still to come.
    """

    state: str
    refreshed_at: object
    failure: Failure | None
    not_before: datetime | None = None


class RefreshRequests:
    """`audit` records each request. Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo, audit: Audit) -> None:
        self._mongo = mongo
        self._audit = audit

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

    async def request(self, target: str, *, withheld: bool = False) -> int:
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
