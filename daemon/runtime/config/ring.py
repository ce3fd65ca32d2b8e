"""A key of the ring with its date and its use: the key itself, a reference to it, or a table of these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated

from daemon.domain.key_use import KeyUse
from daemon.runtime.config.fields import Context, Read, day, one_of
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_sources import key

_OWN = ("value", "created", "use")
_use = one_of(KeyUse)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingKey:
    """`created`: the day on which the key was made, if the configuration states it."""

    key: bytes = field(repr=False)
    created: date | None = None
    use: KeyUse = KeyUse.ALL


def ring_key(value: object, info: Context) -> RingKey:
    """Return a key that stands as text, as a reference, or in a table with `created` and `use`."""
    if not isinstance(value, Mapping):
        return RingKey(key=key(value, info))
    return RingKey(
        key=key(source_in(value), info),
        created=day(value["created"]) if "created" in value else None,
        use=_use(value["use"]) if "use" in value else KeyUse.ALL,
    )


def source_in(entry: Mapping[str, object]) -> object:
    """Return the text of the key or the reference to it, without its date and use. Raises InvalidValue."""
    source = {name: inner for name, inner in entry.items() if name not in _OWN}
    if "value" not in entry:
        return source
    if source or not isinstance(entry["value"], str):
        raise InvalidValue(
            "has a value that is not the text of a key alone",
            'Write { value = "KEY", created = 2026-11-01 }, or a reference without value.',
        )
    return entry["value"]


RingKeyEntry = Annotated[RingKey, Read(ring_key)]
