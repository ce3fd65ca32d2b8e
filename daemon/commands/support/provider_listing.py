"""The list of providers: which of them match a search, and the columns that fit the terminal."""

import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from daemon.commands.support.column import Column
from daemon.domain.provider import Definition, Grant, Rotation

_WIDE = 160  # columns where no terminal says how many
_ROTATION = {
    Rotation.NEVER: "never replaced",
    Rotation.SOMETIMES: "replaced if one comes",
    Rotation.ALWAYS: "replaced each time",
}


class Kind(StrEnum):
    """What renews a provider's tokens."""

    REFRESH = "refresh"
    EXCHANGE = "exchange"
    REISSUED = "reissued"
    WATCHED = "watched"


class Consent(StrEnum):
    """How an owner consents: with `refreshd connect`, in a browser or on a device, or elsewhere."""

    BROWSER = "browser"
    DEVICE = "device"
    ELSEWHERE = "elsewhere"


_KINDS = {Grant.REFRESH_TOKEN: Kind.REFRESH, Grant.EXCHANGE: Kind.EXCHANGE, Grant.NONE: Kind.WATCHED}
_SHORT = {
    Kind.EXCHANGE: "none: exchanged",
    Kind.REISSUED: "none: reissued",
    Kind.WATCHED: "none: watched",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The providers to list: those that fit each filter that is set. `search`: words that must all appear in the name,
    the title, or a host.
    """

    search: str = ""
    verified: bool | None = None
    configured: bool = False
    kind: Kind | None = None
    consent: Consent | None = None

    @property
    def is_all(self) -> bool:
        return self == Wanted()

    def includes(self, definition: Definition, configured: Collection[str]) -> bool:
        return (
            _has_words(definition, self.search)
            and self.verified in (None, definition.verified)
            and (not self.configured or definition.name in configured)
            and self.kind in (None, kind_of(definition))
            and (self.consent is None or self.consent in ways_of(definition))
        )


def kind_of(definition: Definition) -> Kind:
    return _KINDS.get(definition.grant, Kind.REISSUED)


def ways_of(definition: Definition) -> frozenset[Consent]:
    """Return how an owner can consent. Without an address for it, the application has its own way."""
    ways = ((Consent.BROWSER, definition.authorize_url), (Consent.DEVICE, definition.device_url))
    return frozenset(way for way, url in ways if url) or frozenset({Consent.ELSEWHERE})


def terminal_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE


def table(
    found: Iterable[Definition], configured: Collection[str], *, width: int
) -> tuple[Sequence[Column], Sequence[Sequence[str]]]:
    """Return the columns that fit a terminal of `width` characters, and a row for each provider. The last column is the
    longest, and is cut.
    """
    columns = [column for column, least in _COLUMNS if width >= least]
    rows = [_cells(definition, configured) for definition in found]
    return columns, [[cells[column.title] for column in columns] for cells in rows]


_COLUMNS = (  # each with the width of a terminal that has room for it
    (Column("Name"), 0),
    (Column("Client"), 60),
    (Column("Facts"), 72),
    (Column("Refresh token"), 100),
    (Column("Provider"), 0),
)


def _cells(definition: Definition, configured: Collection[str]) -> dict[str, str]:
    kind = kind_of(definition)
    return {
        "Name": definition.name,
        "Client": "configured" if definition.name in configured else "-",
        "Facts": "verified" if definition.verified else "experimental",
        "Refresh token": _SHORT.get(kind) or _ROTATION[definition.rotation],
        "Provider": definition.title,
    }


def _has_words(definition: Definition, search: str) -> bool:
    urls = (definition.token_url, definition.authorize_url or "", definition.docs)
    hosts = (url.partition("//")[2].partition("/")[0] for url in urls)
    text = " ".join((definition.name, definition.title, *definition.domains, *hosts)).casefold()
    return all(word in text for word in search.casefold().split())
