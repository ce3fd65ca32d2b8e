"""Due documents that can't be used: each is reported once per change and postponed, and does not delay other
renewals.

The defect is written onto the document if MongoDB allows it, so that all replicas and the count see it.
Otherwise this process remembers to skip the document.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bson.min_key import MinKey
from pymongo.errors import ExecutionTimeout

from daemon.adapters.mongo.bulk import Update, update_each
from daemon.adapters.mongo.connection import Mongo, due
from daemon.adapters.mongo.document_limits import NAMED, NAMELESS, SHORT_FAILURE, SHORT_ID, short_text
from daemon.adapters.mongo.leases import free
from daemon.adapters.mongo.token_changes import failure_document
from daemon.adapters.mongo.token_document import Document, failure_of
from daemon.domain.claim import SetAside
from daemon.domain.quarantine import Quarantine
from daemon.domain.secret import masked
from daemon.domain.token import Failure, FailureKind

SET_ASIDE_FOR = timedelta(minutes=5)  # the longest wait for a token after its document was corrected
# For a document that MongoDB refuses to change.
FIRST_REST, LONGEST_REST = timedelta(seconds=10), timedelta(hours=1)
AT_ONCE = 500
NAMELESS_EVERY = timedelta(seconds=10)
NAMELESS_SHARE = 100  # ... and at most so small a part of the time
NAMELESS_AT_ONCE = 100
NAMELESS_LIMIT = timedelta(seconds=2)

TOO_LARGE = "the fields that a claim reads exceed 64 KB in total"
NOT_CONFIGURED = "no client is configured for this provider"
NO_NAME = "_id is not a string of at most 700 characters"

ANY = {"$gte": MinKey()}  # named, so that MongoDB uses the index of due tokens

# The fields read of a document that is set aside without reading its content.
UNREAD_FIELDS: Mapping[str, object] = {
    "last_failure": SHORT_FAILURE,
    "provider": short_text("$provider", otherwise=""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A document that can't be used. It is set aside only if it meets `unchanged`, so not if it was corrected
    since.
    """

    document: Document
    kind: FailureKind = FailureKind.UNREADABLE
    why: str
    unchanged: Mapping[str, object]

    @property
    def name(self) -> str:
        return str(self.document["_id"])


