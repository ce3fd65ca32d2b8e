"""The real daemon, built to die or to freeze at one point of a token's path; run as a program of its own.

    python crashing.py POINT OCCURRENCE KEPT_FILE --config config.toml run

Its ports are wrapped where they are put together, in the bootstrap's namespace, so the daemon itself has no switch for
this. Dying is `os._exit`: no cleanup, no flush, nothing is closed. Freezing (POINT `freeze:...`) is SIGSTOP, from which
it wakes by SIGCONT. Each reply that has become durable is noted in KEPT_FILE, with the fingerprint of what was spent,
the reply's status and the time, so that the window before it can be measured; so is, as `check`, how long each request
took from the check of its claim's deadline to its being written. The point `never` only takes these notes.

The margin that the settings demand between requests and lease is for real machines: here a lease may be as short as a
test has time for.
"""

import asyncio
import ctypes
import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from daemon.__main__ import main
from daemon.adapters.journal import journal as sqlite_journal
from daemon.adapters.journal.database import Database
from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.journal.sql import KEEP, Statement
from daemon.adapters.mongo.bulk import Updated
from daemon.adapters.mongo.connecting.consented_tokens import ConsentedTokens
from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.due import Look
from daemon.adapters.mongo.notifying.deliveries import MongoDeliveries
from daemon.adapters.mongo.store import MongoStore
from daemon.adapters.token_endpoint import endpoint as token_endpoint
from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.adapters.token_endpoint.exchange import Exchange
from daemon.domain.change import Change
from daemon.domain.claim import Batch, Claim, Recorded
from daemon.domain.consent_request import (
    Binding,
    Bound,
    ConsentFailure,
    ConsentRequest,
    ConsentResult,
    ConsentState,
    Malformed,
)
from daemon.domain.held_grant import TakenGrant
from daemon.domain.hook_delivery import Delivery
from daemon.domain.journal_entry import Entry
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from daemon.runtime import bootstrap
from daemon.runtime.config import settings
from daemon.runtime.jobs import notifying

CRASHED = 137
FREEZE = "freeze:"  # before a point: stop there until SIGCONT
PR_SET_PDEATHSIG = 1  # linux/prctl.h
MIDWAY = timedelta(milliseconds=150)  # after a request was written: the provider (latency: twice this) has it
JAMMED = timedelta(milliseconds=500)  # until all that was in flight waits in the journal

Reach = Callable[[str], None]
Note = Callable[[Claim, Reply], None]


def die() -> None:
    os._exit(CRASHED)


def freeze() -> None:
    signal.raise_signal(signal.SIGSTOP)  # all threads, this one first


class Fuse:
    """Ends, or freezes, this process when `point` is reached for the `occurrence`th time."""

    def __init__(self, point: str, occurrence: int) -> None:
        self.point = point.removeprefix(FREEZE)
        self._left = occurrence
        self._end = freeze if point.startswith(FREEZE) else die
        self.checked_at = 0.0  # when the last check before a write ended
        self.in_doubt = 0  # requests whose reply is not durable yet

    def __call__(self, point: str) -> None:
        if self._burns_down(point):
            self._end()

    async def when_idle(self, point: str) -> None:
        """Like a call, but a death waits until nothing is in doubt: a lane also claims ahead, while it asks."""
        while point == self.point and self._end is die and self.in_doubt:
            await asyncio.sleep(0)
        self(point)

    def light(self, point: str, delay: timedelta) -> None:
        """Like a call, but it takes `delay` to burn down."""
        if self._burns_down(point):
            asyncio.get_running_loop().call_later(delay.total_seconds(), self._end)

    async def smoulder(self, point: str, delay: timedelta) -> None:
        """Like a call, but the caller gets no further while everything else goes on for `delay`."""
        if self._burns_down(point):
            await asyncio.sleep(delay.total_seconds())
            self._end()

    async def jam(self, point: str, delay: timedelta) -> None:
        """From that time on no caller gets any further; and all of it ends after `delay`."""
        if point == self.point:
            self.light(point, delay)
            if self._left <= 0:
                await asyncio.Event().wait()

    def _burns_down(self, point: str) -> bool:
        self._left -= point == self.point
        return point == self.point and self._left == 0


def store_class(fuse: Fuse) -> type[MongoStore]:
    class Store(MongoStore):
        async def claim(
            self, provider: Provider, *, limit: int, busy: Collection[str], doubtful: bool = False
        ) -> Batch:
            await fuse.when_idle("claim.before")
            batch = await super().claim(provider, limit=limit, busy=busy, doubtful=doubtful)
            if batch.items:
                await fuse.when_idle("claim.after")
            return batch

        async def _take(
            self, look: Look, claim_id: str, *, free: Sequence[str], held: Sequence[str]
        ) -> Updated:
            fuse("claim.found")
            taken = await super()._take(look, claim_id, free=free, held=held)
            if fuse.point == "claim.taken":  # counts where others were not faster
                ours = {"_id": {"$in": [*free, *held]}, "lease.claim": claim_id}
                if await self._mongo.tokens.find_one(ours):
                    await fuse.when_idle("claim.taken")
            return taken

        async def record(self, claim: Claim, change: Change) -> Recorded:
            fuse("record.before")
            await fuse.smoulder("record.slow", MIDWAY)
            await fuse.jam("record.jammed", JAMMED)
            recorded = await super().record(claim, change)
            fuse("record.after")
            return recorded

    return Store


