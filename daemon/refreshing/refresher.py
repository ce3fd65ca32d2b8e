"""The life of one token: ask, keep, read, weigh, decide, record, forget. This is the whole story of the
daemon, in one function.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from daemon.domain.answer import Answer, Concern, Granted, Misconfigured
from daemon.domain.change import Change, Renewed, Scheduled, Withheld
from daemon.domain.claim import Claim, Recorded, Unusable
from daemon.domain.dialect import read
from daemon.domain.drift import DriftWatch
from daemon.domain.due import Moment, Timing, first_look, window_of
from daemon.domain.event import ProviderAnswered, TokenScheduled
from daemon.domain.journal_entry import Entry, EntryState, ReplayResult
from daemon.domain.policy import decide
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import refresh_request
from daemon.domain.reuse import Presented
from daemon.domain.revocation import RevocationEnds
from daemon.domain.revocation_outcome import is_new_grant, is_ready, of_revoking
from daemon.domain.revocation_request import revocation_of
from daemon.domain.token import State, Token
from daemon.domain.token_url import NotSendable
from daemon.refreshing.ports import Chance, Clients, Clock, Endpoint, Journal, Observe, Store, Weigh
from daemon.refreshing.reporting import brings_successor, drifted, event_for, reuse_refused
from daemon.refreshing.revoking import Revoker

LARGE_REPLY = 16 * 1024  # bytes: reading 256 KB may take 50 ms


def believe(_token: Token, _answer: Answer) -> bool:
    """Doubt no answer. For a single reply, such as a salvaged one."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a reply."""

    answer: Answer
    change: Change
    recorded: Recorded

    @property
    def journal_result(self) -> ReplayResult:
        if isinstance(self.change, Withheld):
            return ReplayResult.UNPARSED
        return ReplayResult.RECORDED if self.recorded is Recorded.STORED else ReplayResult.SUPERSEDED


