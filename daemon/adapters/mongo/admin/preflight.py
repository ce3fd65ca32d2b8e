"""Checks of the store before it is used: its indexes, its guarantees, and the privileges of this login.

Everything here raises StoreLost, and Refusal if MongoDB refuses the check itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from daemon.adapters.mongo.connection import (
    DUE_INDEX,
    Collection,
    Mongo,
    Refusal,
)
from daemon.adapters.mongo.index_build import unbuilt
from daemon.adapters.mongo.indexes import FORGET_INDEX, TOKEN_INDEXES, name_of

DEFAULT_DATABASE = "refreshd"
CHOOSE_DATABASE = 'Set store.database, for example database = "refreshd".'

Privilege = Mapping[str, Mapping[str, object]]  # of a `resource`, its `actions`

_OF_AN_OWNER = frozenset(
    {"anyAction", "createRole", "createUser", "dropRole", "dropUser", "grantRole", "revokeRole"}
)
_READ_WRITE = ("find", "insert", "update")
# The fields that refreshd writes, besides the applications' `meta`: no other index may constrain them.
_OWN_FIELDS = frozenset(
    {
        "provider",
        "account",
        "state",
        "grant",
        "access_token",
        "refresh_token",
        "token_type",
        "scope",
        "expires_at",
        "refresh_expires_at",
        "consent_ends_at",
        "due_at",
        "lease",
        "doubt",
        "grant_fingerprint",
        "revision",
        "failures",
        "last_failure",
        "created_at",
        "updated_at",
        "issued_at",
        "refreshed_at",
        "vars",
        "extra",
        "events",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmfulIndex:
    """Another program's index on the tokens. `why` describes its effect on them."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnIndexes:
    """refreshd's own indexes of tokens: the names of those with another definition, or hidden, of those that are missing,
    and of those that MongoDB is still building.
    """

    wrong: Sequence[str]
    missing: Sequence[str]
    building: Sequence[str]


async def own_indexes(mongo: Mongo) -> OwnIndexes:
    """Compare refreshd's own indexes with their definitions. The daemon's start creates them, so none is missing before."""
    found = await mongo.tried(mongo.tokens.index_information())
    wanted = {name_of(one): one for one in (DUE_INDEX, *TOKEN_INDEXES)}
    right = [one for name, one in wanted.items() if name in found and _is_right(found[name], one.document)]
    return OwnIndexes(
        wrong=[name for name, one in wanted.items() if name in found and one not in right],
        missing=[name for name in wanted if name not in found] if name_of(DUE_INDEX) in found else [],
        building=await unbuilt(mongo, mongo.tokens, right),
    )


def _is_right(found: Mapping[str, object], wanted: Mapping[str, Any]) -> bool:
    condition = found.get("partialFilterExpression")
    partial = isinstance(condition, Mapping) and condition.keys() == wanted["partialFilterExpression"].keys()
    unique = bool(found.get("unique")) == bool(wanted.get("unique"))
    return partial and unique and found.get("key") == list(wanted["key"].items()) and not found.get("hidden")


async def harmful_indexes(mongo: Mongo) -> list[HarmfulIndex]:
    """Return the indexes by which MongoDB would delete tokens or refuse to store a renewed one."""
    found = await mongo.tried(mongo.tokens.index_information())
    harms = []
    for name, index in found.items():
        fields = [str(field) for field, _ in index.get("key", ())]
        on = " and ".join(fields)
        if _forgets_tombstones(index):
            continue
        if "expireAfterSeconds" in index:
            why = f"by its index {name!r} on {on} MongoDB deletes tokens"
            harms.append(HarmfulIndex(name=name, why=why))
        elif index.get("unique") and _constrains(fields):
            why = f"by its unique index {name!r} on {on} MongoDB may refuse to store a renewed token"
            harms.append(HarmfulIndex(name=name, why=why))
    return harms


def _forgets_tombstones(index: Mapping[str, object]) -> bool:
    """Return whether the index deletes nothing but refreshd's own tombstones of revoked tokens, at their own date."""
    wanted = FORGET_INDEX.document
    same_condition = index.get("partialFilterExpression") == wanted["partialFilterExpression"]
    at_its_date = index.get("expireAfterSeconds") == wanted["expireAfterSeconds"]
    return same_condition and at_its_date and index.get("key") == list(wanted["key"].items())


def _constrains(fields: Sequence[str]) -> bool:
    """Return whether uniqueness of `fields` can conflict between two tokens. The id and its parts are unique
    anyway.
    """
    own = {field.partition(".")[0] for field in fields} & _OWN_FIELDS
    return bool(own) and "_id" not in fields and not {"provider", "account"} <= own


async def tokens_elsewhere(mongo: Mongo) -> str | None:
    """Return a sentence if the URI's path leads to an empty collection while the database "refreshd" holds
    tokens, else None.

    Earlier versions used that database whatever the path was.
    """
    chosen = mongo.tokens
    if chosen.database.name == DEFAULT_DATABASE or mongo.address.database != chosen.database.name:
        return None
    former = chosen.database.client[DEFAULT_DATABASE][chosen.name]
    try:
        if await mongo.tried(chosen.find_one({}, {"_id": 1})) is not None:
            return None
        if await mongo.tried(former.find_one({}, {"_id": 1})) is None:
            return None
    except Refusal:  # this login sees one of them only
        return None
    return f"{chosen.full_name} is empty, and {former.full_name} holds tokens"


