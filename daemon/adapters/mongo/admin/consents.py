"""Storage of a new consent: inserted, or laid over the document with its id.

The newest consent always wins, also over a late result of the daemon. Two mistakes are prevented: replacing a
refresh token with nothing, and storing one refresh token twice, so that two tokens would spend it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from bson import ObjectId
from pymongo.errors import DuplicateKeyError, PyMongoError

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.removals import ended
from daemon.adapters.mongo.stored_number import revision_after
from daemon.adapters.mongo.token_document import Document
from daemon.adapters.mongo.token_events import (
    STORED_SUBJECT,
    Pipeline,
    appended,
    first_events,
    new_ids,
    reporting,
)
from daemon.adapters.mongo.tombstones import revoked_grants
from daemon.domain.access_key import SUBJECT
from daemon.domain.claim import StoreLost
from daemon.domain.stored_grant import GONE, REVOKING
from daemon.domain.token import Token
from daemon.domain.transition import connected

MOST_EVENTS = 2  # of one consent: it is stored, and scopes are missing
SWAPS = 5  # how often a write is swapped onto a document that keeps changing under it

Fields = dict[str, object]


class Refused(ValueError):
    """The operation is refused for this token. The text gives the reason and the alternative."""


class SecondCopy(Refused):
    """Another token holds the same refresh token."""


class GrantRevoked(Refused):
    """The grant was revoked, so its refresh token is of no use."""


class Contended(Refused):
    """The token changed during each of several attempts, so nothing was written. MongoDB is fine."""

    def __init__(self, token: str) -> None:
        super().__init__(f"{token} kept changing during the write. Try again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The result of a new consent. `replaced`: the id existed, and its former content is lost."""

    id: str
    replaced: bool
    revision: int


class Ambiguous(StoreLost):
    """MongoDB was lost during a write, and whether it was stored is unknown."""


class Seals(Protocol):
    """Keys that seal and recognize a token's secrets. They need not open any."""

    def seal(self, text: str, *, token_id: str, field: str) -> str:
        """Return `text` sealed for `field` of `token_id`."""

    def fingerprint(self, text: str) -> str:
        """Return the fingerprint of a refresh token."""

    def fingerprints(self, text: str) -> Sequence[str]:
        """Return its fingerprints under every key."""


