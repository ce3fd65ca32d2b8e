"""Events of mirrors."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorFailed:
    """A mirror could not read or write its place, or the store. It is tried again."""

    mirror: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorBack:
    """A mirror works again."""

    mirror: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorRefused:
    """A mirror left the row of one token as it is: another program has changed it, or it can't be written."""

    mirror: str
    token: str
    message: str
