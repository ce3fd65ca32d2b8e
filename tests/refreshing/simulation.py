"""A day of many tokens in simulated time, over the real domain and the real use case.

Good tokens live beside bad ones of every kind, the provider has outages, pages and masses of rejections, replicas
are restarted. Two figures come of it: good tokens that were renewed after their end although the provider was able to
renew them, and the requests that were spent on the bad ones.
"""

import asyncio
import heapq
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

from daemon.domain.change import Change
from daemon.domain.claim import Claim, Recorded
from daemon.domain.due import Timing
from daemon.domain.event import Event, ProviderPaused, TokenNeedsReauth, TokenRenewed
from daemon.domain.provider import Definition, ExpiryUnit, Grant, Provider
from daemon.domain.providers import Providers
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import State
from daemon.refreshing.lane import Lane
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.spare import Spare
from daemon.refreshing.sweep import Sweeper, Tally
from tests.refreshing.fakes import (
    NOON,
    MemoryJournal,
    MemoryPauses,
    MemoryStore,
    SetRate,
    Stored,
    answered,
)
from tests.support.clocks import SetClock

SWEEP = timedelta(seconds=15)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
PAGE = Reply(
    status=200,
    content_type="text/html",
    retry_after=None,
    body=b"<html><body><h1>We are down for maintenance</h1></body></html>",
    whole=True,
    asked_at=NOON,
)


def _said(error: str, status: int = 400) -> Reply:
    return answered({"error": error}, status=status)


BAD: Mapping[str, Reply | NoReply] = {
    "unauthorized client": _said("unauthorized_client"),
    "foreign client": _said("invalid_client", 401),
    "access denied": _said("access_denied", 403),
    "invalid request": _said("invalid_request"),
    "invalid token": _said("invalid_token", 401),
    "refused scope": _said("invalid_scope"),
    "own words": _said("account_suspended"),
    "error with 200": answered({"errcode": -1, "errmsg": "tenant is disabled"}),
    "errors with 200": answered({"success": False, "errors": [{"code": 40105}]}),
    "dead": _said("invalid_grant"),
    "page of its tenant": PAGE,
    "error of its server": _said("server_error", 500),
    "throttled alone": _said("slow_down", 429),
    "no connection": NoReply(code="connection", message="-", sent=False, asked_at=NOON),
    "no answer": NoReply(code="timeout", message="-", sent=True, asked_at=NOON),
}
TROUBLE: Mapping[str, Reply | NoReply] = {
    "outage": _said("temporarily_unavailable", 503),
    "timeouts": BAD["no answer"],
    "page": PAGE,
    "rejections": _said("invalid_grant"),
    "refusals": _said("invalid_request"),
    "throttling": _said("slow_down", 429),
}


@dataclass(frozen=True, kw_only=True)
class Spell:
    """A trouble of the whole provider: from, until, and of what share of its answers."""

    kind: str
    begins: timedelta
    lasts: timedelta
    share: float = 1.0

    @property
    def ends(self) -> timedelta:
        return self.begins + self.lasts


@dataclass(frozen=True, kw_only=True)
class Population:
    """`bad`: how many of each kind in BAD or in `says`, the provider's own words. They turn bad at `turns` (None: they
    never were good), together.
    """

    good: int
    bad: Mapping[str, int] = field(default_factory=dict)
    spread: timedelta = timedelta(minutes=55)  # over which they fall due
    turns: timedelta | None = None
    stream: tuple[str, timedelta] | None = None  # one more bad token of this kind, new and due, each time
    lifetime: timedelta = HOUR
    share: int = 16
    replicas: int = 1
    restarts: int = 0
    spells: Sequence[Spell] = ()
    definition: Definition | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, Reply | NoReply] = field(default_factory=dict)
    lasts: timedelta = DAY


