"""Where an imported token comes from, and a stored token as another place is to have it."""

from dataclasses import dataclass, field

from daemon.domain.layout import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The row that a token was imported from: its layout, its source and its key there.

    `cells`: the row without its tokens, as the source encodes one. `digest`: of the whole row, as refreshd has read or
    written it last. `activated`: refreshd renews the token; else the application still does. `untouched`: the stored
    token is the one that the row held then.
    """

    layout: str
    source: str
    key: str
    cells: str = field(repr=False)
    digest: str
    activated: bool
    untouched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """A stored token, decrypted. `usable`: it is active. `unsettled`: a renewal is in flight, or its result unknown.
    `revoking`: its grant is being ended.
    """

    id: str
    values: Values
    origin: Origin | None
    usable: bool
    unsettled: bool
    revoking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A stored document that holds no usable token. `why` contains no value of it."""

    id: str
    why: str
