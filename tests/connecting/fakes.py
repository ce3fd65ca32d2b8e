"""The ports of connecting in memory, which can end the process at each step, as a kill does."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from daemon.connecting.exchange import CodeExchange
from daemon.domain.claim import Claim, StoreLost
from daemon.domain.consent_request import (
    Binding,
    Bound,
    ConsentFailure,
    ConsentKind,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    ConsentState,
    Malformed,
    Waiting,
)
from daemon.domain.due import Timing
from daemon.domain.event import Event, InternalError
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked
from daemon.domain.provider import Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
ACME = Provider(
    definition=Definition(name="acme", title="Acme", token_url="https://acme.example/token"), client_id="me"
)


class Killed(BaseException):
    """The process ends here."""


def answered(body: object, *, status: int = 200) -> Reply:
    return Reply(
        status=status,
        content_type="application/json",
        retry_after=None,
        body=json.dumps(body).encode(),
        whole=True,
        asked_at=NOON,
    )


GRANT = answered({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 3600})


@dataclass
class Row:
    """A stored consent request."""

    request: ConsentRequest
    state: ConsentState = ConsentState.WAITING
    owner: str | None = None
    failure: ConsentFailure | None = None
    result: ConsentResult | None = None
    poll_at: datetime | None = None


@dataclass
class World:
    """What outlives a process: the store, the disk and the provider. `kill`: the step at which the process ends, and
    whether that is before the step has an effect or after it. `lost`: steps that lose the store once.
    """

    clock: SetClock = field(default_factory=lambda: SetClock(NOON))
    gate: asyncio.Event | None = None  # the provider answers once it is set
    rows: dict[str, Row] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    disk: dict[int, tuple[Entry, EntryState]] = field(default_factory=dict)
    sent: list[Request] = field(default_factory=list)
    reply: Reply | NoReply = GRANT
    replies: list[Reply | NoReply] = field(default_factory=list)  # these come first
    refusal: ConsentFailure | None = None
    kill: tuple[str, str] | None = None
    lost: set[str] = field(default_factory=set)
    expiries: int = 0
    diary: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    malformed: bool = False

    def add(
        self,
        name: str = "c1",
        *,
        account: str = "7",
        provider: str = "acme",
        kind: ConsentKind = ConsentKind.CODE,
    ) -> str:
        self.rows[name] = Row(
            ConsentRequest(
                id=name,
                provider=provider,
                account=account,
                kind=kind,
                interval=timedelta(seconds=5),
                code=Secret(f"code-{name}"),
                code_verifier=Secret("verifier"),
                redirect_uri="http://127.0.0.1:8917/callback",
                expires_at=NOON + timedelta(minutes=15),
            )
        )
        return name

    def before(self, step: str) -> None:
        self.diary.append(step)
        if self.kill == (step, "before"):
            raise Killed
        if step in self.lost:
            self.lost.discard(step)
            raise StoreLost(step)

    def after(self, step: str) -> None:
        if self.kill == (step, "after"):
            raise Killed

    def process(self, owner: str = "me", *, lane: "OpenLane | None" = None) -> CodeExchange:
        """A process that has just started."""
        return CodeExchange(
            providers={"acme": ACME, "other": ACME},
            lanes={"acme": lane or OpenLane(), "other": OpenLane()}.get,
            consents=MemoryConsents(self, owner),
            tokens=MemoryTokens(self),
            journal=MemoryJournal(self),
            endpoint=MemoryEndpoint(self),
            clock=self.clock,
            chance=lambda: 0.5,
            timing=Timing(),
            observe=self.events.append,
        )

    @property
    def bugs(self) -> list[BaseException]:
        return [event.error for event in self.events if isinstance(event, InternalError)]

    async def run(self, exchange: CodeExchange) -> None:
        """Replay, then look once, and wait until everything has ended."""
        for entry, state in list(self.disk.values()):
            if state is EntryState.WAITING:
                await exchange.replay(entry)
        await exchange.look({"acme": None, "other": None})
        await exchange.ended()


class OpenLane:
    """A lane that lets everything pass, or nothing."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = is_open

    def may_present(self) -> bool:
        return self.is_open

    async def present(self, work: Callable[[], Awaitable[None]]) -> bool:
        if self.is_open:
            await work()
        return self.is_open


