"""The store's half of rotation safety: claims that only one replica can hold. `mongo_records` has the other half.

A lease that is still on a document means: perhaps spent, by its owner. So one that turned out to be for nothing is
given back, and one that is taken over from an earlier claim leaves a doubt.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from pymongo import UpdateMany, UpdateOne

from daemon.adapters.keyring import KeyRing, Unopenable
from daemon.adapters.mongo import Mongo, due
from daemon.adapters.mongo_due import DueTokens
from daemon.adapters.mongo_pauses import pause_of
from daemon.adapters.mongo_records import MongoRecords
from daemon.adapters.token_document import (
    CLAIMED_FIELDS,
    Document,
    IllTyped,
    failure_document,
    failure_of,
    token_of,
)
from daemon.domain.change import Change
from daemon.domain.claim import Batch, Claim, Entry, Recorded, SetAside, StoreLost, Survey, Unusable
from daemon.domain.provider import Grant, Provider
from daemon.domain.secret import masked
from daemon.domain.token import Failure, FailureKind

SET_ASIDE_FOR = timedelta(minutes=5)  # at most this long after the cause was mended, the token is seen again
SET_ASIDE_AT_ONCE = 500


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
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._mongo = mongo
        self._clock = mongo.clock
        self._owner = owner
        self._keyring = keyring
        self._lease = lease
        self._hold = hold
        self._due = DueTokens(mongo, owner=owner, keyring=keyring, chance=chance)
        self._burnt: list[tuple[str, list[object]]] = []
        self._records = MongoRecords(mongo, keyring=keyring)

    # ---------------------------------------------------------------- before a sweep

    async def survey(self, configured: Collection[str]) -> Survey:
        """Who is paused, and what is due without a client of ours; also gives back what was claimed in vain."""
        await self._mongo.hello()
        await self._release_burnt()
        rows = await self._mongo.promised(self._mongo.providers.find({"paused": {"$ne": None}}).to_list())
        return Survey(
            paused={str(row["_id"]): pause_of(row) for row in rows},
            set_aside=await self._unconfigured(configured),
        )

    async def _unconfigured(self, configured: Collection[str]) -> list[SetAside]:
        """Another replica may have the client that we lack: what it holds is not ours to touch."""
        now = self._clock.now()
        free = {"$or": [{"lease": None}, {"lease.hold": {"$lte": now}}]}
        strangers = {"provider": {"$nin": list(configured)}, "due_at": due(now), **free}
        found = await self._mongo.promised(
            self._mongo.tokens.find(strangers, CLAIMED_FIELDS).limit(SET_ASIDE_AT_ONCE).to_list()
        )
        return await self._set_aside(
            [
                (document, FailureKind.UNCONFIGURED, "no client is configured for this provider")
                for document in found
            ],
            claimed=free,
        )

    # ---------------------------------------------------------------- claims

    async def claim(
        self, provider: Provider, *, limit: int, busy: Collection[str], doubtful: bool = False
    ) -> Batch:
        """Two commands for any number of tokens, and one look at what is due for several claims: take them, and read what
        was really taken.
        """
        now, asked = self._clock.now(), self._clock.boot()
        if limit < 1:
            return Batch(items=(), more=False)
        if doubtful:
            found, more = await self._due.doubtful(provider, limit=limit, busy=busy, now=now), False
        else:
            found, more = await self._due.next(provider, limit=limit, busy=busy, now=now)
        return Batch(items=await self._claimed(provider, found, now=now, asked=asked), more=more)

    async def probe(self, provider: Provider, *, limit: int, busy: Collection[str], proven: bool) -> Batch:
        """Claim proven tokens at random, so that the answer is about the provider and not a token's own trouble; or
        the healthiest of all.
        """
        now, asked = self._clock.now(), self._clock.boot()
        if limit < 1:
            return Batch(items=(), more=False)
        look = self._due.proven if proven else self._due.healthiest
        found = await look(provider, limit=limit, busy=busy, now=now)
        return Batch(items=await self._claimed(provider, found, now=now, asked=asked), more=False)

    async def _claimed(
        self, provider: Provider, found: Sequence[Document], *, now: datetime, asked: timedelta
    ) -> Sequence[Claim | SetAside]:
        """Take what was `found`, where nobody was faster, and read what was really taken."""
        if not found:
            return ()
        ids, lease = [document["_id"] for document in found], self._new_lease(provider, now)
        claim_id = str(lease["claim"])
        try:
            if await self._take(found, lease, now=now) < len(found):
                self._due.forget(provider)
            ours = {"_id": {"$in": ids}, "lease.claim": claim_id}
            taken = await self._mongo.promised(
                self._mongo.tokens.find(ours, _fields_of(provider)).batch_size(len(ids) + 1).to_list()
            )
            return await self._opened(taken, claim_id, deadline=asked + self._lease)
        except BaseException:
            self._burnt.append((claim_id, ids))
            raise

    def _new_lease(self, provider: Provider, now: datetime) -> Mapping[str, object]:
        until = now + self._lease
        return {
            "owner": self._owner,
            "claim": uuid4().hex,
            "since": now,
            "until": until,
            "hold": until + self._hold(provider),
        }

    async def _take(self, found: Sequence[Document], lease: Mapping[str, object], *, now: datetime) -> int:
        """Write the lease where nobody was faster, and say how often that was. Raises StoreLost without a clean acknowledgement of a majority."""
        free = [document["_id"] for document in found if document.get("lease") is None]
        operations: list[UpdateMany | UpdateOne] = []
        if free:
            untouched = {"_id": {"$in": free}, "due_at": due(now), "lease": None}
            operations.append(UpdateMany(untouched, {"$set": {"lease": lease}}))
        operations += [
            UpdateOne(
                {"_id": document["_id"], "due_at": due(now), "lease": document["lease"]},
                {"$set": {"lease": lease, **_perhaps_spent(document, self._owner)}},
            )
            for document in found
            if document.get("lease") is not None
        ]
        return (
            await self._mongo.promised(self._mongo.tokens.bulk_write(operations, ordered=False))
        ).matched_count

    async def _opened(
        self, taken: Sequence[Document], claim_id: str, *, deadline: timedelta
    ) -> list[Claim | SetAside]:
        keyring = self._keyring()
        items: list[Claim | SetAside] = []
        unusable: list[tuple[Document, FailureKind, str]] = []
        for document in taken:
            try:
                token = token_of(document, keyring)
            except (IllTyped, Unopenable) as why:
                unusable.append((document, FailureKind.UNREADABLE, str(why)))
                continue
            sealed = document.get("refresh_token")
            spent = sealed if isinstance(sealed, str) else None
            items.append(Claim(token=token, id=claim_id, spent=spent, deadline=deadline))
        if unusable:
            items += await self._set_aside(unusable, claimed={"lease.claim": claim_id})
            await self._release(claim_id, [document["_id"] for document, _, _ in unusable])
        return items

    async def _set_aside(
        self, unusable: Sequence[tuple[Document, FailureKind, str]], *, claimed: Mapping[str, object]
    ) -> list[SetAside]:
        """Report documents that can't be used, and look again later. Nothing else of them is changed, and nothing at
        all if they have changed since they were read, or are not `claimed` as they were then.
        """
        if not unusable:
            return []
        now = self._clock.now()
        operations, items = [], []
        for document, kind, why in unusable:
            failure = Failure(kind=kind, code=kind.value, message=masked(why), at=now)
            before = failure_of(document)
            changes = {"last_failure": failure_document(failure), "due_at": now + SET_ASIDE_FOR}
            operations.append(UpdateOne({**_as_read(document), **claimed}, {"$set": changes}))
            items.append(
                SetAside(
                    token=str(document["_id"]),
                    provider=str(document.get("provider")),
                    kind=kind,
                    code=failure.code,
                    message=failure.message,
                    new=before is None or (before.kind, before.message) != (kind, failure.message),
                )
            )
        await self._mongo.promised(self._mongo.tokens.bulk_write(operations, ordered=False))
        return items

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give back claims under which nothing was presented; one that was in doubt before stays ours."""
        if not claims:
            return
        claim_id, ids = claims[0].id, [claim.token.id for claim in claims]
        try:
            await self._release(claim_id, ids)
        except StoreLost:
            self._burnt.append((claim_id, list(ids)))
            raise

    async def _release(self, claim_id: str, ids: Sequence[object]) -> None:
        ours = {"_id": {"$in": list(ids)}, "lease.claim": claim_id}
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
        """Write `change` if the document still holds what was presented; else give the claim back.

        Raises StoreLost, or Unusable where what is stored now can't be compared or changed.
        """
        recorded = await self._records.record(claim, change)
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


