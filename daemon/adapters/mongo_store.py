"""The store's half of rotation safety: claims that only one replica can hold, and records fenced on what was spent.

A result is written only where the document still holds the refresh token that was presented. Where a fast write did
not match, the document is read and judged: it may have been re-sealed, or another replica may have condemned the
token because *we* had spent it; then the write is swapped onto what is stored now. A newer consent always wins.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from bson.errors import BSONError
from pymongo import UpdateMany, UpdateOne
from pymongo.errors import PyMongoError

from daemon.adapters.batcher import Batcher
from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.adapters.mongo import Mongo, due
from daemon.adapters.token_document import (
    CLAIMED_FIELDS,
    Document,
    IllTyped,
    Written,
    failure_document,
    failure_of,
    token_of,
    written,
)
from daemon.domain.change import Change, Renewed
from daemon.domain.claim import Batch, Claim, Entry, Recorded, SetAside, StoreLost, Survey, Unusable
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.token import Failure, FailureKind, State, Token

RECORDED_AT_ONCE = 500
SET_ASIDE_FOR = timedelta(hours=1)
SWAPS = 4  # how often a write is swapped onto a document that keeps changing under it, before it is left to a replay


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """One change on its way into a document."""

    claim: Claim
    change: Change
    written: Written
    update: Mapping[str, object] = field(repr=False)

    def onto(self, **conditions: object) -> UpdateOne:
        return UpdateOne({"_id": self.claim.token.id, **conditions}, self.update)


class MongoStore:
    """Fits `refreshing.ports.Store`. `owner` is this instance's id."""

    def __init__(
        self,
        mongo: Mongo,
        *,
        owner: str,
        keyring: Callable[[], KeyRing],
        lease: timedelta,
        hold: Callable[[Provider], timedelta],
    ) -> None:
        self._mongo = mongo
        self._clock = mongo.clock
        self._owner = owner
        self._keyring = keyring
        self._lease = lease
        self._hold = hold
        self._burnt: list[tuple[str, list[object]]] = []
        self._records: Batcher[_Write, Recorded] = Batcher(self._commit, limit=RECORDED_AT_ONCE)

    # ---------------------------------------------------------------- before a sweep

    async def survey(self, configured: Collection[str]) -> Survey:
        """Who is paused, and what is due without a client of ours; also gives back what was claimed in vain."""
        await self._mongo.hello()
        await self._release_burnt()
        rows = await self._mongo.promised(self._mongo.providers.find({"paused": {"$ne": None}}).to_list())
        return Survey(
            paused={str(row["_id"]): _reason(row) for row in rows},
            set_aside=await self._unconfigured(configured),
        )

    async def _unconfigured(self, configured: Collection[str]) -> list[SetAside]:
        now = self._clock.now()
        strangers = {"provider": {"$nin": list(configured)}, "due_at": due(now)}
        found = await self._mongo.promised(
            self._mongo.tokens.find(strangers, CLAIMED_FIELDS).limit(500).to_list()
        )
        return await self._set_aside(
            [
                (document, FailureKind.UNCONFIGURED, "no client is configured for this provider")
                for document in found
            ]
        )

    # ---------------------------------------------------------------- claims

    async def claim(self, provider: Provider, *, limit: int, busy: Collection[str]) -> Batch:
        """Three commands for any number of tokens: find what is due, take it, read what was really taken."""
        now, asked = self._clock.now(), self._clock.boot()
        claimable: list[object] = [
            {"lease": None},
            {"lease.owner": self._owner},
            {"lease.hold": {"$lte": now}},
        ]
        query: dict[str, object] = {"provider": provider.name, "due_at": due(now), "$or": claimable}
        if busy:
            query["_id"] = {"$nin": list(busy)}
        found = await self._mongo.promised(
            self._mongo.tokens.find(query, {"lease": 1, "doubt": 1}).sort("due_at", 1).limit(limit).to_list()
        )
        if not found:
            return Batch(items=(), more=False)
        claim_id = uuid4().hex
        until = now + self._lease
        lease = {
            "owner": self._owner,
            "claim": claim_id,
            "since": now,
            "until": until,
            "hold": until + self._hold(provider),
        }
        await self._take(found, lease, now=now)
        taken = await self._mongo.promised(
            self._mongo.tokens.find(
                {"_id": {"$in": [document["_id"] for document in found]}, "lease.claim": claim_id},
                CLAIMED_FIELDS,
            ).to_list()
        )
        items = await self._opened(taken, claim_id, deadline=asked + self._lease)
        return Batch(items=items, more=len(found) == limit)

    async def _take(self, found: Sequence[Document], lease: Mapping[str, object], *, now: datetime) -> None:
        """Write the lease where nobody was faster. One that brings no clean acknowledgement is burnt."""
        free = [document["_id"] for document in found if document.get("lease") is None]
        operations: list[UpdateMany | UpdateOne] = []
        if free:
            untouched = {"_id": {"$in": free}, "due_at": due(now), "lease": None}
            operations.append(UpdateMany(untouched, {"$set": {"lease": lease}}))
        operations += [
            UpdateOne(
                {"_id": document["_id"], "due_at": due(now), "lease": document["lease"]},
                {"$set": {"lease": lease, **_perhaps_spent(document)}},
            )
            for document in found
            if document.get("lease") is not None
        ]
        try:
            await self._mongo.promised(self._mongo.tokens.bulk_write(operations, ordered=False))
        except StoreLost:
            self._burnt.append((str(lease["claim"]), free))
            raise

    async def _opened(
        self, taken: Sequence[Document], claim_id: str, *, deadline: timedelta
    ) -> list[Claim | SetAside]:
        keyring = self._keyring()
        items: list[Claim | SetAside] = []
        unusable = []
        for document in taken:
            try:
                token = token_of(document, keyring)
            except (IllTyped, Unopenable) as why:
                unusable.append((document, FailureKind.UNREADABLE, str(why)))
                continue
            sealed = document.get("refresh_token")
            spent = sealed if isinstance(sealed, str) else None
            items.append(Claim(token=token, id=claim_id, spent=spent, deadline=deadline))
        return items + await self._set_aside(unusable)

    async def _set_aside(self, unusable: Sequence[tuple[Document, FailureKind, str]]) -> list[SetAside]:
        """Report documents that can't be used, and look again later. Nothing else of them is changed."""
        if not unusable:
            return []
        now = self._clock.now()
        operations, items = [], []
        for document, kind, why in unusable:
            failure = Failure(kind=kind, code=kind.value, message=why, at=now)
            before = failure_of(document)
            changes = {"last_failure": failure_document(failure), "due_at": now + SET_ASIDE_FOR}
            if document.get("lease") is not None:
                changes["lease"] = None
            operations.append(
                UpdateOne({"_id": document["_id"], "lease": document.get("lease")}, {"$set": changes})
            )
            items.append(
                SetAside(
                    token=str(document["_id"]),
                    provider=str(document.get("provider")),
                    kind=kind,
                    code=kind.value,
                    message=why,
                    new=before is None or (before.kind, before.message) != (kind, why),
                )
            )
        await self._mongo.promised(self._mongo.tokens.bulk_write(operations, ordered=False))
        return items

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give back claims under which nothing was presented; one that was in doubt before stays ours."""
        if claims:
            ids: list[object] = [claim.token.id for claim in claims]
            await self._release(claims[0].id, ids)

    async def _release(self, claim_id: str, ids: list[object]) -> None:
        ours = {"_id": {"$in": ids}, "lease.claim": claim_id}
        await self._mongo.promised(
            self._mongo.tokens.update_many({**ours, "doubt": None}, {"$set": {"lease": None}})
        )
        await self._mongo.promised(self._mongo.tokens.update_many(ours, {"$set": {"lease.claim": None}}))

    async def _release_burnt(self) -> None:
        while self._burnt:
            await self._release(*self._burnt[-1])
            self._burnt.pop()

    # ---------------------------------------------------------------- records

    async def record(self, claim: Claim, change: Change) -> Recorded:
        """Write `change` if the document still holds what was presented, together with whatever else is waiting."""
        now = self._clock.now()
        sealed = written(claim.token, change, self._keyring(), now=now)
        update: dict[str, object] = {"$set": sealed.fields, "$inc": {"revision": 1}}
        recorded = await self._records.submit(
            _Write(claim=claim, change=change, written=sealed, update=update)
        )
        if recorded is Recorded.SUPERSEDED:
            await self._release(claim.id, [claim.token.id])
        return recorded

    async def recall(self, entry: Entry) -> Claim | None:
        """The token as it is stored now, but holding what the entry's request presented."""
        document = await self._mongo.promised(
            self._mongo.tokens.find_one({"_id": entry.token}, CLAIMED_FIELDS)
        )
        if document is None:
            return None
        try:
            token = token_of({**document, "refresh_token": entry.spent}, self._keyring())
        except (IllTyped, Unopenable) as why:
            raise Unusable(str(why)) from None
        return Claim(token=token, id=entry.claim, spent=entry.spent, deadline=timedelta(0))

    async def _commit(self, writes: Sequence[_Write]) -> list[Recorded | BaseException]:
        fast = [
            write.onto(
                refresh_token=write.claim.spent,
                state=write.claim.token.state.value,
                **{"lease.claim": write.claim.id},
            )
            for write in writes
        ]
        try:
            result = await self._mongo.tokens.bulk_write(fast, ordered=False)
        except (PyMongoError, BSONError):
            return await self._judge_all(
                writes
            )  # ambiguous, or one spoils the batch: what is stored now tells
        self._mongo.seen()
        if result.matched_count == len(writes):
            return [Recorded.STORED] * len(writes)
        return await self._judge_all(writes)

    async def _judge_all(self, writes: Sequence[_Write]) -> list[Recorded | BaseException]:
        """Find out one by one: nothing that one document does may touch another's result."""
        results: list[Recorded | BaseException] = []
        for write in writes:
            try:
                results.append(await self._judge(write))
            except (StoreLost, BSONError) as error:
                results.append(error)
        return results

    async def _judge(self, write: _Write) -> Recorded:
        """Read the document, and swap the write onto what it holds now if that is still what we spent."""
        for _ in range(SWAPS):
            document = await self._mongo.promised(
                self._mongo.tokens.find_one(
                    {"_id": write.claim.token.id}, {**CLAIMED_FIELDS, "access_token": 1}
                )
            )
            if document is None:
                return Recorded.SUPERSEDED
            if _is_ours(document, write) or self._holds_successor(document, write):
                return Recorded.STORED
            swap = self._swap(document, write)
            if swap is None:
                return Recorded.SUPERSEDED
            result = await self._mongo.promised(self._mongo.tokens.bulk_write([swap]))
            if result.matched_count:
                return Recorded.STORED
        raise StoreLost(f"{write.claim.token.id} keeps changing; its result stays in the journal")

    def _swap(self, document: Document, write: _Write) -> UpdateOne | None:
        """The write for the document as it is now; None: it holds something newer."""
        held, claim = document.get("refresh_token"), write.claim
        lease = document.get("lease")
        ours = isinstance(lease, Mapping) and lease.get("claim") == claim.id
        brings_successor = isinstance(write.change, Renewed) and write.change.successor is not None
        if not (ours or brings_successor) or not self._holds(held, claim.token, claim.token.refresh_token):
            return None
        fields = dict(write.written.fields)
        if not ours:
            fields.pop("lease", None)  # another replica's claim is not ours to end
        if document.get("state") == State.PAUSED.value:
            fields["due_at"] = None
        elif document.get("state") == State.NEEDS_REAUTH.value and isinstance(write.change, Renewed):
            fields["state"] = State.ACTIVE.value
        unchanged = {
            "_id": claim.token.id,
            "refresh_token": held,
            "state": document.get("state"),
            "lease": lease,
        }
        return UpdateOne(unchanged, {**write.update, "$set": fields})

    def _holds_successor(self, document: Document, write: _Write) -> bool:
        """Whether an earlier run of this very record got through: the same value, sealed anew since."""
        successor = write.change.successor if isinstance(write.change, Renewed) else None
        return successor is not None and self._holds(
            document.get("refresh_token"), write.claim.token, successor
        )

    def _holds(self, sealed: object, token: Token, expected: Secret | None) -> bool:
        if sealed is None or expected is None:
            return sealed is None and expected is None
        try:
            return Secret(self._keyring().open(sealed, token_id=token.id, field="refresh_token")) == expected
        except Unopenable:
            return False


def _is_ours(document: Document, write: _Write) -> bool:
    """Whether `document` already holds what this very write brings."""
    if write.written.refresh_token is not None:
        return document.get("refresh_token") == write.written.refresh_token
    if write.written.access_token is not None:
        return document.get("access_token") == write.written.access_token
    told = write.written.fields.get("last_failure")
    return told is not None and document.get("last_failure") == told


def _perhaps_spent(document: Document) -> dict[str, object]:
    """A lease that is still there means: its owner may have presented the value, and no answer was recorded."""
    lease, doubt = document["lease"], document.get("doubt")
    if not isinstance(lease, Mapping) or lease.get("claim") is None:
        return {}
    before = doubt if isinstance(doubt, Mapping) else {"since": lease.get("since"), "tries": 0}
    tries = before.get("tries")
    return {"doubt": {"since": before.get("since"), "tries": tries + 1 if isinstance(tries, int) else 1}}


def _reason(row: Mapping[str, object]) -> str:
    paused = row.get("paused")
    return str(paused.get("reason", "operator")) if isinstance(paused, Mapping) else "operator"