def consents_class(fuse: Fuse) -> type[MongoConsents]:
    class Consents(MongoConsents):
        async def take(self, consent: str) -> ConsentRequest | Malformed | None:
            fuse("take.before")
            taken = await super().take(consent)
            fuse("take.after")
            return taken

        async def hold(self, consent: str, grant: Secret, *, account: str | None) -> bool:
            fuse("hold.before")
            held = await super().hold(consent, grant, account=account)
            fuse("hold.after")
            return held

        async def take_grant(self, consent: str) -> TakenGrant | None:
            fuse("take_grant.before")
            taken = await super().take_grant(consent)
            fuse("take_grant.after")
            return taken

        async def give_up(self, consent: str, state: ConsentState, failure: ConsentFailure) -> bool:
            fuse("give_up.before")
            ended = await super().give_up(consent, state, failure)
            fuse("give_up.after")
            return ended

        async def forget_grant(self, consent: str) -> None:
            fuse("forget_grant.before")
            await super().forget_grant(consent)
            fuse("forget_grant.after")

        async def done(self, consent: str, result: ConsentResult) -> None:
            fuse("done.before")
            await super().done(consent, result)
            fuse("done.after")

    return Consents


def consented_class(fuse: Fuse) -> type[ConsentedTokens]:
    class Consented(ConsentedTokens):
        async def bind(self, token: Token, binding: Binding) -> Bound | ConsentFailure:
            fuse("bind.before")
            bound = await super().bind(token, binding)
            fuse("bind.after")
            return bound

    return Consented


def deliveries_class(fuse: Fuse) -> type[MongoDeliveries]:
    class Deliveries(MongoDeliveries):
        async def delivered(self, delivery: Delivery, *, status: int | None) -> None:
            fuse("deliver.answered")
            await super().delivered(delivery, status=status)
            fuse("deliver.settled")

    return Deliveries


def endpoint_class(fuse: Fuse) -> type[TokenEndpoint]:
    class Endpoint(TokenEndpoint):
        async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
            fuse("ask.before")
            fuse.in_doubt += 1
            reply = await super().send(request, deadline=deadline)
            fuse("ask.after")
            fuse.in_doubt -= isinstance(reply, NoReply)
            return reply

        def _obstacle(self, deadline: timedelta) -> token_endpoint._NotSent | None:
            """The last thing before the write: the points stand on both sides of it."""
            fuse("ask.connected")
            found = super()._obstacle(deadline)
            fuse.checked_at = time.perf_counter()
            if found is None:
                fuse("ask.checked")
            return found

    return Endpoint


def exchange_class(fuse: Fuse, note: Callable[[str], None]) -> type[Exchange]:
    class Written(Exchange):
        def write(self, message: bytes) -> None:
            super().write(message)
            note(f"none check {time.perf_counter() - fuse.checked_at}")
            fuse.light("ask.midway", MIDWAY)

    return Written


def journal_class(fuse: Fuse, note: Note) -> type[SqliteJournal]:
    class Journal(SqliteJournal):
        async def keep(self, claim: Claim, reply: Reply) -> Entry:
            fuse("keep.before")
            entry = await super().keep(claim, reply)
            fuse.in_doubt -= 1
            note(claim, reply)
            fuse("keep.after")
            return entry

        def forget(self, entry: Entry) -> None:
            fuse("forget.before")
            super().forget(entry)
            fuse("forget.after")

    return Journal


def database_class(fuse: Fuse) -> type[Database]:
    class Transactions(Database):
        def _transact(self, statements: Sequence[Statement]) -> None:
            """In the journal's thread: once the transaction is durable, before any caller goes on."""
            super()._transact(statements)
            if any(statement == KEEP for statement, _ in statements):
                fuse("keep.durable")

    return Transactions


def notes_in(path: str) -> Callable[[str], None]:
    """One `write` a line, so that a line is there whole or not at all, whenever this process dies."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(line: str) -> None:
        os.write(file, f"{line}\n".encode())

    return note


def note_of(note: Callable[[str], None]) -> Note:
    def kept(claim: Claim, reply: Reply) -> None:
        spent = claim.token.refresh_token
        name = hashlib.sha256(spent.reveal().encode()).hexdigest() if spent else "none"
        note(f"{name} {reply.status} {time.time()}")

    return kept


def end_with_the_test() -> None:
    """A test run that is killed has no time to clean up: the kernel then ends this process with it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    end_with_the_test()
    point, occurrence, kept = sys.argv[1:4]
    sys.argv[1:4] = []
    fuse, note = Fuse(point, int(occurrence)), notes_in(kept)
    vars(bootstrap).update(
        MongoStore=store_class(fuse),
        TokenEndpoint=endpoint_class(fuse),
        SqliteJournal=journal_class(fuse, note_of(note)),
        MongoConsents=consents_class(fuse),
        ConsentedTokens=consented_class(fuse),
    )
    vars(notifying).update(MongoDeliveries=deliveries_class(fuse))
    vars(sqlite_journal).update(Database=database_class(fuse))
    vars(token_endpoint).update(Exchange=exchange_class(fuse, note))
    vars(settings).update(LEASE_MARGIN=timedelta())
    sys.exit(main())