class Refresher:
    """Keeps one claimed token fresh. Raises StoreLost; a received reply stays in the journal then.

    `providers` includes those that are not configured any more: their replies may still be processed.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        store: Store,
        journal: Journal,
        endpoint: Endpoint,
        clock: Clock,
        chance: Chance,
        timing: Timing,
        observe: Observe,
        clients: Clients | None = None,
    ) -> None:
        self._providers = providers
        self._store = store
        self._journal = journal
        self._endpoint = endpoint
        self._clock = clock
        self._chance = chance
        self._timing = timing
        self._observe = observe
        self._clients = clients
        self._revoker = Revoker(
            provider=lambda name: self._providers[name],
            store=store,
            endpoint=endpoint,
            clock=clock,
            chance=chance,
            observe=observe,
        )
        self._large_replies = asyncio.Lock()
        self._presented = Presented()
        self._drift = DriftWatch()

    async def refresh(self, claim: Claim, weigh: Weigh = believe) -> Answer | None:
        """Renew the claimed token, or store why that failed and when to try again.

        A token that is to be revoked is revoked. Returns the provider's answer, or None if no refresh was sent. `weigh`
        judges each answer before it takes effect.
        """
        if claim.token.state is State.REVOKING:
            if is_ready(self._provider_of(claim), claim.token, now=self._clock.now()):
                await self._revoker.revoke(claim)
                return None
            weigh = believe  # a rejection is expected, and says nothing about the provider
        if (planned := self._planned(claim)) is not None:
            await self._store.record(claim, planned)
            self._observe(TokenScheduled(token=claim.token.id, provider=claim.token.provider))
            return None
        reply, entry, answer = await self._answered(claim)
        if entry is None:
            settled = await self._settle(claim, reply, answer, weigh)
        else:
            settled = await self.conclude(claim, entry, weigh, answer)
        return settled.answer

    async def _answered(self, claim: Claim) -> tuple[Reply | NoReply, Entry | None, Answer]:
        """Ask, keep and read; once more if the client was refused and there is another one now."""
        provider = self._provider_of(claim)
        reply, entry = await self._exchange(claim)
        answer = await self._read(provider, claim.token, reply)
        if _refuses_client(answer) and await self._has_another_client(provider):
            if entry is not None:
                self._journal.forget(entry)  # the client was refused, so nothing has been done to the token
            reply, entry = await self._exchange(claim)
            answer = await self._read(self._provider_of(claim), claim.token, reply)
        if self._clients is not None and isinstance(answer, Granted):
            self._clients.accepted(provider.name)
        return reply, entry, answer

    async def _exchange(self, claim: Claim) -> tuple[Reply | NoReply, Entry | None]:
        """Ask, and keep the reply before anything reads it."""
        started = self._clock.boot()
        reply = await self._ask(claim)
        answered = ProviderAnswered(provider=claim.token.provider, duration=self._clock.boot() - started)
        entry = await self._journal.keep(claim, reply) if isinstance(reply, Reply) else None
        self._observe(answered)
        return reply, entry

    async def _has_another_client(self, provider: Provider) -> bool:
        """Return whether there is another client now. Its secret may have been changed at its source."""
        return self._clients is not None and await self._clients.read_again(provider) is not None

    async def conclude(
        self, claim: Claim, entry: Entry, weigh: Weigh = believe, answer: Answer | None = None
    ) -> Outcome:
        """Process a kept reply to its end. A replay starts here. `answer`: what the reply says, if it was read
        already. Raises StoreLost or Unusable; the journal still has the reply then.
        """
        provider = self._provider_of(claim)
        if not provider.definition.allows(claim.token.grant):
            raise Unusable(f"the configuration does not allow the grant of {claim.token.id}")
        if answer is None:
            answer = await self._read(provider, claim.token, entry.reply)
        settled = await self._settle(claim, entry.reply, answer, weigh)
        if isinstance(settled.change, Withheld):
            self._journal.park(entry, EntryState.UNPARSED)
        elif settled.recorded is Recorded.SUPERSEDED and isinstance(settled.change, Renewed):
            await self._end_late(entry, settled)
        else:
            self._journal.forget(entry)
        return settled

    async def _end_late(self, entry: Entry, settled: Outcome) -> None:
        """Finish with a grant that came too late: revoke it if its token is revoked. Otherwise its successor is kept for
        operators. Raises StoreLost or Unusable.
        """
        stored = await self._store.recall(entry)
        if stored is None:
            await self.conclude_removed(entry)
        elif (
            stored.token.state in {State.REVOKING, State.REVOKED}
            and await self._revoker.revoke_late(stored, entry, settled.answer)
        ) or not brings_successor(settled.change):
            self._journal.forget(entry)
        else:
            self._journal.park(entry, EntryState.SUPERSEDED)

    async def conclude_removed(self, entry: Entry) -> ReplayResult:
        """Finish with the reply for a token whose document is gone. A grant that it has brought is revoked if that can't end
        the grant of a stored token. Otherwise it is kept for operators. Raises StoreLost or Unusable.
        """
        provider = self._providers[entry.provider]
        revocation = revocation_of(provider.definition)
        alone = revocation is None or revocation.ends is RevocationEnds.GRANT
        claim = None if revocation is None else await self._store.removed(entry, alone=alone)
        if claim is not None:
            answer = await self._read(provider, claim.token, entry.reply)
            if is_new_grant(claim.token, answer) and await self._revoker.revoke_late(claim, entry, answer):
                self._journal.forget(entry)
                return ReplayResult.SUPERSEDED
        self._journal.park(entry, EntryState.SUPERSEDED)
        return ReplayResult.SUPERSEDED

    def _is_first(self, token: Token) -> bool:
        """Return whether this process has not presented the refresh token of a token in use before."""
        return token.state is not State.REVOKING and token not in self._presented

    def _planned(self, claim: Claim) -> Scheduled | None:
        if claim.token.state is State.REVOKING:
            return None  # it is refreshed only because its revocation needs that
        return first_look(self._provider_of(claim), claim.token, moment=self._moment())

    def _moment(self) -> Moment:
        return Moment(self._clock.now(), self._chance(), self._timing)

    def _provider_of(self, claim: Claim) -> Provider:
        """Return the provider of the claimed token as it is configured now."""
        return self._providers[claim.token.provider]

    async def _ask(self, claim: Claim) -> Reply | NoReply:
        try:
            request = refresh_request(self._provider_of(claim), claim.token, now=self._clock.now())
        except NotSendable as why:
            return NoReply(
                code="not_sendable",
                message=str(why),
                sent=False,
                concerns=Concern.TOKEN,
                asked_at=self._clock.now(),
            )
        return await self._endpoint.send(request, deadline=claim.deadline)

    async def _read(self, provider: Provider, token: Token, reply: Reply | NoReply) -> Answer:
        """Read a reply. Only one large reply is read in each turn of the loop, because many together would
        block everything else.
        """
        if isinstance(reply, NoReply) or len(reply.body) < LARGE_REPLY:
            return read(provider, token, reply)
        async with self._large_replies:
            await asyncio.sleep(0)  # noqa: TID251  a turn of the loop, no wait
            return read(provider, token, reply)

    async def _settle(self, claim: Claim, reply: Reply | NoReply, answer: Answer, weigh: Weigh) -> Outcome:
        """Weigh, decide, record and report."""
        token, provider = claim.token, self._provider_of(claim)
        doubted, moment = weigh(token, answer), self._moment()
        change = decide(provider, token, answer, asked_at=reply.asked_at, moment=moment, doubted=doubted)
        if token.state is State.REVOKING:
            change = of_revoking(token, change, now=moment.now)
        recorded = await self._store.record(claim, change)
        outcome = Outcome(answer=answer, change=change, recorded=recorded)
        self._report(provider, token, reply, outcome, doubted=doubted)
        return outcome

    def _report(
        self, provider: Provider, token: Token, reply: Reply | NoReply, outcome: Outcome, *, doubted: bool
    ) -> None:
        """Report the change, a refused reuse that was not refreshd's, and a provider that has left its definition."""
        answer, now, lived = outcome.answer, self._clock.now(), token.lifetime
        window = None if lived is None else window_of(provider, lived, timing=self._timing)
        self._observe(
            event_for(
                token, outcome.change, outcome.recorded, asked_at=reply.asked_at, now=now, window=window
            )
        )
        if outcome.recorded is Recorded.STORED and not doubted:
            anomaly = reuse_refused(token, answer, now=now)
            if anomaly is not None and self._is_first(token):
                self._observe(anomaly)
        self._presented.add(token)
        if not doubted and token.state is not State.REVOKING:
            for one in self._drift.weigh(provider.definition, token, reply, answer):
                self._observe(drifted(token.provider, one))


def _refuses_client(answer: Answer) -> bool:
    return isinstance(answer, Misconfigured) and answer.concerns is Concern.CLIENT