@dataclass(kw_only=True)
class Figures:
    """What a day came to. `late`: of good tokens, whose provider was able; `lost`: good ones that nothing renews now."""

    renewed: int = 0
    late: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    condemned: list[str] = field(default_factory=list)
    dead: dict[str, list[str]] = field(default_factory=dict)  # by kind: the code with which each was reported
    vain: Counter[str] = field(default_factory=Counter)  # requests by kind of bad token
    asked_in_trouble: int = 0
    pauses: Counter[str] = field(default_factory=Counter)
    at_rest: timedelta = timedelta(0)

    def vain_each(self, population: Population) -> dict[str, float]:
        """Requests for each bad token of a kind."""
        return {kind: self.vain[kind] / number for kind, number in population.bad.items() if number}


class DueStore(MemoryStore):
    """Finds what is due without looking at all of it. The stores of several replicas share their documents."""

    def __init__(self, clock: SetClock, *, owner: str, beside: "DueStore | None" = None) -> None:
        super().__init__(clock, [], owner=owner)
        self._heap: list[tuple[datetime, str]] = []
        self._ready: set[str] = set()
        if beside is not None:
            self.documents, self.paused, self._values = beside.documents, beside.paused, beside._values
            self._heap, self._ready, self._numbers = beside._heap, beside._ready, beside._numbers

    def put(self, account: str, *, of: str = "acme", **fields: object) -> str:
        name = super().put(account, of=of, **fields)
        self._push(name)
        return name

    async def record(self, claim: Claim, change: Change) -> Recorded:
        recorded = await super().record(claim, change)
        self._push(claim.token.id)
        return recorded

    def _push(self, name: str) -> None:
        due_at = self.documents[name].token.due_at
        if due_at is not None:
            heapq.heappush(self._heap, (due_at, name))

    async def due(self, providers: Collection[str]) -> Collection[str]:
        return {stored.token.provider for stored in self._come()}.intersection(providers)

    def _due(self, provider: Provider, busy: Collection[str], doubtful: bool) -> list[Stored]:
        return [one for one in self._come() if self._is_due(one, provider, busy, doubtful)]

    def _come(self) -> list[Stored]:
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            self._ready.add(heapq.heappop(self._heap)[1])
        gone = {name for name in self._ready if (at := self.documents[name].token.due_at) is None or at > now}
        self._ready -= gone
        return [self.documents[name] for name in self._ready]

    def _step(self, step: str, what: str) -> None:
        pass


class Endpoint:
    """Fits `refreshing.ports.Endpoint`: answers after a few turns of the loop, so that requests are in flight together."""

    def __init__(self, answer: Callable[[Request], Reply | NoReply], chance: random.Random) -> None:
        self._answer, self._chance = answer, chance

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        for _ in range(self._chance.randrange(4)):
            await asyncio.sleep(0)
        return self._answer(request)


@dataclass
class Replica:
    """One process. `restart` begins another one on the same store and journal."""

    store: DueStore
    journal: MemoryJournal
    make: Callable[[DueStore, MemoryJournal], Sweeper]
    sweeper: Sweeper = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.sweeper = self.make(self.store, self.journal)


