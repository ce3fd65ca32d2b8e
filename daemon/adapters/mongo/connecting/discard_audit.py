"""The audit of grants that are not stored."""

from hashlib import sha256

from bson import ObjectId

from daemon.adapters.mongo.audit import Audit

REVOKE_DISCARDED, LEFT_ALIVE = "revoke_discarded", "left_alive"


class DiscardAudit:
    """Implements `connecting.ports.Deeds`."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def revoking(self, token: str, consent: str) -> None:
        await self._audit.note(REVOKE_DISCARDED, token, audit_id=_id_of(REVOKE_DISCARDED, consent))

    async def left_alive(self, token: str, consent: str, *, why: str, manage_url: str | None) -> None:
        audit_id = _id_of(LEFT_ALIVE, consent)
        await self._audit.note(LEFT_ALIVE, token, result=why, audit_id=audit_id, manage_url=manage_url)


def _id_of(action: str, consent: str) -> ObjectId:
    """Return the id of the one record about this action on the grant of a consent."""
    return ObjectId(sha256(f"{action} {consent}".encode()).digest()[:12])
