"""Pauses of providers, agreed by all replicas: one document for each provider, and one replica that
probes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.pause_events import resumed
from daemon.domain.circuit_breaker import Pause, Reason, is_probed, probe_after
from daemon.domain.provider import Provider

_MOST = 2**31 - 1  # of what is counted: one more must fit the field again


class MongoPauses:
    """Implements `refreshing.ports.Pauses`. Every method raises StoreLost."""

    def __init__(self, mongo: Mongo, *, keyring: Callable[[], KeyRing]) -> None:
        self._mongo = mongo
        self._keyring = keyring

    async def pause(self, provider: Provider, reason: Reason) -> None:
        """Pause `provider`, unless it is paused already: an operator's pause is never overwritten."""
        now = self._mongo.clock.now()
        first = now + probe_after(reason, 0) if is_probed(provider, reason) else None
        paused = {
            "reason": reason.value,
            "since": now,
            "next_probe_at": first,
            "probes": 0,
            "next_retry_at": first,
            "retries": 0,
            "client": self.client_of(provider),
        }
        unless = {"$ifNull": ["$paused", {"$literal": paused}]}
        await self._mongo.guarded(
            self._mongo.providers.update_one(
                {"_id": provider.name}, [{"$set": {"paused": unless}}], upsert=True
            )
        )

    async def take_turn(self, provider: Provider, pause: Pause, proven: bool = True) -> bool:
        """Return whether this instance sends the next probe: no other has taken it since `pause` was read."""
        unchanged = {
            "_id": provider.name,
            "paused.reason": pause.reason.value,
            "paused.since": pause.since,
            "$expr": {
                "$and": [
                    {"$eq": [_COUNTED["probes"], pause.probes]},
                    {"$eq": [_COUNTED["retries"], pause.retries]},
                ]
            },
        }
        after = pause.after(self._mongo.clock.now(), proven=proven)
        if not is_probed(provider, pause.reason):  # another client was tried
            after = replace(after, next_probe_at=None, next_retry_at=None)
        taken = {
            "paused.probes": after.probes,
            "paused.next_probe_at": after.next_probe_at,
            "paused.retries": after.retries,
            "paused.next_retry_at": after.next_retry_at,
            "paused.client": self.client_of(provider),
        }
        result = await self._mongo.guarded(self._mongo.providers.update_one(unchanged, {"$set": taken}))
        return result.matched_count == 1

    async def resume(self, provider: Provider) -> None:
        """End the pause, unless it is an operator's."""
        ours = {"_id": provider.name, "paused.reason": {"$ne": Reason.OPERATOR.value}}
        await self._mongo.guarded(self._mongo.providers.update_one(ours, resumed(self._mongo.clock.now())))

    def client_of(self, provider: Provider) -> str:
        """Return a value that differs between clients and shows nothing about the secret."""
        secret = provider.client_secret.reveal() if provider.client_secret else ""
        definition = provider.definition
        client = (
            provider.client_id,
            secret,
            provider.client_fingerprint,
            definition.token_url,
            definition.client_auth,
        )
        return self._keyring().fingerprint(json.dumps(client))


def pause_of(row: Mapping[str, object]) -> Pause:
    """Return the pause in a provider's document. Invalid content counts as an operator's pause."""
    stored = row.get("paused")
    if not isinstance(stored, Mapping):
        return Pause(reason=Reason.OPERATOR)
    reason, client = stored.get("reason"), stored.get("client")
    return Pause(
        reason=Reason(reason) if type(reason) is str and reason in set(Reason) else Reason.OPERATOR,
        since=_date(stored.get("since")),
        next_probe_at=_date(stored.get("next_probe_at")),
        probes=_count(stored.get("probes")),
        next_retry_at=_date(stored.get("next_retry_at")),
        retries=_count(stored.get("retries")),
        client=client if type(client) is str else None,
    )


def _date(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _count(value: object) -> int:
    """Return a stored count. Whatever else another program has stored in its place counts as none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


def _counted(path: str) -> dict[str, object]:
    """Return the expression of what `_count` reads at `path`."""
    is_whole = {"$in": [{"$type": path}, ["int", "long"]]}
    is_count = {"$and": [is_whole, {"$gte": [path, 0]}, {"$lt": [path, _MOST]}]}
    return {"$cond": [is_count, path, 0]}


_COUNTED = {name: _counted(f"$paused.{name}") for name in ("probes", "retries")}
