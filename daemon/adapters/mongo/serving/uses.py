"""Counted uses of access keys in MongoDB. They end by themselves, and are not in the audit's own collection: there the
access service may only insert.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import NamedTuple

from pymongo import UpdateMany, UpdateOne
from pymongo.errors import PyMongoError

from daemon.adapters.mongo.audit import ACCESS
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.upserts import already_there, batches, write
from daemon.adapters.mongo.stored_number import LARGEST_EXACT
from daemon.adapters.mongo.token_document import as_stored
from daemon.domain.use import DAY, UNAUTHORIZED, Use, UseKey

MOST_SEEN = 200_000  # rows, of some 80 bytes each
LAST_USED_WITHIN = timedelta(minutes=10)  # the precision of a token's `last_used_at`
_SOUND = {"$gte": 0, "$lte": LARGEST_EXACT, "$not": {"$type": "array"}}  # a number that can be added to
OF_KEY = "key"  # the kind of the row that says when a key was last used

Fields = Mapping[str, object]


class _Row(NamedTuple):
    """A count as it is to be stored. `fixed`: the fields that all rows of the key share, with room for `token` and `actor`.
    `whole`: the same, with room for all fields.
    """

    id: str
    key: UseKey
    use: Use
    fixed: dict[str, object]
    whole: dict[str, object]
    by: Fields

    def document(self) -> dict[str, object]:
        # The access service overwrites freed memory, so each growth has a price.
        new, use = dict(self.whole), self.use
        new["_id"], new["token"], new["actor"], new["by"] = self.id, self.key.token, use.name, self.by
        new["at"], new["count"] = use.at, use.count
        return new

    def change(self) -> UpdateOne:
        use, new = self.use, dict(self.fixed)
        new["token"], new["actor"] = self.key.token, use.name
        change = {
            "$inc": {"count": use.count},
            "$max": {"at": use.at},
            "$set": {"by": self.by},
            "$setOnInsert": new,
        }
        # A row that another program has spoilt stays as it is: MongoDB would refuse to add to it, and all counts with it.
        return UpdateOne({"_id": self.id, "count": _SOUND}, change, upsert=True)


class ServedUses:
    """Implements `serving.ports.Uses`. `retention`: how long a count is kept after its day."""

    def __init__(self, mongo: Mongo, *, retention: timedelta) -> None:
        self._mongo = mongo
        self._retention = retention
        self._seen: set[int] = set()  # the hashes of stored rows; if a row has gone, its update inserts it

    async def add(self, uses: dict[UseKey, Use]) -> None:
        # First what may be written twice: after a loss, only the counts that are left are added again.
        await write(self._mongo, self._mongo.access_use, [*_of_keys(uses)])
        await self._touch({key.token for key in uses if key.token is not None})
        for some in batches(self._rows(uses)):
            await self._add(some, uses)

    def _rows(self, uses: Mapping[UseKey, Use]) -> Sequence[_Row]:
        """Return the rows of these counts, in the order of their ids, because neighbours in an index share pages."""
        known: dict[tuple[object, ...], tuple[str, dict[str, object], dict[str, object]]] = {}
        callers: dict[tuple[object, ...], Fields] = {}
        rows = []
        for key, use in uses.items():
            common = (key.action, key.key, key.result, key.since)
            if (same := known.get(common)) is None:
                same = known[common] = self._common(key)
            caller = (key.key, use.name, use.ip, use.peer, use.workload)
            if (by := callers.get(caller)) is None:
                by = callers[caller] = _by(key, use)
            rows.append(_Row(same[0] + (key.token or ""), key, use, same[1], same[2], by))
        rows.sort(key=itemgetter(0))
        return rows

    def _common(self, key: UseKey) -> tuple[str, dict[str, object], dict[str, object]]:
        """Return how the ids of a key's rows begin, and what their documents have in common."""
        fixed: dict[str, object] = {
            "token": None,
            "actor": None,
            "action": key.action,
            "kind": ACCESS,
            "result": key.result,
            "since": key.since,
            "ends_at": key.since + DAY + self._retention,
        }
        begins = f"{key.action} {key.key} {key.since:%Y-%m-%dT%H} {key.result or ''} "
        return begins, fixed, {"_id": None, **fixed, **dict.fromkeys(("by", "at", "count"))}

    async def _touch(self, tokens: Collection[str]) -> None:
        """Write when tokens were used, unless that is known to `LAST_USED_WITHIN`. It costs more than the counts: the token's
        document is written, and every change stream looks at it.
        """
        now = as_stored(self._mongo.clock.now())
        outdated = {"last_used_at": {"$not": {"$gte": now - LAST_USED_WITHIN}}}
        await write(
            self._mongo,
            self._mongo.tokens,
            [
                UpdateMany({"_id": {"$in": some}, **outdated}, {"$set": {"last_used_at": now}})
                for some in batches(sorted(tokens))
            ],
        )

    async def _add(self, rows: Sequence[_Row], uses: dict[UseKey, Use]) -> None:
        """Insert the rows that are new to this process, and add to the others. To MongoDB, an insert costs a third of an
        update that may insert.
        """
        inserted = await self._inserted([row for row in rows if hash(row.key) not in self._seen])
        self._finish((row for row in rows if row.id in inserted), uses)
        others = [row for row in rows if row.id not in inserted]
        await write(self._mongo, self._mongo.access_use, [row.change() for row in others])
        self._finish(others, uses)

    def _finish(self, rows: Iterable[_Row], uses: dict[UseKey, Use]) -> None:
        """Forget counts that are stored, and remember that their rows are there."""
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        for row in rows:
            del uses[row.key]
            self._seen.add(hash(row.key))

    async def _inserted(self, new: Sequence[_Row]) -> Collection[str]:
        """Insert rows, and return their ids, without those that are there already: another process has inserted them, or
        this one did before a loss of the store. Raises StoreLost.
        """
        if not new:
            return ()
        there: set[int] = set()
        try:
            await self._mongo.access_use.insert_many([row.document() for row in new], ordered=False)
        except PyMongoError as error:
            there.update(already_there(self._mongo, error))
        self._mongo.seen()
        return {row.id for index, row in enumerate(new) if index not in there}


def _by(key: UseKey, use: Use) -> Fields:
    """Return the last caller, with the claims of its JWT if it is a workload."""
    by = {"key": key.key, "name": use.name, "ip": use.ip, "peer": use.peer}
    one = use.workload
    return by if one is None else {**by, "iss": one.issuer, "sub": one.subject, "jti": one.jwt}


def _of_keys(uses: Mapping[UseKey, Use]) -> Iterable[UpdateOne]:
    """Yield when each access key was last used. Workloads have no such row: it would never end."""
    latest: dict[str, Use] = {}
    for key, use in uses.items():
        if key.result == UNAUTHORIZED:
            continue
        if use.workload is None and (key.key not in latest or latest[key.key].at < use.at):
            latest[key.key] = use
    for key_id, use in latest.items():
        at = {"$max": {"last_used_at": as_stored(use.at)}}
        yield UpdateOne(
            {"_id": f"{OF_KEY} {key_id}"}, {**at, "$set": {"kind": OF_KEY, "key": key_id}}, upsert=True
        )
