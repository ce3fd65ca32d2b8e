"""Which replica writes a mirror of rows: one at a time, by a lease in MongoDB."""

from datetime import timedelta

from pymongo.errors import DuplicateKeyError

from daemon.adapters.mongo.connection import Mongo

LEASE = timedelta(minutes=1)


class MirrorLease:
    """The lease of the mirror of one place, for the instance `owner`."""

    def __init__(self, mongo: Mongo, place: str, *, owner: str) -> None:
        self._mongo = mongo
        self._place = place
        self._owner = owner

    async def hold(self) -> bool:
        """Take the lease, or extend it. Returns False while another instance holds it. Raises StoreLost."""
        now = self._mongo.clock.now()
        free = {"_id": self._place, "$or": [{"owner": self._owner}, {"until": {"$lte": now}}]}
        lease = {"$set": {"owner": self._owner, "until": now + LEASE}}
        try:
            await self._mongo.tried(self._mongo.mirrors.update_one(free, lease, upsert=True))
        except DuplicateKeyError:
            return False
        return True
