"""The tokens of a run: written as the daemon itself would have left them, then made due all at once."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database
from support.processes import KEY_ID, PROVIDER

from daemon.adapters.keyring import KEY_BYTES, KeyRing

INSERTED_AT_ONCE = 2_000
LIFETIME = timedelta(hours=1)
WINDOW = timedelta(minutes=5)


class Tokens:
    """A collection of sealed tokens of one provider."""

    def __init__(
        self, database: Database[dict[str, Any]], *, provider: str = PROVIDER, key: bytes | None = None
    ) -> None:
        self.key = key or os.urandom(KEY_BYTES)
        self._provider = provider
        self.count = 0
        self._ring = KeyRing({KEY_ID: self.key}, active=KEY_ID)
        self._collection = database["tokens"]

    def insert(self, count: int) -> None:
        """`count` tokens, none due within the hour."""
        self.count = count
        for start in range(0, count, INSERTED_AT_ONCE):
            stop = min(count, start + INSERTED_AT_ONCE)
            self._collection.insert_many([self._document(number) for number in range(start, stop)])

    def make_due(self, at: datetime) -> None:
        """All of them, from `at` on. With `updated_at`, which a write of refreshd's own has: without it, each would be an
        application's wish for a renewal, and the daemon would hear of every single one.
        """
        now = datetime.now(UTC)
        self._collection.update_many(
            {}, {"$set": {"due_at": at, "expires_at": at + WINDOW, "updated_at": now}}
        )

    def renewed(self) -> int:
        """How many a daemon has recorded exactly one renewal of, with no claim left on them."""
        once = {"state": "active", "revision": 2, "failures": 0, "lease": None}
        return self._collection.count_documents({**once, "due_at": {"$gt": datetime.now(UTC)}})

    def renewed_between(self) -> tuple[datetime, datetime]:
        """When the first was asked for and when the last was written."""
        group = {"_id": None, "first": {"$min": "$issued_at"}, "last": {"$max": "$updated_at"}}
        (row,) = self._collection.aggregate([{"$group": group}])
        return row["first"], row["last"]

    def leads(self, expires_at: datetime) -> list[timedelta]:
        """The time that each old token, good until `expires_at`, had left when the new one was stored, shortest first."""
        return sorted(expires_at - one["updated_at"] for one in self._collection.find({}, {"updated_at": 1}))

    def delays(self, due_at: datetime) -> list[timedelta]:
        """How long after `due_at` each was renewed, shortest first."""
        renewed = self._collection.find({"provider": self._provider, "refreshed_at": {"$gt": due_at}})
        return sorted(document["refreshed_at"] - due_at for document in renewed)

    def different_successors(self) -> int:
        return len(self._collection.distinct("grant_fingerprint"))

    def one_opens(self) -> bool:
        """Whether what is stored now is what the endpoint gives."""
        document = self._collection.find_one() or {}
        opened = self._ring.open(
            document.get("refresh_token"), token_id=document["_id"], field="refresh_token"
        )
        return opened.startswith("1//0g/")

    def _document(self, number: int) -> dict[str, object]:
        account = f"company-{number:06}"
        name, now = f"{self._provider}:{account}", datetime.now(UTC)
        old = f"1//0g/{os.urandom(16).hex()}+AAB/{os.urandom(16).hex()}-L9Ir"
        access = f"ya29.a0/{os.urandom(80).hex()}"
        return {
            "_id": name,
            "provider": self._provider,
            "account": account,
            "state": "active",
            "grant": "refresh_token",
            "access_token": self._ring.seal(access, token_id=name, field="access_token"),
            "refresh_token": self._ring.seal(old, token_id=name, field="refresh_token"),
            "token_type": "Bearer",
            "scope": "contacts.read deals.write",
            "expires_at": now + 2 * LIFETIME,
            "refresh_expires_at": None,
            "due_at": now + LIFETIME,
            "lease": None,
            "doubt": None,
            "grant_fingerprint": self._ring.fingerprint(old),
            "revision": 1,
            "failures": 0,
            "last_failure": None,
            "created_at": now,
            "updated_at": now,
            "issued_at": now,
            "refreshed_at": now,
            "last_used_at": None,
            "vars": {},
            "extra": {},
            "meta": {"name": f"Company {number}"},
        }
