"""Operators' pauses of providers. Each is written to the audit collection before it is stored."""

from collections.abc import Mapping
from typing import TypeGuard

from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.pause_events import resumed as pause_is_over
from daemon.adapters.mongo.pauses import pause_of
from daemon.adapters.mongo.resting import resting
from daemon.domain.circuit_breaker import Reason


class ProviderPauses:
    """`audit` records each operation. Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo, audit: Audit) -> None:
        self._mongo = mongo
        self._audit = audit

    async def pause(self, provider: str) -> bool:
        """Pause a provider. Returns whether the operator had not paused it before. A pause for another reason
        becomes the operator's.
        """
        found = await self._mongo.guarded(self._mongo.providers.find_one({"_id": provider}))
        if _rests(found) and pause_of(found).reason is Reason.OPERATOR:
            return False
        paused = {
            "reason": Reason.OPERATOR.value,
            "since": self._mongo.clock.now(),
            "by": self._audit.who.actor,
            "next_probe_at": None,
        }
        await self._audit.note("pause", provider)
        await self._mongo.guarded(
            self._mongo.providers.update_one({"_id": provider}, {"$set": {"paused": paused}}, upsert=True)
        )
        return True

    async def resume(self, provider: str) -> bool:
        """End a provider's pause, whatever its reason. Returns whether there was one."""
        found = await self._mongo.guarded(self._mongo.providers.find_one({"_id": provider}))
        if not _rests(found):
            return False
        await self._audit.note("resume", provider)
        await self._mongo.guarded(
            self._mongo.providers.update_one({"_id": provider}, pause_is_over(self._mongo.clock.now()))
        )
        return True

    async def paused(self) -> Mapping[str, str]:
        """Return the paused providers and their reasons."""
        return {name: pause.reason.value for name, pause in (await resting(self._mongo)).items()}


def _rests(row: Mapping[str, object] | None) -> TypeGuard[Mapping[str, object]]:
    return row is not None and row.get("paused") is not None
