"""The ports in memory. They keep the same promises as the adapters (`test_store_contract` says so for the store), and
fail or wait when a test says so. Every step is written into one diary, in the order in which it happened.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from daemon.domain.change import (
    Change,
    Postponed,
    Renewed,
    Retired,
    RevocationPostponed,
    Revoked,
    Scheduled,
    Withheld,
)
from daemon.domain.circuit_breaker import Circuit, Pause, Reason, is_proven, probe_after
from daemon.domain.claim import Batch, Claim, Recorded, SetAside, StoreLost, Survey, Unusable
from daemon.domain.due import Timing
from daemon.domain.event import Event
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked, Standing
from daemon.domain.provider import Definition, Provider
from daemon.domain.providers import Providers
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, RevocationOrder, State, Token
from daemon.refreshing.lane import Lane
from daemon.refreshing.ports import Clients
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.spare import Spare
from daemon.refreshing.sweep import Sweeper, Tally
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=90)


def provider(name: str = "acme", *, share: int = 4, definition: Definition | None = None) -> Provider:
    known = definition or Definition(name=name, title=name, token_url=f"https://{name}.example/token")
    return Provider(definition=known, client_id="me", share=share)


def granted(successor: str | None = None, *, access: str = "access-1") -> Reply:
    """A provider's good reply."""
    body = {"access_token": access, "expires_in": 3600} | ({"refresh_token": successor} if successor else {})
    return answered(body)


def answered(body: object, *, status: int = 200) -> Reply:
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=json.dumps(body).encode(),
        whole=True,
        asked_at=NOON,
    )


def unanswered(*, sent: bool) -> NoReply:
    return NoReply(code="timeout", message="no response in time", sent=sent, asked_at=NOON)


@dataclass(slots=True)
class Stored:
    """One document."""

    token: Token
    sealed: str
    owner: str | None = None
    claim: str | None = None


