"""An access key as a MongoDB document of `<collection>_access`, which holds a hash of the secret.

Other programs can write these documents too. So no type is assumed, and an ill-formed document allows nothing. A
missing limit is a fault as well, because "no limit" is written as null or as an empty list.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

from bson.int64 import Int64

from daemon.adapters.mongo.token_document import Document, InvalidDocument
from daemon.domain.access_key import ID_FORM, NAME_FORM, AccessKey, Verb, is_field
from daemon.domain.provider import Rate

_HASH = re.compile(r"[0-9a-f]{64}")
_VERBS = frozenset(Verb)
_LONGEST_SHOWN = 100  # characters
_LONGEST_RATE = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class IllFormed:
    """A document that allows nothing. `name`: the text in its field of this name, if it is a text."""

    id: str
    name: str | None
    why: str


def access_key_of(document: Document) -> AccessKey:
    """Return the access key in `document`. Raises InvalidDocument, which names the field and contains no value."""
    return AccessKey(
        id=_text(document, "_id", ID_FORM),
        name=_text(document, "name", NAME_FORM),
        secret_hash=_text(document, "secret_hash", _HASH),
        tokens=tuple(_texts(document, "tokens")),
        can=frozenset(_verbs(document)),
        where=_where(document),
        networks=tuple(_networks(document)),
        rate=_rate(document),
        created_at=_date(document, "created_at"),
        expires_at=_date(document, "expires_at"),
        revoked_at=_date(document, "revoked_at"),
        disabled_at=_date(document, "disabled_at"),
        last_used_at=_date(document, "last_used_at"),
    )


def access_key_document(key: AccessKey, generation: int) -> dict[str, object]:
    """Return `key` as it is stored. `generation`: how many keys its name has had, with this one."""
    return {
        "_id": key.id,
        "name": key.name,
        "generation": generation,
        "secret_hash": key.secret_hash,
        "tokens": list(key.tokens),
        "can": sorted(key.can),
        "where": [{"field": name, "equals": text} for name, text in key.where.items()],
        "from": [str(network) for network in key.networks],
        "rate": key.rate and {"count": key.rate.count, "seconds": key.rate.per.total_seconds()},
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "disabled_at": key.disabled_at,
    }


def key_or_fault(document: Document) -> AccessKey | IllFormed:
    """Return the access key in `document`, or the reason why it allows nothing."""
    try:
        return access_key_of(document)
    except InvalidDocument as why:
        name = document.get("name")
        key_id = str(document.get("_id"))[:_LONGEST_SHOWN]
        return IllFormed(id=key_id, name=name if type(name) is str else None, why=str(why))


def generation_of(document: Document | None) -> int:
    """Return the generation, 0 if there is none or it has another type."""
    found = (document or {}).get("generation")
    return int(found) if isinstance(found, int) and type(found) in (int, Int64) else 0


def _text(document: Document, name: str, form: re.Pattern[str]) -> str:
    value = document.get(name)
    if type(value) is not str or not form.fullmatch(value):
        raise InvalidDocument(f"{name} does not have the right form")
    return value


def _texts(document: Document, name: str, *, least: int = 1) -> Sequence[str]:
    value = document.get(name)
    if type(value) is not list or len(value) < least or not all(type(one) is str and one for one in value):
        raise InvalidDocument(f"{name} is not a list of texts" + (", or is empty" if least else ""))
    return value


def _verbs(document: Document) -> Iterator[Verb]:
    for text in _texts(document, "can"):
        if text not in _VERBS:
            raise InvalidDocument("can holds an unknown verb")
        yield Verb(text)


def _where(document: Document) -> Mapping[str, str]:
    rows, found = document.get("where"), dict[str, str]()
    if type(rows) is not list:
        raise InvalidDocument("where is not a list")
    for row in rows:
        known = isinstance(row, Mapping) and row.keys() == {"field", "equals"}
        field, text = (row["field"], row["equals"]) if known else (None, None)
        if type(field) is not str or type(text) is not str or not is_field(field) or field in found:
            raise InvalidDocument(
                "where has an element other than a field, each only once, and the text that it must equal"
            )
        found[field] = text
    return found


def _networks(document: Document) -> Iterator[IPv4Network | IPv6Network]:
    for text in _texts(document, "from", least=0):
        try:
            yield ip_network(text)
        except ValueError:
            raise InvalidDocument("from holds a text that is not a network") from None


def _rate(document: Document) -> Rate | None:
    stored = _present(document, "rate")
    if stored is None:
        return None
    count, seconds = (
        (stored.get("count"), stored.get("seconds")) if isinstance(stored, Mapping) else (None, None)
    )
    if (
        not isinstance(count, int)
        or type(count) not in (int, Int64)
        or count < 1
        or not isinstance(seconds, int | float)
        or type(seconds) not in (int, Int64, float)
        or not 0.001 <= seconds <= _LONGEST_RATE.total_seconds()  # also refuses NaN
    ):
        raise InvalidDocument("rate is not a positive count and a positive number of seconds")
    return Rate(count=int(count), per=timedelta(seconds=seconds))


def _date(document: Document, name: str) -> datetime | None:
    value = _present(document, name)
    if value is not None and (type(value) is not datetime or value.tzinfo is None):
        raise InvalidDocument(f"{name} is neither a date nor null")
    return value


def _present(document: Document, name: str) -> object:
    """Return the field's value. It must be there, if only as null: a limit that was taken out is no longer a limit."""
    if name not in document:
        raise InvalidDocument(f"{name} is missing")
    return document[name]
