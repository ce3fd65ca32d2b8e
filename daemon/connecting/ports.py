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
    ConsentState,
    Malformed,
    Waiting,
)
from daemon.domain.discard import Harm
from daemon.domain.event import Event
from daemon.domain.held_grant import DiscardedGrant, DueGrant, TakenGrant
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import Token


class Clock(Protocol):
    """The store's clock and the boot clock."""

    def now(self) -> datetime:
        """Return the store's time (UTC). Raises StoreLost until the store has answered for the first time."""

    def boot(self) -> timedelta:
        """Return the time since boot, including suspended time."""


class Consents(Protocol):
    """The stored consent requests. Every method raises StoreLost."""

    async def pending(self) -> bool:
        """Return whether a daemon may have something to do, with one query: a code that is not exchanged, or a grant that
        is to be stored or given up.
        """

    async def waiting(self, providers: Collection[str]) -> Sequence[Waiting]:
        """Return requests of `providers` that have a code and wait for a daemon, oldest first."""

    async def take(self, consent: str) -> ConsentRequest | Malformed | None:
        """Mark a waiting request as asked by this instance, with a majority. Returns None if another was faster, or if
        it has expired. Only the caller that receives the request may present its code.
        """

    async def recall(self, consent: str) -> ConsentRequest | None:
        """Return a request that is asked, without its code, or None if it has ended or is gone."""

    async def hold(self, consent: str, grant: Secret, *, account: str | None) -> bool:
        """Seal the grant of an asked request into it. It waits HELD_FOR for its completion. Its code is removed.
        Returns False if the request has ended or holds a grant.
        """

    async def done(self, consent: str, result: ConsentResult) -> None:
        """End an asked request. Its code and its held grant are removed."""

    async def failed(
        self,
        consent: str,
        failure: ConsentFailure,
        *,
        grant: Secret | None = None,
        account: str | None = None,
    ) -> None:
        """End an asked request that holds no grant. Its code is removed. `grant`: to be discarded."""

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

    async def discard(self, consent: str, grant: Secret, *, account: str | None) -> bool:
        """Seal a grant that is to be discarded into a request that has ended, unless one is there. Returns False if the
        request is gone, or has not ended without a token.
        """

    async def release(self) -> None:
        """Give back the grants that this instance has taken."""

    async def due_grants(self, providers: Collection[str]) -> Sequence[DueGrant]:
        """Return the sealed grants of `providers` that are to be stored or given up now."""

    async def take_grant(self, consent: str) -> TakenGrant | None:
        """Take a due grant for LEASE. Returns None if another instance was faster."""

    async def give_up(self, consent: str, state: ConsentState, failure: ConsentFailure) -> bool:
        """End a request that holds a grant, which is to be discarded. Returns False if the request has ended or, for
        ABANDONED, was completed.
        """

    async def postpone(self, consent: str, *, due_at: datetime, tries: int) -> None:
        """Give back a grant that this instance has taken, until `due_at`."""

    async def forget_grant(self, consent: str) -> None:
        """Remove the grant of a request that has ended."""

    async def holds_account(self, consent: str, providers: Collection[str], account: str | None) -> bool:
        """Return whether another request of `providers` holds a grant that may be of this account."""


class Tokens(Protocol):
    """The stored tokens."""

    async def bind(self, token: Token, binding: Binding) -> Bound | ConsentFailure:
        """Store the token of a consent, unless a newer consent is stored. It wins over renewals of the former grant.

        Repeating it changes nothing. Raises StoreLost, or Unusable if the stored document can't be changed.
        """

    async def harm(self, providers: Collection[str], grant: DiscardedGrant) -> Harm:
        """Return the worst effect of a revocation of `grant` on the stored tokens of `providers`. Raises StoreLost."""


class Deeds(Protocol):
    """The audit of grants that are not stored. Its methods raise StoreLost, and a repetition is the same record."""

    async def revoking(self, token: str, consent: str) -> None:
        """Record that the grant of a consent is about to be revoked."""

    async def left_alive(self, token: str, consent: str, *, why: str, manage_url: str | None) -> None:
        """Record that the grant of a consent stays valid at its provider. `manage_url`: the page on which its owner can
        end it.
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