class Notes(Protocol):
    """An audit, in the name of somebody."""

    async def note(
        self, action: str, target: str, revision: object = None, *, audit_id: ObjectId | None = None
    ) -> None:
        """Write a record. Raises StoreLost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Laying:
    """How a consent is written over a stored document, or in its place. `condition`: for the document, beside the
    content that was read. `fields`: set after those of the consent. `anew`: nothing of the document stays but its lease.
    """

    condition: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)
    anew: bool = False


Decide = Callable[[Document | None], Laying]
_READ = (
    "state",
    "paused_by",
    "refresh_token",
    "revision",
    "vars",
    "extra",
    "meta",
    "origin.key",
    "missing_scopes",
    "provider_account",
)


class Consents:
    """Adds tokens. Every write compares and swaps against the content that was read; leases are never
    touched. `read`: the projection for what `decide` needs. `fresh`: the tokens come from the provider, just now.
    """

    def __init__(
        self,
        mongo: Mongo,
        keyring: Seals,
        audit: Notes,
        *,
        read: Mapping[str, object] | Collection[str] = _READ,
        fresh: bool = False,
    ) -> None:
        self._mongo = mongo
        self._keyring = keyring
        self._audit = audit
        self._fresh = fresh
        self._read = dict(read) if isinstance(read, Mapping) else dict.fromkeys(read, 1)

    async def add(
        self,
        token: Token,
        *,
        extra: Mapping[str, object] | None = None,
        meta: Mapping[str, str] | None = None,
        subject: str | None = None,
        decide: Decide | None = None,
    ) -> Added:
        """Store `token`, or let it replace the document with its id. The token gets the state of `token`,
        whatever its state was, unless `decide` sets another one. `decide` may raise to write nothing. `subject` is the
        operator's, and of no effect beside `decide`.

        Raises SecondCopy if another document holds its refresh token, GrantRevoked if a tombstone has its fingerprint, and
        Refused if it has none and the stored token has one, which would be lost.
        """
        audit_id, names = ObjectId(), new_ids(MOST_EVENTS)
        for _ in range(SWAPS):
            stored = await self._find(token.id)
            laying = decide(stored) if decide is not None else _laid_by_operator(token, stored, subject)
            await self._refuse_second_copy(token)
            revision = next_revision(stored)
            note = partial(self._audit.note, "add", token.id, revision, audit_id=audit_id)
            await note()
            now = self._mongo.clock.now()
            fields = consent_fields(self._mongo, self._keyring, token) | {
                "revision": revision,
                "connected_at": now,
            }
            more = {"vars": token.vars, "extra": extra or {}, "meta": meta or {}}
            try:
                done = await self._write(token, stored, fields, more, laying, names)
            except PyMongoError as error:
                await self._settle(token.id, fields, error, barrier=note)
                done = True
            if done:
                return Added(id=token.id, replaced=stored is not None and not laying.anew, revision=revision)
        raise Contended(token.id)

    async def _write(
        self,
        token: Token,
        stored: Document | None,
        fields: Fields,
        more: Mapping[str, Mapping[str, object]],
        laying: Laying,
        names: Sequence[ObjectId],
    ) -> bool:
        """Write the consent. Returns False if another writer was faster. Raises PyMongoError."""
        events = list(zip(names, connected(laying.fields.get("missing_scopes")), strict=False))
        now, revision, subject = fields["updated_at"], fields["revision"], laying.fields.get(SUBJECT)
        if stored is not None:
            unchanged = all_of(same(stored, "refresh_token", "revision", read=self._read), laying.condition)
            update: Pipeline
            if laying.anew:
                left = appended(events, now=now, revision=revision, subject={"$literal": subject})
                update = _in_its_place({**new_document(token, fields, more), **laying.fields}, left)
            else:
                over = (
                    fields
                    | laid_over(stored, more)
                    | _in_use(stored, fields)
                    | _no_pause(stored)
                    | _unknown(stored)
                )
                laid = {**over, **laying.fields}
                del laid["revision"]
                heard = STORED_SUBJECT if subject is None else {"$literal": subject}
                update = reporting(laid, events, now=now, revision=revision, subject=heard)
            return (await self._mongo.tokens.update_one(unchanged, update)).matched_count == 1
        document = {**new_document(token, fields, more), **laying.fields}
        document["events"] = first_events(events, now=now, revision=revision, subject=subject)
        try:
            await self._mongo.tokens.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    async def _settle(
        self, name: str, fields: Fields, error: PyMongoError, *, barrier: Callable[[], Awaitable[None]]
    ) -> None:
        """Find out the result of an ambiguous write: return if it is stored.

        A majority that has the `barrier`, a later write, has all earlier ones. The result must be known,
        because adding once more later would restore a spent refresh token.
        """
        lost = self._mongo.lost(error)
        mine = {field: fields[field] for field in ("access_token", "refresh_token")}
        try:
            await barrier()
            if await self._mongo.guarded(self._mongo.tokens.find_one({"_id": name, **mine}, {"_id": 1})):
                return
        except StoreLost:
            pass
        raise Ambiguous(
            f"{lost}. Whether {name} was stored is unknown: run `refreshd show` before you add it again"
        ) from None

    async def _refuse_second_copy(self, token: Token) -> None:
        if token.refresh_token is None:
            return
        prints = self._keyring.fingerprints(token.refresh_token.reveal())
        # The type lets MongoDB use the index, which is partial.
        other = {
            "grant_fingerprint": {"$in": prints, "$type": "string"},
            "_id": {"$ne": token.id},
            "$nor": [ended(self._mongo.clock.now())],
        }
        found = await self._mongo.guarded(self._mongo.tokens.find_one(other, {"_id": 1}))
        if found is not None:
            raise SecondCopy(
                f"{found['_id']} already stores this refresh token. Store each grant only once, or two tokens would spend"
                " it. Use that token, or remove it first"
            )
        if not self._fresh and (revoked := await revoked_grants(self._mongo, prints)):
            raise GrantRevoked(
                f"this refresh token was revoked as {min(revoked.values())}, so nothing was stored. Let the owner consent"
                " again"
            )

    async def _find(self, name: str) -> Document | None:
        return await self._mongo.guarded(self._mongo.tokens.find_one({"_id": name}, self._read))


def _laid_by_operator(token: Token, stored: Document | None, subject: str | None) -> Laying:
    if stored and stored.get("state") == REVOKING:
        raise Refused(
            f"{token.id} is being revoked, so nothing was stored: wait until `refreshd show` says that it is revoked"
        )
    if stored and token.refresh_token is None and stored.get("refresh_token") is not None:
        raise Refused(
            f"{token.id} holds a refresh token and this response has none, so it was not changed: let the"
            " owner consent again with offline access, or remove the token first"
        )
    fields = {} if subject is None else {SUBJECT: subject}
    return Laying(fields=fields, anew=stored is not None and stored.get("state") in GONE)


def _in_its_place(document: Fields, events: Mapping[str, object]) -> Pipeline:
    """Return the update that replaces a document, apart from its lease: a request may be running under it. `events`: the
    expression of those that stay, and of the new ones.
    """
    kept = {"lease": "$lease", "events": events}
    return [{"$replaceWith": {"$mergeObjects": [{"$literal": document}, kept]}}]


def consent_fields(mongo: Mongo, keyring: Seals, token: Token) -> Fields:
    """Return the fields that a consent sets, on a new document and on an existing one."""
    sealed = {
        field: None if secret is None else keyring.seal(secret.reveal(), token_id=token.id, field=field)
        for field, secret in (("access_token", token.access_token), ("refresh_token", token.refresh_token))
    }
    held = token.refresh_token
    return {
        **sealed,
        "state": token.state.value,
        "token_type": token.token_type,
        "scope": token.scope,
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "refresh_expires_at": token.refresh_expires_at,
        "consent_ends_at": token.consent_ends_at,
        "due_at": token.due_at,
        "grant_fingerprint": None if held is None else keyring.fingerprint(held.reveal()),
        "failures": 0,
        "last_failure": None,
        "updated_at": mongo.clock.now(),
    }


def new_document(token: Token, fields: Fields, more: Mapping[str, Mapping[str, object]]) -> Fields:
    """Return the whole document of a token that was not stored before."""
    return {
        "_id": token.id,
        "provider": token.provider,
        "account": token.account,
        "grant": token.grant,
        "lease": None,
        "doubt": None,
        "created_at": fields["updated_at"],
        "refreshed_at": None,
        "last_used_at": None,
        **fields,
        **more,
    }


def _in_use(stored: Document, fields: Fields) -> Fields:
    """Return the mark that an imported token is in use here, so that no import lays older tokens over it."""
    return {"origin.activated": fields["updated_at"]} if isinstance(stored.get("origin"), Mapping) else {}


def _no_pause(stored: Document) -> Fields:
    return {} if stored.get("paused_by") is None else {"paused_by": None}


def _unknown(stored: Document) -> Fields:
    """Return the marks of a consent of `refreshd connect` that say nothing about another grant."""
    marks: Fields = {"missing_scopes": [], "provider_account": None}
    return {name: empty for name, empty in marks.items() if stored.get(name)}


def same(stored: Document, *fields: str, read: Mapping[str, object] | None = None) -> Fields:
    """Return the condition that a document still holds the content that was read, which is what the expressions of `read`
    show of it: null, for example, in the place of a value of another type. Without one, it is the value itself.
    """
    projected = read or {}
    shown = {name: how for name in fields if isinstance(how := projected.get(name), Mapping)}
    condition: Fields = {"_id": {"$eq": stored["_id"]}}
    condition |= {name: {"$eq": stored.get(name)} for name in fields if name not in shown}
    if shown:
        alike = [{"$eq": [how, {"$literal": stored.get(name)}]} for name, how in shown.items()]
        condition["$expr"] = {"$and": alike}
    return condition


def all_of(*conditions: Mapping[str, object]) -> Fields:
    """Return the condition that each of these holds, which may use the same names."""
    return {"$and": [one for one in conditions if one]}


def next_revision(stored: Document | None) -> int:
    return revision_after((stored or {}).get("revision"))


def laid_over(stored: Document, more: Mapping[str, Mapping[str, object]]) -> Fields:
    """Return the fields that a new consent sets beside tokens, merged into the existing ones. The
    application's own names stay.
    """
    fields: Fields = {}
    for name, values in more.items():
        if isinstance(stored.get(name), Mapping):
            fields |= {f"{name}.{inner}": value for inner, value in values.items()}
        else:
            fields[name] = dict(values)
    return fields
