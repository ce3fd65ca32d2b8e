"""The audit of access keys: each deed is recorded before it is done, by inserts only. The access service has no right to
change a record.
"""

from collections.abc import Callable

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from daemon.adapters.mongo.audit import ACCESS, Record
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.stored_grant import Author


class AccessAudit:
    """Writes records in the name of `author`. `log` receives each written record."""

    def __init__(self, mongo: Mongo, *, author: Author, log: Callable[[Record], None]) -> None:
        self._mongo = mongo
        self._author = author
        self._log = log

    async def note(
        self,
        action: str,
        target: str | None,
        revision: object = None,
        *,
        audit_id: ObjectId | None = None,
        result: str | None = None,
        subject: str | None = None,
        count: int | None = None,
    ) -> None:
        """Write one record about the token `target`. `subject`: to whom a consent is to belong. `count`: of several consents
        without a `target`. Raises StoreLost.

        An operation that is tried again, with the same `audit_id`, gets another record of the same attempt.
        """
        author = self._author
        record: dict[str, object] = {
            "at": self._mongo.clock.now(),
            "action": action,
            "token": target,
            "actor": author.name,
            "by": {"key": author.key, "name": author.name, "ip": author.ip, "peer": author.peer},
            "kind": ACCESS,
            "result": result,
            "count": count,
            "revision": revision,
            **({} if subject is None else {"subject": subject}),
        }
        try:
            await self._mongo.tried(self._mongo.audit.insert_one({"_id": audit_id or ObjectId(), **record}))
        except DuplicateKeyError:
            await self._mongo.guarded(self._mongo.audit.insert_one({"_id": ObjectId(), **record}))
        self._log(record)


class AccessDeeds:
    """Implements `serving.ports.Deeds`."""

    def __init__(self, mongo: Mongo, *, log: Callable[[Record], None]) -> None:
        self._mongo = mongo
        self._log = log

    async def note(
        self,
        author: Author,
        action: str,
        token: str | None,
        *,
        result: str | None = None,
        subject: str | None = None,
        count: int | None = None,
    ) -> None:
        audit = AccessAudit(self._mongo, author=author, log=self._log)
        await audit.note(action, token, result=result, subject=subject, count=count)