def _fields_of(provider: Provider) -> Mapping[str, int]:
    """What a claim needs of a document; the access token only where it is what is presented."""
    return CLAIMED_FIELDS | ({"access_token": 1} if provider.definition.grant is Grant.EXCHANGE else {})


def _as_read(document: Document) -> dict[str, object]:
    """The condition that what makes a document unusable, and when it is due, are still as they were read."""
    return {name: {"$eq": document.get(name)} for name in ("_id", "refresh_token", "due_at", "revision")}


def _perhaps_spent(document: Document, owner: str) -> dict[str, object]:
    """A lease that is still there means: its owner may have presented the value, and no answer was recorded. Taken
    from another instance, that one is named: its journal may hold the answer.
    """
    lease, doubt = document["lease"], document.get("doubt")
    if not isinstance(lease, Mapping):
        return {}
    running = lease.get("claim") is not None
    before = doubt if isinstance(doubt, Mapping) else None
    if before is None and running:
        before = {"since": lease.get("since"), "tries": 0}
    if before is None:
        return {}
    tries = before.get("tries")
    asker = before.get("asker") if lease.get("owner") == owner else lease.get("owner")
    counted = (tries if isinstance(tries, int) else 0) + running
    return {"doubt": {"since": before.get("since"), "tries": counted, "asker": asker}}
