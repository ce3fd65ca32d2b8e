"""Consents that store nothing yet: those that wait, and those that an application has not completed.

They end together with the tokens of their subject. Otherwise a grant would be stored for it afterwards.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from daemon.adapters.mongo.bulk import AT_ONCE
from daemon.adapters.mongo.connecting.consent_documents import SMALL
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.token_document import Document
from daemon.domain.access_key import META, SUBJECT, Stored
from daemon.domain.consent_request import ConsentFailureKind, ConsentState, UnfinishedConsent

_WAITING: Mapping[str, object] = {"state": ConsentState.WAITING.value}
_BOUND: Mapping[str, object] = {
    "state": ConsentState.ASKED.value,
    "completed_at": None,
    "code_challenge": {"$type": "string"},
}
_READ = dict.fromkeys(("provider", "account", "subject", "meta"), 1)


class UnfinishedConsents:
    """Every method raises StoreLost. A login without the rights on consents has none."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def of(self, subject: str) -> Sequence[UnfinishedConsent]:
        """Return the unfinished consents of `subject`."""
        query = {
            "subject": {"$eq": subject, "$type": "string"},
            "_id": {"$type": "string"},
            "$or": [_WAITING, _BOUND],
            **SMALL,
        }
        try:
            found = await self._mongo.tried(self._mongo.consents.find(query, _READ).to_list())
        except Refusal:
            return ()
        return [UnfinishedConsent(id=str(one["_id"]), token=_token(one)) for one in found]

    async def end(self, consents: Collection[str]) -> int:
        """End these consents, unless they store a token by now. Returns how many have ended. A daemon gives up the grants
        of those that hold one.
        """
        ids, now, ended = list(consents), self._mongo.clock.now(), 0
        for start in range(0, len(ids), AT_ONCE):
            some = {"_id": {"$in": ids[start : start + AT_ONCE]}}
            try:
                ended += await self._updated({**some, **_WAITING}, {"$set": _over(now)})
                ended += await self._updated({**some, **_BOUND}, [{"$set": _given_up(now)}])
            except Refusal:
                break
        return ended

    async def _updated(
        self, query: Mapping[str, object], update: Mapping[str, object] | list[Mapping[str, object]]
    ) -> int:
        done = await self._mongo.tried(self._mongo.consents.update_many(query, update))
        return done.matched_count


def _token(document: Document) -> Stored:
    """Return the properties of the token to which a consent leads."""
    meta, subject = document.get("meta"), document.get("subject")
    named = {f"{META}{name}": text for name, text in meta.items()} if isinstance(meta, Mapping) else {}
    fields = {name: text for name, text in {**named, SUBJECT: subject}.items() if isinstance(text, str)}
    return Stored(id=f"{document.get('provider')}:{document.get('account')}", fields=fields)


def _over(now: datetime) -> dict[str, object]:
    """Return the fields of a consent that is over before a daemon took its code."""
    secrets = ("code", "code_verifier", "link_hash", "connect_code_hash", "proof")
    failure = {
        "kind": ConsentFailureKind.REVOKING.value,
        "code": ConsentFailureKind.REVOKING.value,
        "message": "the tokens of its subject were revoked before it was completed",
        "at": now,
    }
    return {
        "state": ConsentState.FAILED.value,
        **dict.fromkeys(secrets),
        "ended_at": now,
        "failure": failure,
    }


def _given_up(now: datetime) -> dict[str, object]:
    """Return the fields by which a daemon abandons a grant now that waits for its completion."""
    held = {"$eq": [{"$type": "$held_until"}, "date"]}
    return {
        "connect_code_hash": None,
        "held_until": {"$cond": [held, {"$min": ["$held_until", now]}, None]},
        "grant_due_at": now,
    }
