"""What keeping tokens fresh needs from the world. The adapters fit these by shape; tests bring fakes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from daemon.domain.answer import Answer
from daemon.domain.change import Change
from daemon.domain.circuit_breaker import Pause, Reason
from daemon.domain.claim import Batch, Claim, Recorded, Survey
from daemon.domain.event import Event
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked, Standing
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.token import Token

Observe = Callable[[Event], None]
Chance = Callable[[], float]  # uniform in 0 to 1
Weigh = Callable[[Token, Answer], bool]  # take note of an answer; whether it is to be doubted


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

    async def due(self, providers: Collection[str]) -> Collection[str]:
        """Those of `providers` that have something due, also where others hold it: no claim is worth a try for the rest."""

    async def claim(
        self, provider: Provider, *, limit: int, busy: Collection[str], doubtful: bool = False
    ) -> Batch:
        """Take up to `limit` due tokens of `provider`, from among the oldest, none of those in `busy`. `doubtful`: only what
        this instance has asked once and had no answer to.

        A claim is returned only when a majority has acknowledged it; one that was not is released later.
        """

    async def probe(self, provider: Provider, *, limit: int, busy: Collection[str], proven: bool) -> Batch:
        """Claim up to `limit` due tokens for a probe of a resting provider.

        `proven`: only tokens that were renewed before and have not failed since, at random among them. Else the
        healthiest of all: those that have not failed, at random, and then those with the fewest failures. `more` is
        always false.
        """

    async def record(self, claim: Claim, change: Change) -> Recorded:
        """Write `change` if the document still holds the refresh token that was presented (majority).

        Raises Unusable when what the document holds now can't be compared, or can't be changed.
        """

    async def recall(self, entry: Entry) -> Claim | None:
        """The claim that a journal entry was made under, with the token as it is stored now; None: it is gone.

        Raises Unusable when the document or what was spent can't be read.
        """

    async def standings(self, tokens: Collection[str]) -> Mapping[str, Standing]:
        """What is stored under these ids now, sealed; of one that is missing, nothing."""

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

    def park(self, entry: Entry | Locked, state: EntryState) -> None:
        """Keep `entry` for operators, as unparsed, superseded or unusable.

        The first two are done with. An unusable one goes on blocking its token, since its reply may hold the only
        successor of what is stored, and is among the entries to be replayed again.
        """

    async def probe(self) -> None:
        """Bring `writable`, `entries` and `locked` up to date: see whether the disk takes writes and has room, write the
        replies that it refused before, and open the entries whose key is back. Never fails.
        """

    def entries(self) -> Sequence[Entry]:
        """The entries that wait to be replayed, oldest first."""

    @property
    def locked(self) -> Sequence[Locked]:
        """What can't be opened now, for want of a key or because it was altered. It blocks its token."""

    @property
    def tokens(self) -> Collection[str]:
        """The ids of the tokens that have a reply waiting here."""

    @property
    def crowded(self) -> Collection[str]:
        """Providers whose parked replies take more of the disk than one provider may have."""

    @property
    def writable(self) -> bool:
        """Whether a reply that comes now could be kept, by the last write or probe."""


class Pauses(Protocol):
    """Which providers rest, agreed by all replicas. Every method raises StoreLost."""

    async def pause(self, provider: Provider, reason: Reason) -> None:
        """Let `provider` rest, unless it does already."""

    async def take_turn(self, provider: Provider, pause: Pause, proven: bool = True) -> bool:
        """Whether the next probe is ours: nobody has taken it since `pause` was read. `proven`: it takes a proven token;
        else it does not put off the next probe by one.
        """

    async def resume(self, provider: Provider) -> None:
        """End the rest, unless an operator wants it."""

    def client_of(self, provider: Provider) -> str:
        """A fingerprint of our client at `provider`: another one is worth a probe at once."""


class RateLimiter(Protocol):
    """How fast one provider may be asked by this process."""

    async def ready(self) -> None:
        """Wait until at least one request may go."""

    def available(self, most: int) -> int:
        """How many requests may go now, at most `most`."""

    async def acquire(self, count: int) -> None:
        """So many are going now; at most what was allowed."""


class Endpoint(Protocol):
    """The providers' token endpoints."""

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once, unless `deadline` (boot clock) has passed by the time the connection is up."""
