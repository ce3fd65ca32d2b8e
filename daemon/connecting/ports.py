"""Protocols for everything that connecting needs from outside. The adapters fit them by shape, and tests bring fakes."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from daemon.domain.claim import Claim
from daemon.domain.consent_request import (
    Binding,
    Bound,
    ConsentFailure,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    Malformed,
    Waiting,
)
from daemon.domain.event import Event
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.token import Token


class Clock(Protocol):
    """The store's clock and the boot clock."""

    def now(self) -> datetime:
        """Return the store's time (UTC). Raises StoreLost until the store has answered for the first time."""

    def boot(self) -> timedelta:
        """Return the time since boot, including suspended time."""


class Consents(Protocol):
    """The stored consent requests. Every method raises StoreLost."""

    async def waiting(self, providers: Collection[str]) -> Sequence[Waiting]:
        """Return requests of `providers` that have a code and wait for a daemon, oldest first."""

    async def take(self, consent: str) -> ConsentRequest | Malformed | None:
        """Mark a waiting request as asked by this instance, with a majority. Returns None if another was faster, or if
        it has expired. Only the caller that receives the request may present its code.
        """

    async def recall(self, consent: str) -> ConsentRequest | None:
        """Return a request that is asked, without its code, or None if it has ended or is gone."""

    async def done(self, consent: str, result: ConsentResult) -> None:
        """End an asked request. Its code is removed."""

    async def failed(self, consent: str, failure: ConsentFailure) -> None:
        """End an asked request without a grant. Its code is removed."""

    async def wait_again(self, consent: str, interval: timedelta | None) -> None:
        """Let an asked device code wait again, at least for its interval, which becomes `interval` unless that is None."""

    async def asked(self) -> Sequence[Waiting]:
        """Return the requests that this instance has asked for, and those of instances that have not concluded theirs
        in ABANDONED_AFTER.
        """

    async def expire(self) -> None:
        """End the waiting requests whose time is over. Their codes are removed."""

    async def progress(self, consent: str) -> ConsentProgress | None:
        """Return the state of a request, or None if it is gone."""


class Tokens(Protocol):
    """The stored tokens."""

    async def bind(self, token: Token, binding: Binding) -> Bound | ConsentFailure:
        """Store the token of a consent, unless a newer consent is stored. It wins over renewals of the former grant.

        Repeating it changes nothing. Raises StoreLost, or Unusable if the stored document can't be changed.
        """


class Journal(Protocol):
    """The durable local copy of replies, as for refreshes."""

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        """Make `reply` durable, then return. Never fails."""

    def forget(self, entry: Entry) -> None:
        """Drop `entry` soon, because its result is stored."""

    def park(self, entry: Entry | Locked, state: EntryState) -> None:
        """Keep `entry` for operators."""

    def entries(self) -> Sequence[Entry]:
        """Return the entries that wait for a replay."""

    @property
    def locked(self) -> Sequence[Locked]:
        """The entries that can't be opened now."""


class Endpoint(Protocol):
    """The providers' token endpoints."""

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        """Send `request` once, unless `deadline` (boot clock) has passed when the connection is established."""


class Lane(Protocol):
    """The work of one provider."""

    def may_present(self) -> bool:
        """Return whether something may be sent to the provider now."""

    async def present(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work`, which presents one secret, within the provider's limits. Returns False if nothing may be sent to
        the provider now; nothing has begun then.
        """


Observe = Callable[[Event], None]
Lanes = Callable[[str], Lane | None]  # by the provider's name
