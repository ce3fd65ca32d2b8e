"""Protocols for everything that refreshing needs from outside. The adapters fit them by shape, and tests
bring fakes.
"""

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
Weigh = Callable[[Token, Answer], bool]  # records an answer as evidence; returns whether it is doubtful


class Clock(Protocol):
    """Two clocks: the store's wall clock for stored times, and the boot clock, which includes suspended time,
    for deadlines.
    """

    def now(self) -> datetime:
        """Return the store's time (UTC). Raises StoreLost until the store has answered for the first time."""

    def boot(self) -> timedelta:
        """Return the time since boot, including suspended time. It never jumps."""


class Store(Protocol):
    """The shared store, which also coordinates the replicas. Every method raises StoreLost if it can't do its
    work.
    """

    async def survey(self, configured: Collection[str]) -> Survey:
        """Contact the store. Sets the clock, and returns the paused providers and the due documents that
        can't be used.
        """

    async def pause_of(self, provider: Provider) -> Pause | None:
        """Return the pause of `provider` as it is stored now."""

    async def due(self, providers: Collection[str]) -> Collection[str]:
        """Return those of `providers` that have due tokens, including tokens that other instances hold. A
        claim for any other provider would be empty.
        """

    async def claim(
        self, provider: Provider, *, limit: int, busy: Collection[str], doubtful: bool = False
    ) -> Batch:
        """Claim up to `limit` due tokens of `provider`, chosen from the oldest, without those in `busy`.

        `doubtful` limits the claim to tokens that this instance asked for once without an answer. A claim is
        returned only if a majority has acknowledged it. An unacknowledged claim is released later.
        """

    async def claim_wished(
        self, provider: Provider, *, tokens: Collection[str], busy: Collection[str]
    ) -> Batch:
        """Claim those of `tokens` that are due, under the same conditions as `claim`. `more` is always false."""

    async def probe(self, provider: Provider, *, limit: int, busy: Collection[str], proven: bool) -> Batch:
        """Claim up to `limit` due tokens for a probe of a paused provider.

        With `proven`, choose at random among tokens that were renewed before and have not failed since.
        Without, choose the healthiest: at random among those that have not failed, then those with the fewest
        failures. `more` is always false.
        """

    async def record(self, claim: Claim, change: Change) -> Recorded:
        """Write `change` with a majority if the document still holds the refresh token that was presented.
        Raises Unusable if the document can't be compared or changed.
        """

    async def recall(self, entry: Entry) -> Claim | None:
        """Return the claim of a journal entry, with the token as it is stored now, or None if the document is
        gone. Raises Unusable if the document or the presented secret can't be read.
        """

    async def removed(self, entry: Entry, *, alone: bool) -> Claim | None:
        """Return the claim of a journal entry whose document was removed on purpose after the request, or None.

        None also if another document holds the grant, or with `alone`, if any other token of the provider is stored.
        The token has no variables. Raises Unusable if the presented secret can't be read.
        """

    async def standings(self, tokens: Collection[str]) -> Mapping[str, Standing]:
        """Return the current sealed content of these documents. Missing documents are left out."""

    async def release(self, claims: Sequence[Claim]) -> None:
        """Release claims whose tokens were not presented."""


class Journal(Protocol):
    """The durable local copy of replies that the store has not confirmed."""

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        """Make `reply` durable, then return. Never fails: a reply that the disk refuses is held in memory
        until the disk or the store has it, and `writable` is false until then.
        """

    def forget(self, entry: Entry) -> None:
        """Drop `entry` soon, because the store has confirmed its result."""

    def park(self, entry: Entry | Locked, state: EntryState) -> None:
        """Keep `entry` for operators, as unparsed, superseded or unusable.

        Unparsed and superseded entries are not replayed again. An unusable one still blocks its token and is
        replayed again, since its reply may hold the only successor of the stored refresh token.
        """

    async def probe(self) -> None:
        """Update `writable`, `entries` and `locked`: test the disk, write replies that it refused before, and
        open entries whose key is back. Never fails.
        """

    def entries(self) -> Sequence[Entry]:
        """Return the entries that wait for a replay, oldest first."""

    @property
    def locked(self) -> Sequence[Locked]:
        """The entries that can't be opened, because a key is missing or the row was altered. Each blocks its
        token.
        """

    @property
    def tokens(self) -> Collection[str]:
        """The ids of the tokens with a waiting reply."""

    @property
    def crowded(self) -> Collection[str]:
        """The providers whose parked replies exceed the disk space of one provider."""

    @property
    def writable(self) -> bool:
        """Whether the journal could keep a reply now, according to the last write or probe."""


class Pauses(Protocol):
    """The paused providers, as all replicas agree. Every method raises StoreLost."""

    async def pause(self, provider: Provider, reason: Reason) -> None:
        """Pause `provider` unless it is paused already."""

    async def take_turn(self, provider: Provider, pause: Pause, proven: bool = True) -> bool:
        """Return whether this replica sends the next probe, because no other has taken the turn since `pause`
        was read. `proven`: the probe uses a proven token. A probe without one does not postpone the next
        probe by proven tokens.
        """

    async def resume(self, provider: Provider) -> None:
        """End the pause unless an operator set it."""

    def client_of(self, provider: Provider) -> str:
        """Return a fingerprint of the configured client at `provider`. Another client is worth an immediate
        probe.
        """


class RateLimiter(Protocol):
    """Limits the requests of this process to one provider."""

    async def ready(self) -> None:
        """Wait until at least one request is allowed."""

    def available(self, most: int) -> int:
        """Return how many requests are allowed now, at most `most`."""

    async def acquire(self, count: int) -> None:
        """Count the requests that are sent now, no more than were allowed."""


class Endpoint(Protocol):
    """The providers' token endpoints."""

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once, unless `deadline` (boot clock) has passed when the connection is established."""


class Clients(Protocol):
    """The secrets of the clients, which may change at their source."""

    async def read_again(self, refused: Provider) -> Provider | None:
        """Return the provider with another client than the one in `refused`, which it has refused, or None if there is
        no other. That client is in use from then on. Never fails.
        """

    def accepted(self, provider: str) -> None:
        """Note a grant: `provider` accepts its client."""
