"""What keeping tokens fresh needs from the world. The adapters fit these by shape; tests bring fakes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol

from daemon.domain.change import Change
from daemon.domain.dialect import NoReply, Reply
from daemon.domain.event import Event
from daemon.domain.provider import Provider
from daemon.domain.request import Request
from daemon.domain.token import FailureKind, Token

Observe = Callable[[Event], None]
Chance = Callable[[], float]  # uniform in 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to present `token`'s refresh token once, until `deadline`.

    `spent` is the sealed text that was read: what a result is fenced on. None: the token has no refresh token.
    """

    token: Token
    id: str
    spent: str | None
    deadline: timedelta  # by the boot-time clock; no request starts after it


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A due document that can't be used: it is reported once per change, and nothing is sent anywhere."""

    token: str
    provider: str
    kind: FailureKind
    code: str
    message: str
    new: bool  # it was not set aside for the same reason before


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one claim command brought. `more`: there was more due than it asked for."""

    items: Sequence[Claim | SetAside]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One reply in the journal. `key` names it there; `provider` is the token's."""

    key: int
    token: str
    provider: str
    claim: str
    spent: str | None
    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How the store looks before a sweep: who is paused, and the due documents of providers we have no client for."""

    paused: Mapping[str, str]  # provider -> reason
    set_aside: Sequence[SetAside]


class Recorded(Enum):
    """What became of a change: it is stored, or something newer had been stored before it."""

    STORED = "stored"
    SUPERSEDED = "superseded"


class StoreLost(Exception):
    """The store did not answer, or could not confirm with a majority. Nothing is known about the last write."""


class Clock(Protocol):
    """Two clocks: the store's wall clock, for what is stored, and one that counts through sleep, for deadlines."""

    def now(self) -> datetime:
        """The store's time (UTC). Raises StoreLost as long as the store was never asked."""

    def boot(self) -> timedelta:
        """Time since boot, suspended time included; never jumps."""


class Store(Protocol):
    """The shared store and coordinator. Every method raises StoreLost when it can't keep its promise."""

    async def survey(self, configured: Collection[str]) -> Survey:
        """Ask the store whether it is there, what time it has, which providers rest, and what can't be used."""

    async def claim(self, provider: Provider, *, limit: int, busy: Collection[str]) -> Batch:
        """Take up to `limit` due tokens of `provider`, oldest first, none of those in `busy`.

        A claim is returned only when a majority has acknowledged it; one that was not is released later.
        """

    async def record(self, claim: Claim, change: Change) -> Recorded:
        """Write `change` if the document still holds the refresh token that was presented (majority)."""

    async def recall(self, entry: Entry) -> Claim | None:
        """The claim that a journal entry was made under, with the token as it is stored now; None: it is gone."""

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give back claims under which nothing was presented."""


class Journal(Protocol):
    """Our own durable notebook of replies that the store has not confirmed."""

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        """Make `reply` durable, then return. Never fails: what the disk refuses is held in memory until either
        store has it, and `writable` is false until then.
        """

    def forget(self, entry: Entry) -> None:
        """The store has confirmed what `entry` led to; drop it soon."""

    def retain(self, entry: Entry, why: str) -> None:
        """Keep `entry` for people to look at, and don't replay it: `unread`, `superseded` or `unusable`."""

    async def entries(self) -> Sequence[Entry]:
        """What waits to be replayed, oldest first."""

    @property
    def tokens(self) -> Collection[str]:
        """The ids of the tokens that have a reply waiting here."""

    @property
    def writable(self) -> bool:
        """Whether a reply that comes now could be kept."""


class Endpoint(Protocol):
    """The providers' token endpoints."""

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once, unless `deadline` (boot clock) has passed by the time the connection is up."""
