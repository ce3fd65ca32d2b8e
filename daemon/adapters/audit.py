"""The audit: who did what to which token. A record is written before the deed; where it can't be, nothing is done."""

from bson import ObjectId

from daemon.adapters.mongo import Mongo


class Audit:
    """Writes in the name of `actor`, as "user@host"."""

    def __init__(self, mongo: Mongo, *, actor: str) -> None:
        self._mongo = mongo
        self.actor = actor

    async def note(
        self, action: str, target: str, revision: object, *, audit_id: ObjectId | None = None
    ) -> None:
        """Write one record about `target`, a token's id or a provider. Under the same `audit_id` again, the last word
        counts: a deed that was tried twice is one deed. Raises StoreLost.
        """
        record = {
            "at": self._mongo.clock.now(),
            "action": action,
            "token": target,
            "actor": self.actor,
            "revision": revision,
        }
        await self._mongo.promised(
            self._mongo.audit.replace_one({"_id": audit_id or ObjectId()}, record, upsert=True)
        )