class MongoSetAside:
    """Every method raises StoreLost."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._clock = mongo.clock
        self.quarantine = Quarantine(first=FIRST_REST, last=LONGEST_REST)
        self._nameless: set[str] = set()
        self._nameless_at = timedelta(0)  # by the boot clock: when they are looked for next

    async def set_aside(self, unfit: Sequence[Unfit]) -> list[SetAside]:
        """Note the defect and look again later. Nothing else of the documents is changed."""
        if not unfit:
            return []
        now = self._clock.now()
        later = now + SET_ASIDE_FOR
        updates, items = [], []
        for one in unfit:
            failure = Failure(kind=one.kind, code=one.kind.value, message=masked(one.why), at=now)
            before = failure_of(one.document)
            changes = {"last_failure": failure_document(failure), "due_at": later}
            updates.append(Update(ids=[one.name], condition=one.unchanged, change={"$set": changes}))
            new = before is None or (before.kind, before.message) != (one.kind, failure.message)
            items.append(_item(one, failure.message, new=new))
        done = await update_each(self._mongo, updates)
        if done.matched == len(unfit):
            return items
        names = [one.name for one in unfit]
        put_off = await self._mongo.guarded(
            self._mongo.tokens.find({"_id": {"$in": names}, "due_at": later}, {"_id": 1}).to_list()
        )
        return self._kept_in_mind(items, {row["_id"] for row in put_off})

    async def unread(self, names: Sequence[str], why: str, unchanged: Mapping[str, object]) -> list[SetAside]:
        """Set documents aside after reading only their ids and the reason of an earlier time."""
        query = {"_id": {"$in": list(names)}, **unchanged}
        found = await self._mongo.guarded(self._mongo.tokens.find(query, UNREAD_FIELDS).to_list())
        return await self.set_aside([Unfit(document=one, why=why, unchanged=unchanged) for one in found])

    def refused(self, whys: Mapping[str, str], provider: str) -> list[SetAside]:
        """Set aside documents that MongoDB did not let refreshd claim."""
        return [
            self._in_quarantine(
                token=name, provider=provider, message=f"MongoDB rejects changes to it: {why}"
            )
            for name, why in whys.items()
        ]

    def _kept_in_mind(self, items: Iterable[SetAside], put_off: Collection[object]) -> list[SetAside]:
        """Skip documents in this process that could not be postponed in the store."""
        return [
            one
            if one.token in put_off
            else self._in_quarantine(
                token=one.token, provider=one.provider, message=one.message, kind=one.kind
            )
            for one in items
        ]

    def _in_quarantine(
        self, *, token: str, provider: str, message: str, kind: FailureKind = FailureKind.UNREADABLE
    ) -> SetAside:
        new = self.quarantine.put(token, message, now=self._clock.boot())
        return SetAside(token=token, provider=provider, kind=kind, code=kind.value, message=message, new=new)

    # ---------------------------------------------------------------- what no claim finds

    async def unclaimed(self, configured: Collection[str]) -> list[SetAside]:
        """Yield due documents that no claim finds: those of other providers, and now and then those whose
        `_id` can't be a token's.
        """
        return [*await self._unconfigured(configured), *await self._without_name()]

    async def _unconfigured(self, configured: Collection[str]) -> list[SetAside]:
        """Report documents of unconfigured providers. Another replica may have the client, so its claims are
        not touched.
        """
        now = self._clock.now()
        strangers = {"provider": {"$nin": list(configured)}, "due_at": due(now), **free(now)}
        query = {**strangers, **NAMED, "_id": {"$nin": list(self.quarantine.held(self._clock.boot()))}}
        found = await self._mongo.guarded(
            self._mongo.tokens.find(query, UNREAD_FIELDS).limit(AT_ONCE).to_list()
        )
        return await self.set_aside(
            [
                Unfit(document=one, kind=FailureKind.UNCONFIGURED, why=NOT_CONFIGURED, unchanged=strangers)
                for one in found
            ]
        )

    async def _without_name(self) -> list[SetAside]:
        """Report documents without a usable id. They can't be updated by id, and there may be any number:
        each is reported once, at most 100.
        """
        begun = self._clock.boot()
        if begun < self._nameless_at:
            return []
        names = {"_id": 0, "name": SHORT_ID, "provider": short_text("$provider", otherwise="")}
        query = {"provider": ANY, "due_at": due(self._clock.now()), **NAMELESS}
        found = self._mongo.tokens.find(query, names)
        found = found.limit(NAMELESS_AT_ONCE).max_time_ms(NAMELESS_LIMIT // timedelta(milliseconds=1))

        async def rows() -> list[dict[str, object]]:
            try:
                return await found.to_list()
            except ExecutionTimeout:  # so much is due that this must wait
                return []

        items, named = [], await self._mongo.guarded(rows())
        took = self._clock.boot() - begun
        self._nameless_at = begun + max(NAMELESS_EVERY, NAMELESS_SHARE * took)
        for row in named:
            name, kind = str(row["name"]), FailureKind.UNREADABLE
            if name not in self._nameless and len(self._nameless) < NAMELESS_AT_ONCE:
                self._nameless.add(name)
                items.append(
                    SetAside(
                        token=name,
                        provider=str(row["provider"]),
                        kind=kind,
                        code=kind.value,
                        message=NO_NAME,
                        new=True,
                    )
                )
        return items


def _item(one: Unfit, message: str, *, new: bool) -> SetAside:
    return SetAside(
        token=one.name,
        provider=str(one.document.get("provider")),
        kind=one.kind,
        code=one.kind.value,
        message=message,
        new=new,
    )