class MemoryConsents:
    def __init__(self, world: World, owner: str) -> None:
        self._world = world
        self._owner = owner

    async def waiting(self, providers: Collection[str]) -> Sequence[Waiting]:
        return [
            Waiting(id=name, provider=row.request.provider)
            for name, row in self._world.rows.items()
            if row.state is ConsentState.WAITING
            and row.request.provider in providers
            and (row.poll_at is None or row.poll_at <= self._world.clock.now())
        ]

    async def take(self, consent: str) -> ConsentRequest | Malformed | None:
        self._world.before("take")
        row = self._world.rows[consent]
        if row.state is not ConsentState.WAITING:
            return None
        row.state, row.owner = ConsentState.ASKED, self._owner
        self._world.after("take")
        if self._world.malformed:
            return Malformed(id=consent, message="scopes is not a list of texts")
        return row.request

    async def recall(self, consent: str) -> ConsentRequest | None:
        row = self._world.rows.get(consent)
        if row is None or row.state is not ConsentState.ASKED:
            return None
        return replace(row.request, code=None, code_verifier=None)

    async def done(self, consent: str, result: ConsentResult) -> None:
        self._world.before("done")
        row = self._world.rows[consent]
        if row.state is ConsentState.ASKED:
            row.state, row.result = ConsentState.DONE, result
        self._world.after("done")

    async def failed(self, consent: str, failure: ConsentFailure) -> None:
        self._world.before("failed")
        row = self._world.rows[consent]
        if row.state is ConsentState.ASKED:
            row.state, row.failure = ConsentState.FAILED, failure
        self._world.after("failed")

    async def wait_again(self, consent: str, interval: timedelta | None) -> None:
        self._world.before("wait_again")
        row = self._world.rows[consent]
        if row.state is ConsentState.ASKED:
            wait = row.request.interval if interval is None else interval
            row.state, row.poll_at = ConsentState.WAITING, self._world.clock.now() + wait
            row.request = replace(row.request, interval=wait)
        self._world.after("wait_again")

    async def asked(self) -> Sequence[Waiting]:
        return [
            Waiting(
                id=name,
                provider=row.request.provider,
                repeatable=row.request.kind is ConsentKind.DEVICE and row.owner == self._owner,
            )
            for name, row in self._world.rows.items()
            if row.state is ConsentState.ASKED and row.owner == self._owner
        ]

    async def expire(self) -> None:
        self._world.expiries += 1

    async def progress(self, consent: str) -> ConsentProgress | None:
        row = self._world.rows.get(consent)
        return row and ConsentProgress(state=row.state, failure=row.failure, result=row.result)


class MemoryTokens:
    """Stores a consent once, as the adapter does."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def bind(self, token: Token, binding: Binding) -> Bound | ConsentFailure:
        self._world.before("bind")
        if self._world.refusal is not None:
            return self._world.refusal
        stored = self._world.bindings.get(token.id)
        if stored is None or stored.consent != binding.consent:
            if stored is not None and stored.asked_at > binding.asked_at:
                return Bound.SUPERSEDED
            self._world.tokens[token.id], self._world.bindings[token.id] = token, binding
        self._world.after("bind")
        return Bound.STORED


class MemoryJournal:
    """A disk that keeps what was committed."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def keep(self, claim: Claim, reply: Reply) -> Entry:
        self._world.before("keep")
        key = len(self._world.disk) + 1
        entry = Entry(
            key=key,
            token=claim.token.id,
            provider=claim.token.provider,
            claim=claim.id,
            spent=claim.spent,
            spent_field=claim.spent_field,
            reply=reply,
        )
        self._world.disk[key] = (entry, EntryState.WAITING)
        self._world.after("keep")
        return entry

    def forget(self, entry: Entry) -> None:
        self._world.before("forget")
        del self._world.disk[entry.key]
        self._world.after("forget")

    def park(self, entry: Entry | Locked, state: EntryState) -> None:
        self._world.before("park")
        assert isinstance(entry, Entry)
        self._world.disk[entry.key] = (entry, state)
        self._world.after("park")

    def entries(self) -> Sequence[Entry]:
        return [entry for entry, state in self._world.disk.values() if state is EntryState.WAITING]

    @property
    def locked(self) -> Sequence[Locked]:
        return []


class MemoryEndpoint:
    def __init__(self, world: World) -> None:
        self._world = world

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        self._world.before("send")
        self._world.sent.append(request)
        await asyncio.sleep(0)
        if self._world.gate is not None:
            await self._world.gate.wait()
        self._world.after("send")
        return self._world.replies.pop(0) if self._world.replies else self._world.reply


def states(world: World) -> Mapping[str, ConsentState]:
    return {name: row.state for name, row in world.rows.items()}
