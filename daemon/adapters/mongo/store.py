"""The store's half of rotation safety: claims that only one replica can hold. `fenced_writes` has the other
half.

A lease that remains on a document means that its owner may have spent the token. So an unused claim is given
back, and a claim that takes over an earlier one notes a doubt.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import uuid4

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.bulk import Update, Updated, update_each
from daemon.adapters.mongo.clock_steps import ClockSteps
from daemon.adapters.mongo.connection import Mongo, due
from daemon.adapters.mongo.document_limits import READABLE, echoed_text
from daemon.adapters.mongo.due import DueTokens, Look
from daemon.adapters.mongo.fenced_writes import MongoRecords
from daemon.adapters.mongo.keys import openable
from daemon.adapters.mongo.leases import HELD, UNHELD, taken_over
from daemon.adapters.mongo.removals import removed_claim
from daemon.adapters.mongo.resting import pause_of_one, resting
from daemon.adapters.mongo.set_aside import TOO_LARGE, MongoSetAside, Unfit
from daemon.adapters.mongo.token_document import (
    CLAIMED_FIELDS,
    Document,
    InvalidDocument,
    allowed_token,
    presented_field,
    standing_of,
    token_of,
)
from daemon.adapters.mongo.writers_texts import WritersTexts
from daemon.domain.change import Change
from daemon.domain.circuit_breaker import Pause
from daemon.domain.claim import Batch, Claim, Recorded, SetAside, StoreLost, Survey, Unusable
from daemon.domain.journal_entry import Entry
from daemon.domain.locked import Standing
from daemon.domain.provider import Grant, Provider
from daemon.domain.stored_grant import REMOVED
from daemon.domain.token import State

NOTHING = Batch(items=(), more=False)
_REVOKING = State.REVOKING.value


class MongoStore:
    """Implements `refreshing.ports.Store`. `owner` is this instance's id. `max_clock_skew`: see
    ClockSteps.
    """

    def __init__(
        self,
        mongo: Mongo,
        *,
        owner: str,
        keyring: Callable[[], KeyRing],
        lease: timedelta,
        hold: Callable[[Provider], timedelta],
        max_clock_skew: timedelta = timedelta(seconds=30),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._mongo = mongo
        self._clock = mongo.clock
        self._owner = owner
        self._keyring = keyring
        self._lease = lease
        self._hold = hold
        self._steps = ClockSteps(mongo.clock, tolerated=max_clock_skew)
        self._due = DueTokens(mongo, chance=chance)
        self._burnt: dict[str, set[str]] = {}  # claims to be given back, each with its tokens
        self._set_aside = MongoSetAside(mongo)
        self._writers_texts = WritersTexts(mongo, keyring)
        self._records = MongoRecords(mongo, keyring=keyring)

    # ---------------------------------------------------------------- before a sweep

    async def survey(self, configured: Collection[str]) -> Survey:
        """Return the paused providers and due documents that no claim finds. Also gives back unused
        claims.
        """
        await self._mongo.hello()
        if (wrong := self._steps.distrust()) is not None:
            raise StoreLost(wrong)
        await self._release_burnt()
        paused = await resting(self._mongo, above_all=configured)
        return Survey(paused=paused, set_aside=await self._set_aside.unclaimed(configured))

    async def pause_of(self, provider: Provider) -> Pause | None:
        """Return the pause of `provider` as it is stored now."""
        return await pause_of_one(self._mongo, provider.name)

    async def due(self, providers: Collection[str]) -> Collection[str]:
        """Return the providers with due tokens, with one command for any number of providers."""
        return await self._due.providers(providers, self._clock.now())

    # ---------------------------------------------------------------- claims

    async def claim(
        self, provider: Provider, *, limit: int, busy: Collection[str], doubtful: bool = False
    ) -> Batch:
        """Claim due tokens with two commands for any number of tokens, and one query of due tokens for
        several claims.

        The first command takes them, the second reads those that were really taken.
        """
        look = self._look(provider, limit, busy)
        if look is None:
            return NOTHING
        if doubtful:
            found, more = await self._due.doubtful(look), False
        else:
            found, more = await self._due.next(look)
        items = await self._claimed(look, found)
        return Batch(items=items, more=more and not self._set_aside.quarantine.full)

    async def claim_wished(
        self, provider: Provider, *, tokens: Collection[str], busy: Collection[str]
    ) -> Batch:
        """Claim those of `tokens` that are due, under the same conditions as any others."""
        look = self._look(provider, len(tokens), busy)
        if look is None:
            return NOTHING
        return Batch(items=await self._claimed(look, await self._due.wished(look, tokens)), more=False)

    async def probe(self, provider: Provider, *, limit: int, busy: Collection[str], proven: bool) -> Batch:
        """Claim random proven tokens, so that the answer concerns the provider and not one token; or the
        healthiest of all.
        """
        look = self._look(provider, limit, busy)
        if look is None:
            return NOTHING
        found = await (self._due.proven(look) if proven else self._due.healthiest(look))
        return Batch(items=await self._claimed(look, found), more=False)

    def _look(self, provider: Provider, limit: int, busy: Collection[str]) -> Look | None:
        """Return the query, or None if nothing is to be claimed. (A limit of 0 means no limit to MongoDB.)"""
        if limit < 1 or self._steps.distrust() is not None:
            return None
        return Look(
            provider=provider,
            limit=limit,
            busy=frozenset().union(
                busy, self._set_aside.quarantine.held(self._clock.boot()), *self._burnt.values()
            ),
            owner=self._owner,
            now=self._clock.now(),
            asked=self._clock.boot(),
            openable=openable(self._keyring(), presented_field(provider.definition.grant)),
            adopting=self._steps.steady_for(self._lease + self._hold(provider)),
        )

    async def _claimed(self, look: Look, found: Sequence[Document]) -> Sequence[Claim | SetAside]:
        """Claim those of the documents `found` that are still free, and read the claimed ones."""
        large = [str(document["_id"]) for document in found if document["large"]]
        items: list[Claim | SetAside] = []
        if large:
            items += await self._set_aside.unread(large, TOO_LARGE, look.claimable)
        free = [str(one["_id"]) for one in found if not one["large"] and not one["held"]]
        held = [str(one["_id"]) for one in found if not one["large"] and one["held"]]
        if not (names := [*free, *held]):
            return items
        claim_id = uuid4().hex
        try:
            taken = await self._take(look, claim_id, free=free, held=held)
            if taken.matched < len(names):
                self._due.forget(look.provider)
            items += self._set_aside.refused(taken.refused, look.provider.name)
            items += await self._read(look, claim_id, names, taken=taken.matched)
        except BaseException:
            self._burn(claim_id, names)
            raise
        return items

    async def _take(self, look: Look, claim_id: str, *, free: Sequence[str], held: Sequence[str]) -> Updated:
        """Write the lease onto those that are still free. Raises StoreLost unless a majority acknowledges
        it.
        """
        until = look.now + self._lease
        hold = until + self._hold(look.provider)
        lease = {"owner": self._owner, "claim": claim_id, "since": look.now, "until": until, "hold": hold}
        earlier = {**look.claimable, "$expr": HELD, "lease.claim": {"$ne": claim_id}}
        over = taken_over(lease, owner=self._owner, now=look.now)
        return await update_each(
            self._mongo,
            [
                Update(
                    ids=free, condition={"due_at": due(look.now), **UNHELD}, change={"$set": {"lease": lease}}
                ),
                Update(ids=held, condition=earlier, change=over),
            ],
        )

    async def _read(
        self, look: Look, claim_id: str, names: Sequence[str], *, taken: int
    ) -> list[Claim | SetAside]:
        """Read the documents that were really claimed. Unusable ones are set aside, whatever the defect, and
        given back.
        """
        ours = {"_id": {"$in": list(names)}, "lease.claim": claim_id, "$expr": READABLE}
        claimed = await self._documents(ours, look.provider, len(names))
        documents, duplicates = await self._writers_texts.take_in(claimed, claim_id)
        claims: list[Claim] = []
        unfit: list[Unfit] = []
        for document in documents:
            try:
                claims.append(self._opened(look, document, claim_id))
            except (InvalidDocument, DecryptionError) as why:
                unfit.append(_unfit(document, claim_id, str(why)))
            except Exception as why:  # noqa: BLE001  one document must not stop the others
                unfit.append(_unfit(document, claim_id, f"it can't be read: {type(why).__name__}"))
        aside = await self._set_aside.set_aside(unfit)
        usable = {claim.token.id for claim in claims}
        if unfit or taken > len(documents):
            await self._release(claim_id, [name for name in names if name not in usable])
        self._set_aside.quarantine.release(usable)
        return [*claims, *aside, *duplicates]

    async def _documents(
        self, query: Mapping[str, object], provider: Provider, most: int
    ) -> Sequence[Document]:
        """Read the fields that a claim needs. The access token is one only if it is presented: for an exchange, or for a
        revocation. Those to be revoked are read again, because a condition in the projection would slow every claim.
        """
        tokens, guarded = self._mongo.tokens, self._mongo.guarded
        fields = _fields_of(provider)
        with_access = {**fields, "access_token": 1}
        exchange = provider.definition.grant is Grant.EXCHANGE
        found = tokens.find(query, with_access if exchange else fields).batch_size(most + 1)
        claimed: list[dict[str, object]] = await guarded(found.to_list())
        revoking = [one["_id"] for one in claimed if one.get("state") == _REVOKING]
        if exchange or not revoking:
            return claimed
        again = tokens.find({**query, "_id": {"$in": revoking}}, with_access)
        return [one for one in claimed if one.get("state") != _REVOKING] + await guarded(again.to_list())

    def _opened(self, look: Look, document: Document, claim_id: str) -> Claim:
        token = allowed_token(document, self._keyring(), look.provider)
        field = presented_field(look.provider.definition.grant_of(token.grant))
        sealed = document.get(field)
        return Claim(
            token=token,
            id=claim_id,
            spent=sealed if isinstance(sealed, str) else None,
            spent_field=field,
            deadline=look.asked + self._lease,
        )

    # ---------------------------------------------------------------- claims that are given back

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give back claims under which nothing was presented. One that was in doubt before stays with this
        instance.
        """
        for claim in claims:
            self._burn(claim.id, [claim.token.id])
        for claim_id in {claim.id for claim in claims}:
            await self._give_back(claim_id)

    def _burn(self, claim_id: str, names: Iterable[str]) -> None:
        """Note that the claim is given back, now or later, before anything is awaited that may fail."""
        self._burnt.setdefault(claim_id, set()).update(names)

    async def _release_burnt(self) -> None:
        for claim_id in list(self._burnt):
            await self._give_back(claim_id)

    async def _give_back(self, claim_id: str) -> None:
        names = frozenset(self._burnt.get(claim_id, ()))
        await self._release(claim_id, names)
        left = self._burnt.pop(claim_id, set()) - names
        if left:
            self._burn(claim_id, left)

    async def _release(self, claim_id: str, names: Collection[str]) -> None:
        ours = {"lease.claim": claim_id}
        in_doubt = {**ours, "doubt": {"$ne": None}}
        ids = list(names)
        await update_each(
            self._mongo,
            [
                Update(ids=ids, condition={**ours, "doubt": None}, change={"$set": {"lease": None}}),
                Update(ids=ids, condition=in_doubt, change={"$set": {"lease.claim": None}}),
            ],
        )

    # ---------------------------------------------------------------- records

    @property
    def written(self) -> int:
        """How many results this process has sent to MongoDB so far."""
        return self._records.written

    async def standings(self, tokens: Collection[str]) -> Mapping[str, Standing]:
        """Return the stored values under these ids, sealed."""
        query = {"_id": {"$in": list(tokens)}, "$expr": READABLE}
        fields = dict.fromkeys(("issued_at", "refresh_token", "access_token"), 1)
        found = await self._mongo.guarded(self._mongo.tokens.find(query, fields).to_list())
        return {str(document["_id"]): standing_of(document) for document in found}

    async def record(self, claim: Claim, change: Change) -> Recorded:
        """Write `change` if the document still holds the presented value; otherwise give the claim back.

        Raises StoreLost, or Unusable if the stored document can't be compared or changed.
        """
        recorded = await self._records.record(claim, change)
        if recorded is Recorded.SUPERSEDED:
            await self.release([claim])
        return recorded

    async def removed(self, entry: Entry, *, alone: bool) -> Claim | None:
        """Return the claim of an entry whose document was removed on purpose. The mark of a removal shows that, or the audit:
        documents are missing from a restored or a wrong database, too.
        """
        return await removed_claim(
            self._mongo, entry, keyring=self._keyring(), since=entry.reply.asked_at - self._lease, alone=alone
        )

    async def recall(self, entry: Entry) -> Claim | None:
        """Return the token as it is stored now, but with the value that the entry's request presented.

        None: it is stored no longer, or an application has removed it. Of a revoked token only the tombstone is left.
        """
        tokens, guarded = self._mongo.tokens, self._mongo.guarded
        query = {"_id": entry.token, "$expr": READABLE}
        document = await guarded(tokens.find_one(query, CLAIMED_FIELDS))
        if document is None:
            if await guarded(tokens.find_one({"_id": entry.token}, {"_id": 1})) is None:
                return None
            raise Unusable(TOO_LARGE)
        if document.get("state") == REMOVED:
            return None
        try:
            token = token_of({**document, entry.spent_field: entry.spent}, self._keyring())
        except (InvalidDocument, DecryptionError) as why:
            raise Unusable(str(why)) from None
        return Claim(
            token=token,
            id=entry.claim,
            spent=entry.spent,
            spent_field=entry.spent_field,
            deadline=timedelta(0),
        )


def _fields_of(provider: Provider) -> Mapping[str, object]:
    """Return the fields that a claim needs of a document, but for the access token."""
    echoed = {name: echoed_text(f"$extra.{name}") for name in provider.definition.echo}
    return {**CLAIMED_FIELDS, "extra": echoed} if echoed else CLAIMED_FIELDS


def _unfit(document: Document, claim_id: str, why: str) -> Unfit:
    """Set aside only if the defect and the due date are still as they were read. Of a string that is not
    UTF-8, only its type can be compared.
    """
    unchanged: dict[str, object] = {"lease.claim": claim_id}
    for name in ("refresh_token", "due_at", "revision"):
        value = document.get(name)
        spoilt = isinstance(value, str) and "\ufffd" in value
        unchanged[name] = {"$type": "string"} if spoilt else {"$eq": value}
    return Unfit(document=document, why=why, unchanged=unchanged)