async def write_with_majority(mongo: Mongo) -> None:
    """Write a document as a renewal does, and delete it again."""
    scratch = {"_id": f"check {uuid4().hex}"}  # with a blank: no provider is called so
    await mongo.tried(mongo.providers.insert_one(dict(scratch)))
    await mongo.tried(mongo.providers.delete_one(scratch))


async def missing_rights(mongo: Mongo) -> list[str]:
    """Return the privileges that this login lacks, like "update on refreshd.tokens". Empty if MongoDB has no
    logins.
    """
    return await _missing(
        mongo,
        (mongo.tokens, (*_READ_WRITE, "remove", "createIndex", "listIndexes")),
        (mongo.providers, (*_READ_WRITE, "remove")),
        (mongo.audit, _READ_WRITE),
        (mongo.keys, _READ_WRITE),
        (mongo.instances, (*_READ_WRITE, "createIndex")),
    )


async def _missing(mongo: Mongo, *needed: tuple[Collection, Sequence[str]]) -> list[str]:
    granted = await _privileges(mongo)
    if granted is None:
        return []
    return [
        f"{action} on {collection.full_name}"
        for collection, actions in needed
        for action in actions
        if not any(action in held for held in _held_on(collection, granted))
    ]


async def missing_service_rights(mongo: Mongo, *, writes: bool) -> list[str]:
    """Return the privileges that an access service with this login lacks. `writes`: it stores tokens too."""
    return await _missing(
        mongo,
        (mongo.tokens, ("find", "update", *(("insert",) if writes else ()))),
        (mongo.access, ("find",)),
        (mongo.access_use, _READ_WRITE),
        (mongo.audit, ("find", "insert")),
        (mongo.keys, ("find",)),
        (mongo.providers, ("find",)),
        (mongo.instances, _READ_WRITE),
    )


async def missing_consent_rights(mongo: Mongo) -> list[str]:
    """Return the privileges without which no consent of `refreshd connect` is exchanged."""
    return await _missing(mongo, (mongo.consents, (*_READ_WRITE, "createIndex")))


async def missing_hook_rights(mongo: Mongo) -> list[str]:
    """Return the privileges without which no hook gets an event."""
    return await _missing(mongo, (mongo.outbox, (*_READ_WRITE, "createIndex")), (mongo.hooks, _READ_WRITE))


async def missing_connect_rights(mongo: Mongo) -> list[str]:
    """Return the privileges without which an access service with this login can't begin consents."""
    return await _missing(mongo, (mongo.consents, _READ_WRITE))


async def missing_access_key_rights(mongo: Mongo) -> list[str]:
    """Return the privileges that `refreshd access` with this login lacks."""
    return await _missing(mongo, (mongo.access, (*_READ_WRITE, "createIndex")))


async def missing_streams(mongo: Mongo) -> list[str]:
    """Return the change streams that an access service with this login can't open."""
    return await _missing(mongo, (mongo.tokens, ("changeStream",)), (mongo.access, ("changeStream",)))


async def may_follow_wishes(mongo: Mongo) -> bool:
    """Return whether this login may open the change stream that shows requested renewals."""
    granted = await _privileges(mongo)
    return granted is None or any("changeStream" in held for held in _held_on(mongo.tokens, granted))


async def needless_rights(mongo: Mongo) -> list[str]:
    """Describe the privileges of this login that refreshd never needs: on the cluster, other databases, users
    and roles.
    """
    own = mongo.tokens.database.name
    found = dict.fromkeys(_needless(privilege, own) for privilege in await _privileges(mongo) or ())
    return [one for one in found if one is not None]


def _needless(privilege: Privilege, own: str) -> str | None:
    resource, actions = privilege.get("resource", {}), privilege.get("actions", ())
    database = resource.get("db")
    if resource.get("cluster"):
        return "the cluster's administration"
    if resource.get("anyResource") or database == "":
        return "every database"
    if database != own:
        return f"the database {database}"
    if isinstance(actions, Sequence) and _OF_AN_OWNER.intersection(actions):
        return f"the users and roles of {own}"
    return None


async def _privileges(mongo: Mongo) -> Sequence[Privilege] | None:
    """Return the privileges of this login's roles, or None if MongoDB requires no login."""
    command = {"connectionStatus": 1, "showPrivileges": True}
    status = await mongo.tried(mongo.tokens.database.command(command))
    info = status.get("authInfo", {})
    granted: Sequence[Privilege] = info.get("authenticatedUserPrivileges", [])
    return granted if info.get("authenticatedUsers") else None


def _held_on(collection: Collection, granted: Sequence[Privilege]) -> Iterator[Sequence[str]]:
    """Return the actions of each privilege that covers `collection`. Empty names cover all (MongoDB: resource
    document).
    """
    for privilege in granted:
        resource, actions = privilege.get("resource", {}), privilege.get("actions", ())
        covers = resource.get("db") in ("", collection.database.name) and resource.get("collection") in (
            "",
            collection.name,
        )
        if isinstance(actions, Sequence) and (covers or resource.get("anyResource")):
            yield actions
