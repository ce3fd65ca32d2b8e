"""The documents of imported tokens: what `add` would have stored, but paused, and with an origin."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.consents import (
    Fields,
    consent_fields,
    laid_over,
    new_document,
    next_revision,
    same,
)
from daemon.adapters.mongo.bulk import Update, update_each
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_document import Document
from daemon.domain.claim import StoreLost
from daemon.domain.moving import Candidate, Standing
from daemon.domain.token import State

BATCH = 500  # tokens
REST = "origin_rest"  # the field for which the rest of a row is sealed
ORIGIN = dict.fromkeys(
    [
        f"origin.{name}"
        for name in ("layout", "source", "key", "read_at", "activated", "hash", "grant", "end_is_known")
    ],
    1,
)
# Imported, and not in use: a token whose consent was rejected after it had been taken back is one of these too.
IDLE = {"origin.activated": None, "state": {"$in": [State.PAUSED.value, State.NEEDS_REAUTH.value]}}
IMPORTED = {"origin.key": {"$type": "string"}}
CHANGED = "another program changed this token at the same time; run the command again"


class ImportedDocuments:
    """Makes documents of candidates, and reads and changes those that are stored."""

    def __init__(self, mongo: Mongo, keyring: KeyRing) -> None:
        self._mongo = mongo
        self._keyring = keyring

    async def read(self, query: Mapping[str, object], fields: Mapping[str, object]) -> list[Document]:
        found = self._mongo.tokens.find(query, fields).batch_size(2 * BATCH)
        return list(await self._mongo.guarded(found.to_list()))

    async def update(self, updates: Sequence[Update]) -> Mapping[str, str]:
        """Return those that MongoDB refuses, with the reason. Raises StoreLost if the result is unknown."""

        async def updated() -> Mapping[str, str]:
            return (await update_each(self._mongo, updates)).refused

        return await settled(updated)

    def new(self, candidate: Candidate) -> Fields:
        """Return the document of a token that is not stored yet."""
        fields = self._fields(candidate) | {"revision": 1}
        return {
            **new_document(candidate.token, fields, _more(candidate)),
            "origin": self._origin(candidate, fields["grant_fingerprint"]),
        }

    def newer(self, candidate: Candidate, stored: Document) -> Fields:
        """Return the fields that lay `candidate` over its document."""
        fields = self._fields(candidate)
        parts = self._origin(candidate, fields["grant_fingerprint"])
        origin = {f"origin.{name}": value for name, value in parts.items()}
        revision = {"revision": next_revision(stored), "doubt": None}
        return {**fields, **laid_over(stored, _more(candidate)), **origin, **revision}

    def _fields(self, candidate: Candidate) -> Fields:
        token = candidate.token
        fields = consent_fields(self._mongo, self._keyring, token)
        fields["refreshed_at"] = token.refreshed_at
        if candidate.last_used_at is not None:
            fields["last_used_at"] = candidate.last_used_at
        if candidate.subject is not None:
            fields["subject"] = candidate.subject
        return fields

    def _origin(self, candidate: Candidate, grant: object) -> Fields:
        """Return the origin as it is stored. `grant` is the fingerprint of the refresh token that the row held when it was
        last read or written: another one there later is a newer one.
        """
        origin = candidate.origin
        return {
            "layout": origin.layout,
            "source": origin.source,
            "key": origin.key,
            "rest": self._keyring.seal(origin.rest.reveal(), token_id=candidate.token.id, field=REST),
            "read_at": origin.read_at,
            "activated": None,
            "hash": self._keyring.fingerprint(origin.row.reveal()),
            "grant": grant,
            "end_is_known": origin.end_is_known,
        }


def swap(stored: Document, fields: Fields) -> Update:
    """Return the update of an idle imported token that must still be as it was read."""
    condition = {**same(stored, "refresh_token", "access_token", "revision"), **IMPORTED, **IDLE}
    return Update(ids=[str(stored["_id"])], condition=condition, change={"$set": fields})


async def settled(write: Callable[[], Awaitable[Mapping[str, str]]]) -> Mapping[str, str]:
    """Write, and once more after a lost answer.

    That is harmless, because the first attempt keeps the second from changing what it has written. A majority that
    confirms the second has both, so that a reading afterwards shows the result.
    """
    try:
        return await write()
    except StoreLost:
        return await write()


def version_of(standing: Standing) -> Document:
    """Return the document that `standing` was found for."""
    if standing.stored is None or not isinstance(standing.stored.version, Mapping):
        raise TypeError("this token is not stored")
    return standing.stored.version


def origin_of(document: Document) -> Document:
    origin = document.get("origin")
    return origin if isinstance(origin, Mapping) else {}


def _more(candidate: Candidate) -> Mapping[str, Mapping[str, object]]:
    return {"vars": candidate.token.vars, "extra": candidate.extra, "meta": candidate.meta}