class Day:
    """`population` from noon on, with chance from `seed`."""

    def __init__(self, population: Population, *, seed: int = 1) -> None:
        self.population = population
        self.chance = random.Random(seed)
        self.clock = SetClock(NOON)
        self.figures = Figures()
        known = population.definition or Definition(
            name="acme", title="Acme", token_url="https://acme.example/token"
        )
        self.provider = Provider(
            definition=known,
            client_id="me",
            client_secret=Secret("client-secret"),
            client_assertion=lambda _audience, _now: Secret("assertion"),
            sign_claims=lambda _claims: Secret("assertion"),
            subjects=(re.compile(".+"),),
            share=population.share,
            allowed_hosts=frozenset({"sso.example.com"}),
        )
        self._numbers = count(1)
        self._kinds: dict[str, str] = {}  # account -> kind of bad token
        self._due: dict[str, datetime] = {}  # token -> when its renewal should have begun
        self._streamed = 0
        self.asked_at: dict[str, timedelta] = {}  # bad account -> its first answer as a bad one
        self.reported_at: dict[str, timedelta] = {}  # ... and when its owner was reported to have to consent
        stores: list[DueStore] = []
        for number in range(population.replicas):
            stores.append(
                DueStore(self.clock, owner=f"replica-{number}", beside=stores[0] if stores else None)
            )
            stores[-1].chance = self.chance.random
        self.store = stores[0]
        self._fill()
        self.replicas = [Replica(store, MemoryJournal([]), self._sweeper) for store in stores]

    def run(self) -> Figures:
        asyncio.run(self._run())
        return self.figures

    async def _run(self) -> None:
        restarts = sorted(
            self.chance.random() * self.population.lasts for _ in range(self.population.restarts)
        )
        while self.clock.passed < self.population.lasts:
            begun = self.clock.passed
            self._consent_badly()
            for replica in self.chance.sample(self.replicas, len(self.replicas)):
                while restarts and restarts[0] <= self.clock.passed:
                    restarts.pop(0)
                    replica.restart()
                await replica.sweeper.sweep()
                for lane in replica.sweeper.lanes.values():
                    while lane.in_flight:
                        await asyncio.sleep(0)
                self.clock.passed += SWEEP * self.chance.uniform(0.75, 1) / len(self.replicas)
            if self.store.paused:
                self.figures.at_rest += self.clock.passed - begun
        self._at_the_end()

    # ---------------------------------------------------------------- the tokens

    def _consent_badly(self) -> None:
        if self.population.stream is None:
            return
        kind, every = self.population.stream
        while self._streamed * every <= self.clock.passed:
            self._streamed += 1
            account = f"bad-{next(self._numbers)}"
            self._kinds[account] = kind
            ends = self.clock.now() + HOUR
            self.store.put(
                account,
                of=self.provider.name,
                refresh_token=Secret(f"{account}.0"),
                due_at=self.clock.now(),
                expires_at=ends,
                issued_at=self.clock.now(),
            )

    def _fill(self) -> None:
        population = self.population
        for number in range(population.good):
            self._put(f"good-{number}")
        for kind, amount in population.bad.items():
            for _ in range(amount):
                account = f"bad-{next(self._numbers)}"
                self._kinds[account] = kind
                self._put(account)

    def _put(self, account: str) -> None:
        population = self.population
        bad = account in self._kinds and population.turns is None
        old = (
            bad and self._kinds[account] not in population.says
        )  # a dead grant is found at its first renewal
        age = timedelta(days=3) if old and self.chance.random() < 0.5 else timedelta(0)
        window = min(timedelta(minutes=5), population.lifetime / 3)
        due = NOON + self.chance.random() * population.spread
        expires = due + window
        presents = self.provider.definition.grant is Grant.REFRESH_TOKEN
        self.store.put(
            account,
            of=self.provider.name,
            refresh_token=Secret(f"{account}.0") if presents else None,
            access_token=Secret(f"{account}.a"),
            due_at=due,
            expires_at=expires - age,
            issued_at=expires - population.lifetime - age,
            refreshed_at=None if bad else expires - population.lifetime,
            failures=20 if age else 0,
            vars=population.variables,
        )

    def _at_the_end(self) -> None:
        now = self.clock.now()
        for name, stored in self.store.documents.items():
            account = name.partition(":")[2]
            if not account.startswith("good") or self.provider.definition.grant is Grant.NONE:
                continue
            token = stored.token
            ends = token.expires_at
            if token.state is State.NEEDS_REAUTH:
                self.figures.condemned.append(account)
            elif token.due_at is None or (ends is not None and ends < now and self._was_able(ends)):
                self.figures.lost.append(account)

    def _was_able(self, ends: datetime) -> bool:
        """Whether the provider was able to renew what ended then: half the window, at most two minutes, in one piece."""
        window = min(timedelta(minutes=5), self.population.lifetime / 3)
        at, able, needed = ends - window - NOON, timedelta(0), min(2 * MINUTE, window / 2)
        for spell in sorted(self.population.spells, key=lambda one: one.begins):
            able = max(able, min(spell.begins, ends - NOON) - at)
            at = max(at, spell.ends)
        return max(able, ends - NOON - at) >= needed

    # ---------------------------------------------------------------- the provider

    def _answer(self, request: Request) -> Reply | NoReply:
        account = self._account(request)
        reply = self._reply(account)
        return replace(reply, asked_at=self.clock.now())

    def _account(self, request: Request) -> str:
        found = re.search(r"(?:good|bad)-\d+", request.body.decode() + request.url)
        return found[0] if found else "good-x"

    def _reply(self, account: str) -> Reply | NoReply:
        kind = self._kinds.get(account)
        turned = self.population.turns is None or self.clock.passed >= self.population.turns
        if kind is not None and turned:
            self.figures.vain[kind] += 1
            self.asked_at.setdefault(account, self.clock.passed)
        for spell in self.population.spells:
            if spell.begins <= self.clock.passed < spell.ends and self.chance.random() < spell.share:
                self.figures.asked_in_trouble += 1
                return TROUBLE[spell.kind]
        if kind is not None and turned:
            return self.population.says.get(kind) or BAD[kind]
        return self._granted(account)

    def _granted(self, account: str) -> Reply:
        shape, number = self.provider.definition.reply, next(self._numbers)
        unit = 1000 if self.provider.definition.expires_in_unit is ExpiryUnit.MILLISECONDS else 1
        body: dict[str, object] = {}
        _place(body, shape.access_token[0], f"{account}.a{number}")
        _place(body, shape.refresh_token[0], f"{account}.{number}")
        _place(body, shape.expires_in[0], self.population.lifetime.total_seconds() * unit)
        return answered(body)

    # ---------------------------------------------------------------- the parts

    def _sweeper(self, store: DueStore, journal: MemoryJournal) -> Sweeper:
        tally = Tally()
        pauses = MemoryPauses(store, self.clock, [])

        def observe(event: Event) -> None:
            tally(event)
            self._heard(event)

        refresher = Refresher(
            providers={self.provider.name: self.provider},
            store=store,
            journal=journal,
            endpoint=Endpoint(self._answer, self.chance),
            clock=self.clock,
            chance=self.chance.random,
            timing=Timing(),
            observe=observe,
        )

        def lane(one: Provider) -> Lane:
            return Lane(
                one,
                store=store,
                pauses=pauses,
                rate_limiter=lambda _: SetRate(10**9),
                journal=journal,
                refresher=refresher,
                clock=self.clock,
                observe=observe,
                spare=Spare(),
            )

        return Sweeper(
            providers=Providers({self.provider.name: self.provider}),
            lane=lane,
            store=store,
            journal=journal,
            refresher=refresher,
            clock=self.clock,
            tally=tally,
            observe=observe,
            period=SWEEP,
        )

    def _heard(self, event: Event) -> None:
        match event:
            case TokenRenewed(token=name, lead=lead):
                self.figures.renewed += 1
                good = ":good" in name
                if (
                    good
                    and lead is not None
                    and lead < timedelta(0)
                    and self._was_able(self.clock.now() + lead)
                ):
                    self.figures.late.append(f"{name} {-lead} late at {self.clock.passed}")
            case ProviderPaused(reason=reason):
                self.figures.pauses[str(reason)] += 1
            case TokenNeedsReauth(token=name, failure=why):
                account = name.partition(":")[2]
                kind = self._kinds.get(account, "good")
                self.reported_at.setdefault(account, self.clock.passed)
                self.figures.dead.setdefault(kind, []).append(why.code)
            case _:
                pass


def _place(body: dict[str, object], path: str, value: object) -> None:
    """`value` at a dotted path; a number steps into a list."""
    name, _, rest = path.partition(".")
    if not rest:
        body[name] = value
    elif rest.partition(".")[0].isdecimal():
        inner: dict[str, object] = {}
        body[name] = [inner]
        _place(inner, rest.partition(".")[2], value)
    else:
        inner = body.setdefault(name, {})  # type: ignore[assignment]
        _place(inner, rest, value)


def told(population: Population, figures: Figures) -> str:
    """One line of a table."""
    vain = ", ".join(f"{kind} {each:.0f}" for kind, each in figures.vain_each(population).items())
    return (
        f"{population.good} good, {sum(population.bad.values())} bad: renewed {figures.renewed}, late"
        f" {len(figures.late)}, lost {len(figures.lost)}, condemned {len(figures.condemned)}; pauses"
        f" {json.dumps(figures.pauses)}, at rest {figures.at_rest / population.lasts:.0%}; requests for each bad"
        f" token: {vain or '-'}"
    )
