"""Consent requests, for the daemon: authorization codes that wait for it, in a collection of their own.

Each state is left by one conditional update, so a code is presented by one instance only. Other processes write these
documents too, so no type is assumed. A user without the rights on this collection has no consents, and all else goes on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pymongo import ASCENDING, ReturnDocument

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.connecting.consent_documents import (
    CODES,
    EXPIRED,
    LONGEST_ID,
    NO_GRANT,
    PROOF_SEALED_AS,
    SMALL,
    Wrong,
    ended,
    failure_fields,
    named,
    request_of,
)
from daemon.adapters.mongo.connecting.consent_requests import TRIES_LEFT, ConsentRequests
from daemon.adapters.mongo.connecting.device_codes import (
    POLLED,
    UNANSWERED,
    interval_of,
    polled_before,
    waiting_again,
)
from daemon.adapters.mongo.connection import EPOCH, Mongo
from daemon.adapters.mongo.stored_number import count
from daemon.adapters.mongo.token_document import Document
from daemon.domain.consent_request import (
    ABANDONED_AFTER,
    DISCARDED_WITHIN,
    HELD_FOR,
    LEASE,
    ConsentFailure,
    ConsentKind,
    ConsentRequest,
    ConsentResult,
    ConsentState,
    Malformed,
    Waiting,
)
from daemon.domain.held_grant import DueGrant, TakenGrant
from daemon.domain.secret import Secret
from daemon.domain.session_proof import NotAProof, bound_code

MOST_WAITING = 256  # requests of one look
_NO_PROOF = {"$not": {"$type": "string"}}  # completed_at alone may be anyone's


class MongoConsents(ConsentRequests):
    """Implements `connecting.ports.Consents` for the instance `owner`. Every method raises StoreLost."""

    def __init__(self, mongo: Mongo, *, owner: str, keyring: Callable[[], KeyRing]) -> None:
        super().__init__(mongo, keyring=keyring)
        self._keyring = keyring
        self._owner = owner

    async def pending(self) -> bool:
        unfinished = [ConsentState.WAITING.value, ConsentState.ASKED.value]
        has_code = {"state": {"$in": unfinished}, "code": {"$type": "string"}}
        query = {"$or": [has_code, self._due()]}
        return await self._tried(self._mongo.consents.find_one(query, {"_id": 1})) is not None

    async def waiting(self, providers: Collection[str]) -> Sequence[Waiting]:
        now = self._mongo.clock.now()
        query = {
            "state": ConsentState.WAITING.value,
            "provider": {"$in": list(providers)},
            "code": {"$type": "string"},
            "expires_at": {"$gt": now},
            **polled_before(now),
            "_id": {"$type": "string"},
        }
        found = (
            self._mongo.consents.find(query, {"provider": 1})
            .sort([("expires_at", ASCENDING)])
            .limit(MOST_WAITING)
        )
        return named(await self._tried(found.to_list()))

    async def take(self, consent: str) -> ConsentRequest | Malformed | None:
        now = self._mongo.clock.now()
        query = {
            "_id": consent,
            "state": ConsentState.WAITING.value,
            "code": {"$type": "string"},
            "expires_at": {"$gt": now},
            **polled_before(now),
        }
        taken = {
            "state": ConsentState.ASKED.value,
            "asked_at": now,
            "lease": {"owner": self._owner, "since": now},
        }
        document = await self._tried(
            self._mongo.consents.find_one_and_update(
                query, {"$set": taken}, return_document=ReturnDocument.AFTER
            )
        )
        return None if document is None else self._with_code(document)

    def _with_code(self, document: Document) -> ConsentRequest | Malformed:
        try:
            code, verifier = (self._opened(document, field) for field in CODES)
            request = request_of(document, code, verifier)
            if request.code is None or request.code_challenge is None:
                return request
            bound = bound_code(request.code)
            return replace(request, code=bound.code, connect_code_hash=bound.connect_code_hash)
        except (Wrong, DecryptionError) as why:
            return Malformed(id=str(document["_id"]), message=str(why))
        except NotAProof as why:
            return Malformed(
                id=str(document["_id"]), message=f"its code is not that of a bound consent: {why}"
            )

    def _opened(self, document: Document, name: str, *, field: str | None = None) -> Secret | None:
        """Return a sealed secret. `field`: for which it is sealed, if that isn't `name`. Raises DecryptionError."""
        sealed = document.get(name)
        if sealed is None:
            return None
        return Secret(self._keyring().open(sealed, token_id=str(document["_id"]), field=field or name))

    def _opened_if_possible(
        self, document: Document, name: str, *, field: str | None = None
    ) -> Secret | None:
        try:
            return self._opened(document, name, field=field)
        except DecryptionError:
            return None

    async def done(self, consent: str, result: ConsentResult) -> None:
        fields = {
            "scope": result.scope,
            "missing_scopes": list(result.missing_scopes),
            "expires_at": result.expires_at,
        }
        await self._end(consent, ConsentState.ASKED, ConsentState.DONE, more={"result": fields})

    async def failed(
        self,
        consent: str,
        failure: ConsentFailure,
        *,
        grant: Secret | None = None,
        account: str | None = None,
    ) -> None:
        now = self._mongo.clock.now()
        fields = {**ended(ConsentState.FAILED, now), "failure": failure_fields(failure, now)}
        if grant is not None:
            fields |= self._to_discard(consent, grant, account, now)
        query = {"_id": consent, "state": ConsentState.ASKED.value, "code": {"$type": "string"}}
        await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))

    async def wait_again(self, consent: str, interval: timedelta | None) -> None:
        query = {"_id": consent, "state": ConsentState.ASKED.value, "kind": ConsentKind.DEVICE.value}
        document = await self._tried(self._mongo.consents.find_one(query, {"interval": 1}))
        if document is None:
            return
        wait = interval_of(document) if interval is None else interval
        fields = waiting_again(wait, self._mongo.clock.now())
        await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))

    async def asked(self) -> Sequence[Waiting]:
        before = self._mongo.clock.now() - ABANDONED_AFTER
        query = {
            "state": ConsentState.ASKED.value,
            "code": {"$type": "string"},
            "_id": {"$type": "string"},
            "$or": [{"lease.owner": self._owner}, {"asked_at": {"$not": {"$gt": before}}}],
        }
        fields = {"provider": 1, "kind": 1, "lease.owner": 1}
        found = self._mongo.consents.find(query, fields).limit(MOST_WAITING)
        return named(await self._tried(found.to_list()), owner=self._owner)

    async def expire(self) -> None:
        now = self._mongo.clock.now()
        query = {
            "state": ConsentState.WAITING.value,
            "code": {"$type": "string"},
            "expires_at": {"$lte": now},
        }
        conditions: tuple[tuple[Mapping[str, object], ConsentFailure], ...]
        conditions = ((POLLED, UNANSWERED), ({"$nor": [POLLED]}, EXPIRED))
        for condition, why in conditions:
            fields = {**ended(ConsentState.FAILED, now), "failure": failure_fields(why, now)}
            await self._tried(self._mongo.consents.update_many({**query, **condition}, {"$set": fields}))

    # ---------------------------------------------------------------- grants that are not stored

    async def hold(self, consent: str, grant: Secret, *, account: str | None) -> bool:
        now = self._mongo.clock.now()
        held_until = now + HELD_FOR
        is_over = {"$or": [{"$gt": ["$completed_at", None]}, {"$not": [TRIES_LEFT]}]}
        fields = {
            "grant": {"$literal": self._seal(grant, consent, "grant")},
            "provider_account": {"$literal": account},
            "held_until": held_until,
            "grant_due_at": {"$cond": [is_over, now, held_until]},
            "lease": None,
            **dict.fromkeys(CODES),
        }
        query = {"_id": consent, "state": ConsentState.ASKED.value, "code": {"$type": "string"}}
        done = await self._tried(self._mongo.consents.update_one(query, [{"$set": fields}]))
        return done.matched_count == 1

    async def discard(self, consent: str, grant: Secret, *, account: str | None) -> bool:
        now = self._mongo.clock.now()
        final = [one.value for one in ConsentState if one.is_final and one is not ConsentState.DONE]
        query = {"_id": consent, "state": {"$in": final}}
        without = {**query, "grant": {"$not": {"$type": "string"}}}
        fields = self._to_discard(consent, grant, account, now)
        done = await self._tried(self._mongo.consents.update_one(without, {"$set": fields}))
        if done.matched_count:
            return True
        return await self._tried(self._mongo.consents.find_one(query, {"_id": 1})) is not None

    async def release(self) -> None:
        query = {"grant": {"$type": "string"}, "grant_due_at": {"$gt": EPOCH}, "lease.owner": self._owner}
        freed = {"grant_due_at": self._mongo.clock.now(), "lease": None}
        await self._tried(self._mongo.consents.update_many(query, {"$set": freed}))

    async def due_grants(self, providers: Collection[str]) -> Sequence[DueGrant]:
        query = {
            **self._due(),
            "provider": {"$in": list(providers)},
            "_id": {"$type": "string"},
            "state": {"$in": list(ConsentState)},
        }
        fields = {"provider": 1, "state": 1, "proof": 1}
        found = self._mongo.consents.find(query, fields).sort([("grant_due_at", ASCENDING)])
        documents = await self._tried(found.limit(MOST_WAITING).to_list())
        return [_due_grant(one) for one in documents if len(str(one["_id"])) <= LONGEST_ID]

    async def take_grant(self, consent: str) -> TakenGrant | None:
        now = self._mongo.clock.now()
        lease = {"grant_due_at": now + LEASE, "lease": {"owner": self._owner, "since": now}}
        document = await self._tried(
            self._mongo.consents.find_one_and_update(
                {"_id": consent, "state": {"$in": list(ConsentState)}, **self._due(), **SMALL},
                {"$set": lease},
                return_document=ReturnDocument.AFTER,
            )
        )
        if document is None:
            return None
        until, tries = document.get("discard_until"), document.get("discard_tries")
        return TakenGrant(
            due=_due_grant(document),
            request=self._read(document),
            text=self._opened_if_possible(document, "grant"),
            proof=self._opened_if_possible(document, "proof", field=PROOF_SEALED_AS),
            until=until if isinstance(until, datetime) else None,
            tries=count(tries),
        )

    async def give_up(self, consent: str, state: ConsentState, failure: ConsentFailure) -> bool:
        now = self._mongo.clock.now()
        query: dict[str, object] = {
            "_id": consent,
            "state": ConsentState.ASKED.value,
            "grant": {"$type": "string"},
        }
        if state is ConsentState.ABANDONED:
            query["proof"] = _NO_PROOF
        fields = {
            "state": state.value,
            "ended_at": now,
            "failure": failure_fields(failure, now),
            **_waits_for_discarding(now),
        }
        done = await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))
        return done.matched_count == 1

    async def postpone(self, consent: str, *, due_at: datetime, tries: int) -> None:
        fields = {"grant_due_at": due_at, "discard_tries": tries, "lease": None}
        query = {"_id": consent, "lease.owner": self._owner, "grant": {"$type": "string"}}
        await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))

    async def forget_grant(self, consent: str) -> None:
        query = {"_id": consent, "state": {"$in": [one.value for one in ConsentState if one.is_final]}}
        await self._tried(self._mongo.consents.update_one(query, {"$set": NO_GRANT}))

    async def holds_account(self, consent: str, providers: Collection[str], account: str | None) -> bool:
        query: dict[str, object] = {
            "_id": {"$ne": consent},
            "provider": {"$in": list(providers)},
            "state": ConsentState.ASKED.value,
            "grant": {"$type": "string"},
            "grant_due_at": {"$gt": EPOCH},
        }
        if account is not None:
            query["provider_account"] = {"$in": [account, None]}
        return await self._tried(self._mongo.consents.find_one(query, {"_id": 1})) is not None

    def _due(self) -> dict[str, object]:
        """Return the condition for grants whose time has come. The types let MongoDB use the index."""
        return {
            "grant": {"$type": "string"},
            "grant_due_at": {"$gt": EPOCH, "$lte": self._mongo.clock.now()},
        }

    def _to_discard(
        self, consent: str, grant: Secret, account: str | None, now: datetime
    ) -> dict[str, object]:
        sealed = self._seal(grant, consent, "grant")
        return {"grant": sealed, "provider_account": account, **_waits_for_discarding(now)}


def _waits_for_discarding(now: datetime) -> dict[str, object]:
    """Return the fields of a grant that has to be discarded. MongoDB deletes the document after that."""
    until = now + DISCARDED_WITHIN
    return {
        "grant_due_at": now,
        "discard_until": until,
        "discard_tries": 0,
        "expires_at": until,
        "lease": None,
    }


def _due_grant(document: Document) -> DueGrant:
    return DueGrant(
        id=str(document["_id"]),
        provider=str(document.get("provider")),
        state=ConsentState(str(document.get("state"))),
        completed=isinstance(document.get("proof"), str),
    )
