"""Consent requests, for the process that has the code: a command, or the access service.

A request that an application has begun gets its link first, then the state and the verifier when its owner presses the
button, then the code. Each of these is one conditional update, so a link, a state and a connect code are of use once.
Secrets of the browser and of the application are stored as hashes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from pymongo import ReturnDocument

from daemon.adapters.mongo.connecting.consent_documents import (
    PROGRESS,
    PROOF_SEALED_AS,
    SMALL,
    Wrong,
    ended,
    failure_fields,
    progress_of,
    request_of,
)
from daemon.adapters.mongo.connection import Mongo, Refusal
from daemon.adapters.mongo.stored_number import is_whole
from daemon.adapters.mongo.token_document import Document
from daemon.domain.authorization import code_challenge
from daemon.domain.claim import StoreLost
from daemon.domain.consent_request import (
    CODE_LIVES,
    MOST_TRIES,
    WAITS_FOR,
    Completion,
    ConsentFailure,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentState,
    Malformed,
)
from daemon.domain.secret import Secret
from daemon.domain.session_proof import BoundCode, Proof, bound_code_text, hashed, proof_text

Result = TypeVar("Result")
# Whether a request may be completed again. Whatever stands in the place of the number of wrong tries counts as too many.
TRIES_LEFT: Mapping[str, object] = {
    "$cond": [
        is_whole("$tries"),
        {"$and": [{"$gte": ["$tries", 0]}, {"$lt": ["$tries", MOST_TRIES]}]},
        {"$eq": [{"$type": "$tries"}, "missing"]},
    ]
}
_MIXED_UP = ConsentFailure(
    kind=ConsentFailureKind.MIXED_UP,
    message="the provider's answer came from another browser, or to another provider's address: begin again",
)


class ConsentsRefused(StoreLost):
    """MongoDB answers, but refuses the use of this collection."""


class Sealer(Protocol):
    """A key ring, or a writer key."""

    def seal(self, text: str, *, token_id: str, field: str) -> str:
        """Return `text` sealed for a field of the document `token_id`."""


class ConsentRequests:
    """Every method raises StoreLost. Methods that return a request return it without its code."""

    def __init__(self, mongo: Mongo, *, keyring: Callable[[], Sealer]) -> None:
        """`keyring` seals codes. It need not open any."""
        self._mongo = mongo
        self._sealer = keyring

    async def insert(
        self, request: ConsentRequest, *, state_hash: str | None, link_hash: str | None = None
    ) -> None:
        """Store a request that waits, with its code sealed if it has one. `link_hash`: of the link that leads to it."""
        code = None if request.code is None else _code_text(request.code, request.connect_code_hash)
        sealed = {
            field: None if secret is None else self._seal(secret, request.id, field)
            for field, secret in (("code", code), ("code_verifier", request.code_verifier))
        }
        document: dict[str, object] = {
            "_id": request.id,
            "state": ConsentState.WAITING.value,
            "kind": request.kind.value,
            "provider": request.provider,
            "account": request.account,
            **sealed,
            "nonce": request.nonce,
            "state_hash": state_hash,
            "issuer": request.issuer,
            "redirect_uri": request.redirect_uri,
            "scopes": list(request.scopes),
            "vars": dict(request.vars),
            "subject": request.subject,
            "meta": dict(request.meta),
            "replace": request.replace,
            "code_challenge": request.code_challenge,
            "connect_code_hash": request.connect_code_hash,
            "key": request.key,
            "return_url": request.return_url,
            "unbound": request.code_challenge is None,
            "interval": request.interval.total_seconds(),
            "poll_at": None,
            "lease": None,
            "asked_at": None,
            "failure": None,
            "result": None,
            "created_at": self._mongo.clock.now(),
            "expires_at": request.expires_at,
        }
        if link_hash is not None:
            document["link_hash"] = link_hash
        await self._tried(self._mongo.consents.insert_one(document))

    async def progress(self, consent: str) -> ConsentProgress | None:
        """Return the state of a request, or None if it is gone."""
        query = {"_id": consent, **SMALL}
        found = await self._tried(self._mongo.consents.find_one(query, dict.fromkeys(PROGRESS, 1)))
        return None if found is None else progress_of(found, self._mongo.clock.now())

    async def recall(self, consent: str) -> ConsentRequest | None:
        """Return a request that is asked, or None if it has ended or is gone."""
        query = {"_id": consent, "state": ConsentState.ASKED.value}
        return self._usable(await self._tried(self._mongo.consents.find_one(query)))

    async def refuse(self, consent: str, failure: ConsentFailure) -> bool:
        """End a request that no daemon has taken. Returns False if one has, or if it has ended."""
        return await self._end(consent, ConsentState.WAITING, ConsentState.FAILED, failure=failure)

    # ---------------------------------------------------------------- link, browser, code

    async def by_link(self, link_hash: str) -> ConsentRequest | None:
        """Return the request of a link that can be used. Changes nothing."""
        return self._usable(await self._tried(self._mongo.consents.find_one(self._linked(link_hash))))

    async def spend_link(
        self, link_hash: str, *, browser_hash: str, state_hash: str, code_verifier: Secret | None
    ) -> ConsentRequest | None:
        """Use a link, and store what its callback has to show. Returns None if the link can't be used (any more). The
        owner has WAITS_FOR from now on.
        """
        request = await self.by_link(link_hash)
        if request is None:
            return None
        sealed = None if code_verifier is None else self._seal(code_verifier, request.id, "code_verifier")
        spent = {
            "browser_hash": browser_hash,
            "state_hash": state_hash,
            "code_verifier": sealed,
            "expires_at": self._mongo.clock.now() + WAITS_FOR,
        }
        found = await self._tried(
            self._mongo.consents.find_one_and_update(
                {"_id": request.id, **self._linked(link_hash)},
                {"$set": spent, "$unset": {"link_hash": ""}},
                return_document=ReturnDocument.AFTER,
            )
        )
        return self._usable(found)

    async def called_back(self, provider: str, state_hash: str, browser_hash: str) -> ConsentRequest | None:
        """Use a state, and return its request. Returns None for an unknown or used state. A state that comes to another
        provider's address or without the cookie of its browser is used up as well, and its request has failed.
        """
        at_last = {
            "state_hash": {"$eq": state_hash, "$type": "string"},
            "state": ConsentState.WAITING.value,
            "code": None,
            "browser_hash": {"$type": "string"},
        }
        fits = {"provider": {"$eq": provider}, "browser_hash": {"$eq": browser_hash, "$type": "string"}}
        now = self._mongo.clock.now()
        found = await self._tried(
            self._mongo.consents.find_one_and_update(
                {**at_last, **fits, "expires_at": {"$gt": now}},
                {"$set": {"state_hash": None}},
                return_document=ReturnDocument.AFTER,
            )
        )
        if found is not None:
            return self._usable(found)
        failed = {**ended(ConsentState.FAILED, now), "failure": failure_fields(_MIXED_UP, now)}
        await self._tried(
            self._mongo.consents.update_one(
                {"$and": [at_last, {"$nor": [fits]}]}, {"$set": {**failed, "state_hash": None}}
            )
        )
        return None

    async def give_code(self, consent: str, *, code: Secret, connect_code_hash: str | None) -> bool:
        """Let a daemon take the code of a request whose state has been used. Returns False if the request has ended."""
        now = self._mongo.clock.now()
        query = {
            "_id": {"$eq": consent},
            "state": ConsentState.WAITING.value,
            "code": None,
            "state_hash": None,
            "browser_hash": {"$type": "string"},
            "expires_at": {"$gt": now},
        }
        text = _code_text(code, connect_code_hash)
        given = {"code": self._seal(text, consent, "code"), "connect_code_hash": connect_code_hash}
        change = {"$set": given, "$max": {"expires_at": now + CODE_LIVES}}
        done = await self._tried(self._mongo.consents.update_one(query, change))
        return done.matched_count == 1

    # ---------------------------------------------------------------- completion

    async def complete(self, consent: str, *, key: str | None, proof: Proof) -> Completion:
        """Let a daemon store the grant of a request that is bound to a session. Its grant need not be there yet. The
        daemon checks the proof again: what is compared here isn't sealed. `key`: None for an operator's request.
        """
        now = self._mongo.clock.now()
        fits = {
            "connect_code_hash": {"$eq": hashed(proof.connect_code), "$type": "string"},
            "code_challenge": {"$eq": code_challenge(proof.code_verifier), "$type": "string"},
        }
        of_key = None if key is None else {"$eq": key, "$type": "string"}
        mine = {"_id": {"$eq": consent}, "key": of_key}
        can_be_completed = {
            "state": {"$in": [ConsentState.WAITING.value, ConsentState.ASKED.value]},
            "completed_at": None,
            "$or": [{"held_until": None}, {"held_until": {"$gt": now}}],
            "$expr": TRIES_LEFT,
        }
        sealed = self._seal(proof_text(proof), consent, PROOF_SEALED_AS)
        completed = {"$set": {"completed_at": now, "grant_due_at": now, "proof": sealed}}
        done = await self._tried(
            self._mongo.consents.update_one({**mine, **can_be_completed, **fits}, completed)
        )
        if done.matched_count:
            return Completion.TAKEN
        wrong = {"$and": [{**mine, **can_be_completed}, {"$nor": [fits]}]}
        done = await self._tried(self._mongo.consents.update_one(wrong, {"$inc": {"tries": 1}}))
        if done.matched_count:
            await self._give_up_tried(consent)
            return Completion.WRONG
        known = await self._tried(self._mongo.consents.find_one(mine, {"_id": 1}))
        return Completion.UNKNOWN if known is None else Completion.OVER

    async def _give_up_tried(self, consent: str) -> None:
        """Let a daemon abandon a request now that was tried too often."""
        query = {"_id": {"$eq": consent}, "tries": {"$gte": MOST_TRIES}, "completed_at": None}
        over = {"connect_code_hash": None, "grant_due_at": self._mongo.clock.now()}
        await self._tried(self._mongo.consents.update_one(query, {"$set": over}))

    # ----------------------------------------------------------------

    def _linked(self, link_hash: str) -> dict[str, object]:
        return {
            "link_hash": {"$eq": link_hash, "$type": "string"},  # the type lets MongoDB use the index
            "state": ConsentState.WAITING.value,
            "code": None,
            "expires_at": {"$gt": self._mongo.clock.now()},
        }

    async def _end(
        self,
        consent: str,
        before: ConsentState,
        after: ConsentState,
        *,
        failure: ConsentFailure | None = None,
        more: Mapping[str, object] | None = None,
    ) -> bool:
        """Leave the state `before`, and remove the code. Returns False if the request was in another state."""
        if not before.may_become(after):
            raise ValueError(f"{before} is not followed by {after}")
        now = self._mongo.clock.now()
        fields = {**ended(after, now), **(more or {})}
        if failure is not None:
            fields["failure"] = failure_fields(failure, now)
        query = {"_id": consent, "state": before.value}
        done = await self._tried(self._mongo.consents.update_one(query, {"$set": fields}))
        return done.matched_count == 1

    async def _tried(self, work: Awaitable[Result]) -> Result:
        """Return the result of `work`. Raises StoreLost, and ConsentsRefused without reporting a loss of the store."""
        try:
            return await self._mongo.tried(work)
        except Refusal as why:
            raise ConsentsRefused(str(why)) from None

    def _seal(self, secret: Secret, consent: str, field: str) -> str:
        return self._sealer().seal(secret.reveal(), token_id=consent, field=field)

    def _usable(self, document: Document | None) -> ConsentRequest | None:
        request = None if document is None else self._read(document)
        return None if isinstance(request, Malformed) else request

    def _read(self, document: Document) -> ConsentRequest | Malformed:
        """Return the request in `document`, without its code."""
        try:
            return request_of(document, None, None)
        except Wrong as why:
            return Malformed(id=str(document["_id"]), message=str(why))


def _code_text(code: Secret, connect_code_hash: str | None) -> Secret:
    """Return what is sealed as the code of a request. That of a bound one has the hash of its connect code."""
    if connect_code_hash is None:
        return code
    return bound_code_text(BoundCode(code=code, connect_code_hash=connect_code_hash))
