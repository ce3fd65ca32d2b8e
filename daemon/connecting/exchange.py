"""The life of a consent: take, ask, keep, read, bind or hold, record, forget.

Taking is the point of no return: a code is presented by the instance that took it, once. If the process ends
afterwards, the journal decides. With a kept reply, the next start binds its grant. Without one, the consent has
failed, and the owner starts again. A grant that is bound to a session of an application is held, not bound.

A device code takes the same path once for each poll (RFC 8628 §3.4). While its owner has not answered, the request
waits again. A poll whose reply was lost is repeated.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from daemon.connecting.binding import Binder, not_connected
from daemon.connecting.discarding import Discarder
from daemon.connecting.held_grants import HeldGrants
from daemon.connecting.ports import Clock, Consents, Deeds, Endpoint, Journal, Lanes, Observe, Tokens
from daemon.domain.claim import Claim, StoreLost, Unusable
from daemon.domain.code_reply import grant_in, read_code_reply
from daemon.domain.consent_request import (
    LEASE,
    PRESENTED_FIELD,
    ConsentFailure,
    ConsentFailureKind,
    ConsentKind,
    ConsentRequest,
    ConsentState,
    Malformed,
)
from daemon.domain.device_flow import answer_of, poll_again
from daemon.domain.due import Timing
from daemon.domain.event import InternalError
from daemon.domain.held_grant import HeldGrant, discarded_text, held_text
from daemon.domain.journal_entry import Entry, EntryState, ReplayResult, consent_claim, consent_of
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request, code_request, device_request
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable

# Exchanges of one provider in this instance. Its others wait in the store, and hold up no other provider's.
MOST_OF_ONE = 8
EXPIRE_EVERY = timedelta(minutes=1)
NOT_SENDABLE = "not_sendable"

_INTERRUPTED = ConsentFailure(
    kind=ConsentFailureKind.INTERRUPTED,
    message="refreshd ended while it exchanged the code, which may have been used: start again",
)
_GONE = ConsentFailure(kind=ConsentFailureKind.INTERRUPTED, message="the request is stored no longer")
# The journal keeps their replies.
_FOR_OPERATORS = frozenset({ConsentFailureKind.UNPARSED, ConsentFailureKind.UNUSABLE})


class CodeExchange:
    """Exchanges the codes of stored consent requests."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        lanes: Lanes,
        consents: Consents,
        tokens: Tokens,
        journal: Journal,
        deeds: Deeds,
        endpoint: Endpoint,
        clock: Clock,
        chance: Callable[[], float],
        timing: Timing,
        observe: Observe,
    ) -> None:
        self._providers = providers
        self._lanes = lanes
        self._consents = consents
        self._journal = journal
        self._endpoint = endpoint
        self._clock = clock
        self._observe = observe
        self._binder = Binder(
            provider=self._providers.__getitem__,
            consents=consents,
            tokens=tokens,
            clock=clock,
            chance=chance,
            timing=timing,
            observe=observe,
        )
        self._held = HeldGrants(
            providers=self._providers,
            lanes=lanes,
            consents=consents,
            binder=self._binder,
            discarder=Discarder(
                providers=self._providers,
                consents=consents,
                tokens=tokens,
                deeds=deeds,
                endpoint=endpoint,
                clock=clock,
                chance=chance,
                observe=observe,
            ),
            clock=clock,
            observe=observe,
        )
        self._expired_at = clock.boot() - EXPIRE_EVERY
        self._running: dict[str, asyncio.Task[None]] = {}
        self._of_one: Counter[str] = Counter()  # the running ones, by provider

    async def look(self, providers: Mapping[str, object]) -> int:
        """Give up exchanges that were interrupted, and begin those that wait. Store or give up held grants. Returns how many
        exchanges were begun.

        Most looks find nothing, and ask the store one question only. Raises StoreLost.
        """
        await self._held.release_once()
        if not await self._consents.pending():
            return 0
        await self._give_up_interrupted()
        if self._clock.boot() - self._expired_at >= EXPIRE_EVERY:
            await self._consents.expire()
            self._expired_at = self._clock.boot()
        begun = 0
        able = [name for name in providers if self._has_room(name)]
        for waiting in await self._consents.waiting(able) if able else ():
            if waiting.id not in self._running and self._has_room(waiting.provider):
                self._begin(waiting.id, waiting.provider)
                begun += 1
        await self._held.look()
        return begun

    def _has_room(self, provider: str) -> bool:
        lane = self._lanes(provider)
        return lane is not None and lane.may_present() and self._of_one[provider] < MOST_OF_ONE

    def _begin(self, consent: str, provider: str) -> None:
        self._of_one[provider] += 1
        self._running[consent] = asyncio.create_task(self._run(consent, provider), name=f"consent {consent}")

    async def ended(self) -> None:
        """Wait until no exchange is running, and no held grant is being processed."""
        while self._running:
            await asyncio.wait(self._running.values())
        await self._held.ended()

    async def replay(self, entry: Entry) -> ReplayResult | None:
        """Conclude a reply that outlived a crash or a loss of the store. Returns None while its exchange is running.

        Raises StoreLost or Unusable.
        """
        consent = consent_of(entry.claim) or ""
        if consent in self._running:
            return None
        progress = await self._consents.progress(consent)
        if progress is None:
            return self._drop(entry, _GONE)
        if progress.state is ConsentState.DONE or progress.held:
            return self._drop(entry, None)
        if progress.state.is_final:
            return await self._drop_late(entry, progress.failure or _GONE)
        if progress.state is ConsentState.WAITING:  # a poll that was postponed before the end of the process
            pending = poll_again(self._providers[entry.provider].definition, entry.reply, timedelta(0))
            return self._drop(entry, _GONE if pending is None else None)
        request = await self._consents.recall(consent)
        if request is None:
            raise Unusable("the request of its consent can't be read")
        # The stored code may be another one by now: the journal's row is sealed with the hash of its own.
        request = replace(request, connect_code_hash=entry.spent)
        return await self._conclude(request, entry)

    async def _run(self, consent: str, provider: str) -> None:
        """Exchange one code. An error must not reach the other exchanges."""
        try:
            lane = self._lanes(provider)
            if lane is not None:
                await lane.present(lambda: self._exchange(consent))
        except (StoreLost, Unusable):
            pass  # a kept reply is replayed, and anything else is given up by a later look
        except Exception as error:  # noqa: BLE001  one consent's bug must not reach the others
            self._observe(InternalError(where="connect", provider=provider, error=error))
        finally:
            del self._running[consent]
            self._of_one[provider] -= 1

    async def _exchange(self, consent: str) -> None:
        request = await self._consents.take(consent)
        if request is None:
            return
        if isinstance(request, Malformed):
            await self._consents.failed(request.id, _unreadable(request.message))
            return  # of such a request not even the token is known
        reply = await self._ask(request)
        if isinstance(reply, NoReply):
            if not await self._postponed(request, reply):
                await self._settle(request, reply)
            return
        entry = await self._journal.keep(_claim_of(request), reply)
        await self._conclude(request, entry)

    async def _ask(self, request: ConsentRequest) -> Reply | NoReply:
        deadline = self._clock.boot() + LEASE
        try:
            asked = self._request_of(request)
        except NotSendable as why:
            return NoReply(code=NOT_SENDABLE, message=str(why), sent=False, asked_at=self._clock.now())
        return await self._endpoint.send(asked, deadline=deadline)

    def _request_of(self, request: ConsentRequest) -> Request:
        """Return the request that presents the code. Raises NotSendable."""
        if request.code is None:
            raise NotSendable("the consent has no code")
        if request.kind is ConsentKind.DEVICE:
            return device_request(
                self._providers[request.provider],
                device_code=request.code,
                variables=request.vars,
                now=self._clock.now(),
            )
        return code_request(
            self._providers[request.provider],
            code=request.code,
            code_verifier=request.code_verifier,
            redirect_uri=request.redirect_uri,
            variables=request.vars,
            now=self._clock.now(),
        )

    async def _conclude(self, request: ConsentRequest, entry: Entry) -> ReplayResult:
        """Process a kept reply to its end. Raises StoreLost or Unusable; the journal still has the reply then."""
        if await self._postponed(request, entry.reply):
            return self._drop(entry, None)
        return self._drop(entry, await self._settle(request, entry.reply))

    async def _postponed(self, request: ConsentRequest, reply: Reply | NoReply) -> bool:
        """Let the request wait again if `reply` is not the answer of a device's owner. Returns whether it waits."""
        if request.kind is not ConsentKind.DEVICE or (
            isinstance(reply, NoReply) and reply.code == NOT_SENDABLE
        ):
            return False
        interval = poll_again(self._providers[request.provider].definition, reply, request.interval)
        if interval is not None:
            await self._consents.wait_again(request.id, interval)
        return interval is not None

    async def _drop_late(self, entry: Entry, failure: ConsentFailure) -> ReplayResult:
        """Process a reply whose consent has ended without a token: its grant is not stored."""
        provider = self._providers.get(entry.provider)
        grant = (
            None if provider is None or failure.kind in _FOR_OPERATORS else grant_in(provider, entry.reply)
        )
        consent = consent_of(entry.claim) or ""
        if grant is not None and await self._consents.discard(
            consent, discarded_text(grant), account=grant.account
        ):
            self._journal.forget(entry)
            return ReplayResult.SUPERSEDED
        return self._drop(entry, failure)

    def _drop(self, entry: Entry, failure: ConsentFailure | None) -> ReplayResult:
        """Forget a reply whose consent has ended, or park it if operators may still need it. `failure`: why nothing was
        stored, or None if it was.
        """
        match None if failure is None else failure.kind:
            case ConsentFailureKind.UNPARSED | ConsentFailureKind.UNUSABLE:
                self._journal.park(entry, EntryState.UNPARSED)
                return ReplayResult.UNPARSED
            case ConsentFailureKind.INTERRUPTED:
                self._journal.park(entry, EntryState.SUPERSEDED)
                return ReplayResult.SUPERSEDED
            case _:
                self._journal.forget(entry)
                return ReplayResult.RECORDED

    async def _settle(self, request: ConsentRequest, reply: Reply | NoReply) -> ConsentFailure | None:
        """Store or hold the grant in `reply`, or end the request. Returns why nothing was stored, or None."""
        provider = self._providers[request.provider]
        found = read_code_reply(provider, request, reply, now=self._clock.now())
        if isinstance(found, ConsentFailure):
            failure = answer_of(found) if request.kind is ConsentKind.DEVICE else found
        else:
            grant = HeldGrant(
                consent=found.consent,
                account=found.account,
                missing_scopes=found.missing_scopes,
                asked_at=reply.asked_at,
                connect_code_hash=request.connect_code_hash,
            )
            if request.code_challenge is not None:
                await self._hold(request, grant)
                return None
            bound = await self._binder.bind(request, grant)
            if bound is None:
                return None
            failure = bound
        discarded = None if failure.kind in _FOR_OPERATORS else grant_in(provider, reply)
        if discarded is None:
            await self._consents.failed(request.id, failure)
        else:
            text = discarded_text(discarded)
            await self._consents.failed(request.id, failure, grant=text, account=discarded.account)
        self._observe(not_connected(request, failure))
        return failure

    async def _hold(self, request: ConsentRequest, grant: HeldGrant) -> None:
        """Let the grant wait for its completion. Raises Unusable if the request has just ended: a replay comes then."""
        if not await self._consents.hold(request.id, held_text(grant), account=grant.account):
            raise Unusable("its consent has just been changed")

    async def _give_up_interrupted(self) -> None:
        """End the requests whose code was perhaps presented, and whose reply is not here. Device codes are presented
        again.
        """
        for one in await self._consents.asked():
            if one.id in self._running or self._is_kept(one.id):
                continue
            if one.repeatable:
                await self._consents.wait_again(one.id, None)
            else:
                await self._consents.failed(one.id, _INTERRUPTED)

    def _is_kept(self, consent: str) -> bool:
        """Return whether the journal has the reply of a consent, whether or not it can be opened now."""
        claim = consent_claim(consent)
        claims = {one.claim for one in self._journal.entries()} | {one.claim for one in self._journal.locked}
        return claim in claims


def _claim_of(request: ConsentRequest) -> Claim:
    """Return the claim under which the journal keeps the reply. It blocks the token until the reply is processed."""
    token = Token(
        id=request.token,
        provider=request.provider,
        account=request.account,
        state=State.ACTIVE,
        refresh_token=None,
        vars=request.vars,
    )
    return Claim(
        token=token,
        id=consent_claim(request.id),
        spent=request.connect_code_hash,
        spent_field=PRESENTED_FIELD,
        deadline=timedelta(0),
    )


def _unreadable(message: str) -> ConsentFailure:
    return ConsentFailure(kind=ConsentFailureKind.UNREADABLE, message=message[:300])