class MemoryStore:
    """`refreshing.ports.Store` for one owner."""

    def __init__(self, clock: SetClock, diary: list[str], *, owner: str = "me") -> None:
        self.owner = owner
        self.documents: dict[str, Stored] = {}
        self.paused: dict[str, Pause] = {}
        self.removed_tokens: set[str] = set()  # on purpose; any other missing document was lost
        self.set_aside: list[SetAside] = []
        self.away: set[str] = set()  # the methods that lose the store
        self.broken: dict[str, Exception] = {}  # what recording a token raises
        self.limits: list[int] = []
        self.before_claim: Callable[[], None] = lambda: None
        self.chance: Callable[[], float] = lambda: 0.5  # which healthy token a probe takes
        self.claim_may_go_on = asyncio.Event()
        self.claim_may_go_on.set()
        self._clock, self._diary = clock, diary
        self._numbers = count(1)
        self._values: dict[str, Secret | None] = {}

    # ---------------------------------------------------------------- what tests do

    def put(self, account: str, *, of: str = "acme", **fields: Any) -> str:
        """A token that came due a minute ago."""
        token = Token(
            id=f"{of}:{account}",
            provider=of,
            account=account,
            state=State.ACTIVE,
            refresh_token=Secret("refresh-0"),
            expires_at=NOON + timedelta(minutes=4),
            due_at=NOON - timedelta(minutes=1),
            revision=7,
        )
        token = replace(token, **fields)
        self.documents[token.id] = Stored(token=token, sealed=self._sealed(token.refresh_token))
        return token.id

    def consent(self, name: str) -> None:
        """An application's re-consent."""
        stored = self.documents[name]
        stored.sealed = self._sealed(Secret("refresh-consent"))
        stored.token = replace(
            stored.token,
            refresh_token=Secret("refresh-consent"),
            state=State.ACTIVE,
            failures=0,
            last_failure=None,
            due_at=NOON - timedelta(seconds=1),
        )

    def revoke(self, name: str, *, not_before: datetime | None = None) -> None:
        """An order to revoke the grant."""
        stored = self.documents[name]
        order = RevocationOrder(since=self._clock.now(), not_before=not_before)
        due_at = not_before or self._clock.now()
        stored.token = replace(stored.token, state=State.REVOKING, due_at=due_at, revocation=order)

    def remove(self, name: str) -> None:
        """A removal by an operator."""
        del self.documents[name]
        self.removed_tokens.add(name)

    def refresh_token(self, name: str) -> str:
        secret = self.documents[name].token.refresh_token
        assert secret is not None
        return secret.reveal()

    # ---------------------------------------------------------------- the port

    async def survey(self, configured: Collection[str]) -> Survey:
        self._step("survey", "")
        found, self.set_aside = self.set_aside, []
        return Survey(paused=dict(self.paused), set_aside=found)

    async def pause_of(self, provider: Provider) -> Pause | None:
        self._step("pause of", provider.name)
        return self.paused.get(provider.name)

    async def due(self, providers: Collection[str]) -> Collection[str]:
        self._step("due", " ".join(sorted(providers)))
        now = self._clock.now()
        tokens = (stored.token for stored in self.documents.values())
        found = {one.provider for one in tokens if one.due_at is not None and one.due_at <= now}
        return found.intersection(providers)

    async def claim(
        self, provider: Provider, *, limit: int, busy: Collection[str], doubtful: bool = False
    ) -> Batch:
        self._step("claim", provider.name)
        self.limits.append(limit)
        self.before_claim()
        await self.claim_may_go_on.wait()
        due = self._due(provider, busy, doubtful)
        due = sorted(due, key=lambda stored: stored.token.due_at or NOON)[:limit]
        return self._claimed(due, more=len(due) == limit)

    async def claim_wished(
        self, provider: Provider, *, tokens: Collection[str], busy: Collection[str]
    ) -> Batch:
        self._step("claim wished", " ".join(tokens))
        await self.claim_may_go_on.wait()
        wished = [self.documents[name] for name in tokens if name in self.documents]
        return self._claimed([one for one in wished if self._is_due(one, provider, busy, False)], more=False)

    async def probe(self, provider: Provider, *, limit: int, busy: Collection[str], proven: bool) -> Batch:
        self._step("probe", provider.name)
        due = self._due(provider, busy, doubtful=False)
        fit = [one for one in due if not proven or is_proven(one.token)]
        fit.sort(key=lambda one: (one.token.failures, self.chance()))
        return self._claimed(fit[:limit], more=False)

    def _claimed(self, due: Sequence[Stored], *, more: bool) -> Batch:
        claim_id = f"claim-{next(self._numbers)}"
        items = []
        for stored in due:
            if stored.claim is not None:  # taken over: whether it was presented under that claim is unknown
                doubt = stored.token.doubt or Doubt(since=self._clock.now(), tries=0)
                stored.token = replace(stored.token, doubt=replace(doubt, tries=doubt.tries + 1))
            stored.owner, stored.claim = self.owner, claim_id
            deadline = self._clock.boot() + LEASE
            items.append(Claim(token=stored.token, id=claim_id, spent=stored.sealed, deadline=deadline))
        return Batch(items=items, more=more)

    async def record(self, claim: Claim, change: Change) -> Recorded:
        self._step("record", claim.token.id)
        if claim.token.id in self.broken:
            raise self.broken[claim.token.id]
        stored = self.documents.get(claim.token.id)
        if stored is None:
            return Recorded.SUPERSEDED
        successor = change.successor if isinstance(change, Renewed) else None
        if successor is not None and stored.token.refresh_token == successor:
            return Recorded.STORED
        ours = stored.claim == claim.id
        if stored.token.refresh_token != claim.token.refresh_token or not (ours or successor):
            if ours:
                stored.owner = stored.claim = None
            return Recorded.SUPERSEDED
        before = stored.token
        stored.token = _changed(stored.token, change)
        if before.state is State.PAUSED:
            stored.token = replace(stored.token, state=State.PAUSED, due_at=None)
        if before.state is State.REVOKING and not isinstance(change, Revoked):
            waits = isinstance(change, Scheduled | Postponed | RevocationPostponed)
            keeps = waits and claim.token.state is State.REVOKING
            due_at = stored.token.due_at if keeps else self._clock.now()
            doubt = None if isinstance(change, Withheld) else stored.token.doubt
            stored.token = replace(stored.token, state=State.REVOKING, due_at=due_at, doubt=doubt)
        if successor is not None:
            stored.sealed = self._sealed(successor)
        if ours:
            stored.claim = None
            if stored.token.doubt is None:
                stored.owner = None
        return Recorded.STORED

    async def recall(self, entry: Entry) -> Claim | None:
        self._step("recall", entry.token)
        stored = self.documents.get(entry.token)
        if stored is None:
            return None
        if entry.spent not in self._values:
            raise Unusable("what was spent can't be opened")
        token = replace(stored.token, refresh_token=self._values[entry.spent])
        return Claim(token=token, id=entry.claim, spent=entry.spent, deadline=timedelta(0))

    async def removed(self, entry: Entry, *, alone: bool) -> Claim | None:
        self._step("removed", entry.token)
        others = [one.token for name, one in self.documents.items() if name != entry.token]
        spent = self._values[entry.spent]
        needed = any(
            one.provider == entry.provider if alone else one.refresh_token == spent for one in others
        )
        if entry.token not in self.removed_tokens or needed:
            return None
        account = entry.token.partition(":")[2]
        token = Token(
            id=entry.token,
            provider=entry.provider,
            account=account,
            state=State.REVOKED,
            refresh_token=spent,
        )
        return Claim(token=token, id=entry.claim, spent=entry.spent, deadline=timedelta(0))

    async def standings(self, tokens: Collection[str]) -> Mapping[str, Standing]:
        found = {name: self.documents[name] for name in tokens if name in self.documents}
        return {
            name: Standing(refresh_token=one.sealed, access_token=None, issued_at=one.token.issued_at)
            for name, one in found.items()
        }

    async def release(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self._step("release", claim.token.id)
            stored = self.documents[claim.token.id]
            if stored.claim == claim.id:
                stored.claim = None
                if stored.token.doubt is None:
                    stored.owner = None

    def _step(self, step: str, what: str) -> None:
        self._diary.append(f"{step} {what}".strip())
        if step in self.away:
            raise StoreLost(f"the store is away ({step})")

    def _due(self, provider: Provider, busy: Collection[str], doubtful: bool) -> list[Stored]:
        return [one for one in self.documents.values() if self._is_due(one, provider, busy, doubtful)]

    def _is_due(self, stored: Stored, provider: Provider, busy: Collection[str], doubtful: bool) -> bool:
        token = stored.token
        if doubtful and (stored.owner != self.owner or token.doubt is None or token.doubt.tries != 1):
            return False
        return (
            token.provider == provider.name
            and token.due_at is not None
            and token.due_at <= self._clock.now()
            and stored.owner in (None, self.owner)
            and token.id not in busy
        )

    def _sealed(self, secret: Secret | None) -> str:
        sealed = f"sealed-{next(self._numbers)}"
        self._values[sealed] = secret
        return sealed


def _changed(token: Token, change: Change) -> Token:
    revised = replace(token, revision=(token.revision or 0) + 1)
    match change:
        case Renewed():
            return replace(
                revised,
                state=State.ACTIVE,
                refresh_token=change.successor or token.refresh_token,
                access_token=change.granted.access_token,
                issued_at=change.issued_at,
                expires_at=change.granted.expires_at,
                refreshed_at=change.refreshed_at,
                due_at=change.due_at,
                failures=0,
                last_failure=None,
                doubt=None,
            )
        case Postponed():
            return replace(
                revised,
                due_at=change.due_at,
                failures=change.failures,
                last_failure=change.failure,
                doubt=change.doubt or token.doubt,
            )
        case Retired():
            return replace(
                revised, state=State.NEEDS_REAUTH, due_at=None, failures=change.failures, doubt=None
            )
        case Withheld():
            return replace(revised, due_at=None, last_failure=change.failure)
        case Scheduled():
            return replace(revised, due_at=change.due_at)
        case Revoked():
            return Token(
                id=token.id,
                provider=token.provider,
                account=token.account,
                state=State.REVOKED,
                refresh_token=None,
                revision=revised.revision,
            )
        case RevocationPostponed():
            order = token.revocation
            return replace(
                revised,
                due_at=change.due_at,
                last_failure=change.failure,
                doubt=None,
                revocation=replace(order, tries=change.tries) if order else None,
            )


class MemoryPauses:
    """`refreshing.ports.Pauses`: what is agreed stands in the store's `paused`."""

    def __init__(self, store: MemoryStore, clock: SetClock, diary: list[str]) -> None:
        self.client = "our client"
        self.beaten = False  # another replica takes every turn
        self._store, self._clock, self._diary = store, clock, diary

    async def pause(self, provider: Provider, reason: Reason) -> None:
        self._diary.append(f"pause {provider.name} {reason}")
        now = self._clock.now()
        at = now + probe_after(reason, 0)
        pause = Pause(reason=reason, since=now, next_probe_at=at, next_retry_at=at, client=self.client)
        self._store.paused.setdefault(provider.name, pause)

    async def take_turn(self, provider: Provider, pause: Pause, proven: bool = True) -> bool:
        self._diary.append(f"turn {provider.name}")
        if self.beaten or self._store.paused.get(provider.name) != pause:
            return False
        after = pause.after(self._clock.now(), proven=proven)
        self._store.paused[provider.name] = replace(after, client=self.client)
        return True

    async def resume(self, provider: Provider) -> None:
        self._diary.append(f"resume {provider.name}")
        self._store.paused.pop(provider.name, None)

    def client_of(self, provider: Provider) -> str:
        return self.client


class SetRate:
    """`refreshing.ports.RateLimiter`: so many may go, until the test allows more."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.more = asyncio.Event()

    async def ready(self) -> None:
        while not self.allowed:
            self.more.clear()
            await self.more.wait()

    def available(self, most: int) -> int:
        return min(most, self.allowed)

    async def acquire(self, count: int) -> None:
        self.allowed -= count


class MemoryJournal:
    """`refreshing.ports.Journal`, with a disk that can be full."""

    def __init__(self, diary: list[str]) -> None:
        self.kept: dict[int, Entry] = {}
        self.parked: dict[int, EntryState] = {}
        self.disk_full = False
        self.crowded: set[str] = set()
        self.locked: Sequence[Locked] = ()
        self._refused: set[int] = set()
        self._works = True
        self._diary = diary
        self._keys = count(1)

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        self._diary.append(f"keep {claim.token.id}")
        token = claim.token
        entry = Entry(
            key=next(self._keys),
            token=token.id,
            provider=token.provider,
            claim=claim.id,
            spent=claim.spent,
            spent_field=claim.spent_field,
            reply=reply,
        )
        self.kept[entry.key] = entry
        if self.disk_full:
            self._works = False
            self._refused.add(entry.key)
        return entry

    def forget(self, entry: Entry) -> None:
        self._diary.append(f"forget {entry.token}")
        self.kept.pop(entry.key, None)
        self._refused.discard(entry.key)

    def park(self, entry: Entry | Locked, state: EntryState) -> None:
        self._diary.append(f"park {entry.token} {state}")
        self.parked[entry.key] = state

    async def probe(self) -> None:
        self._diary.append("probe journal")
        self._works = not self.disk_full
        if self._works:
            self._refused.clear()

    def entries(self) -> Sequence[Entry]:
        done = {key for key, state in self.parked.items() if state is not EntryState.UNUSABLE}
        return [entry for key, entry in self.kept.items() if key not in done]

    @property
    def tokens(self) -> Collection[str]:
        return {entry.token for entry in self.entries()}

    @property
    def writable(self) -> bool:
        return self._works and not self._refused


class ScriptedEndpoint:
    """`refreshing.ports.Endpoint`: answers what the test says, when it says so."""

    def __init__(self, diary: list[str]) -> None:
        self.answer: Callable[[Request], Reply | NoReply] = lambda request: granted("refresh-1")
        self.hanging: dict[str, asyncio.Event] = {}  # a part of the URL -> what ends the waiting
        self.slow = False  # a request is processed, and its reply takes some turns of the loop
        self.in_flight = 0
        self.most_in_flight = 0
        self.asked: list[Request] = []
        self.deadlines: list[timedelta] = []
        self.was_asked = asyncio.Event()
        self._diary = diary

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        self._diary.append("send")
        self.asked.append(request)
        self.deadlines.append(deadline)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.was_asked.set()
        try:
            for part, gate in self.hanging.items():
                if part in request.url:
                    await gate.wait()
            answer = self.answer(request)
            for _ in range(20 if self.slow else 0):
                await asyncio.sleep(0)
            return answer
        finally:
            self.in_flight -= 1


@dataclass(slots=True)
class World:
    """All of it together, with real refreshers, lanes and sweepers in the middle."""

    providers: list[Provider] = field(default_factory=lambda: [provider()])
    period: timedelta = timedelta(seconds=5)
    clock: SetClock = field(default_factory=lambda: SetClock(NOON))
    diary: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    store: MemoryStore = field(init=False)
    pauses: MemoryPauses = field(init=False)
    rate_limiter: SetRate = field(default_factory=lambda: SetRate(1_000_000))
    journal: MemoryJournal = field(init=False)
    endpoint: ScriptedEndpoint = field(init=False)
    clients: Clients | None = None
    configured: Providers = field(init=False)
    refresher: Refresher = field(init=False)
    tally: Tally = field(default_factory=Tally)
    sweeper: Sweeper = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock, self.diary)
        self.pauses = MemoryPauses(self.store, self.clock, self.diary)
        self.journal = MemoryJournal(self.diary)
        self.endpoint = ScriptedEndpoint(self.diary)
        self.start()

    def start(self) -> None:
        """Start a process: with the store and the journal as an earlier one has left them, and nothing else of it."""
        self.configured = Providers({one.name: one for one in self.providers})
        self.refresher = Refresher(
            providers=self.configured.known,
            store=self.store,
            journal=self.journal,
            endpoint=self.endpoint,
            clock=self.clock,
            chance=lambda: 0.5,
            timing=Timing(),
            observe=self.observe,
            clients=self.clients,
        )
        self.sweeper = Sweeper(
            providers=self.configured,
            lane=self.lane,
            store=self.store,
            journal=self.journal,
            refresher=self.refresher,
            clock=self.clock,
            tally=self.tally,
            observe=self.observe,
            period=self.period,
        )

    def lane(self, one: Provider, *, proven: bool = True, spare: Spare | None = None) -> Lane:
        """A lane; `proven`: its provider has answered well before."""
        lane = Lane(
            one,
            store=self.store,
            pauses=self.pauses,
            rate_limiter=lambda _: self.rate_limiter,
            journal=self.journal,
            refresher=self.refresher,
            clock=self.clock,
            observe=self.observe,
            spare=spare or Spare(),
        )
        if proven:
            lane.health.slow_start.end()
            lane.health.breaker.state = Circuit.CLOSED
        return lane

    def observe(self, event: Event) -> None:
        self.events.append(event)
        self.tally(event)

    def observed(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def claim(self, name: str = "acme:1") -> Claim:
        """That one token, claimed."""
        one = next(item for item in self.providers if name.startswith(item.name))
        batch = await self.store.claim(one, limit=100, busy=[])
        [claim] = [item for item in batch.items if isinstance(item, Claim) and item.token.id == name]
        self.diary.clear()
        return claim
