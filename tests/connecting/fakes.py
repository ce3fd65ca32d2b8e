"""The ports of connecting in memory, which can end the process at each step, as a kill does."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

from daemon.connecting.exchange import CodeExchange
from daemon.domain.authorization import code_challenge
from daemon.domain.claim import Claim, StoreLost
from daemon.domain.consent_request import (
    DISCARDED_WITHIN,
    HELD_FOR,
    LEASE,
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
from daemon.domain.discard import Harm
from daemon.domain.due import Timing
from daemon.domain.event import Event, InternalError
from daemon.domain.held_grant import DiscardedGrant, DueGrant, TakenGrant
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked
from daemon.domain.provider import Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof, hashed, proof_text
from daemon.domain.token import Token
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
ACME = Provider(
    definition=Definition(
        name="acme",
        title="Acme",
        token_url="https://acme.example/token",
        revoke_url="https://acme.example/revoke",
        manage_url="https://acme.example/apps",
        account_from="team",
    ),
    client_id="me",
)
OTHER = Provider(
    definition=Definition(name="other", title="Other", token_url="https://other.example/token"),
    client_id="us",
)

PROOF = Proof(connect_code=Secret("c" * 43), code_verifier=Secret("v" * 43))


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
    has_code: bool = True
    grant: Secret | None = None
    account: str | None = None
    grant_due_at: datetime | None = None
    held_until: datetime | None = None
    proof: Secret | None = None
    until: datetime | None = None
    tries: int = 0
    readable: bool = True  # by the key ring


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
    answers: list[Reply | NoReply] = field(default_factory=list)  # to revocations, in their order; then 200
    revoked: list[str] = field(default_factory=list)  # the tokens in them
    harmed: Harm = Harm.NONE
    asked_about: list[tuple[list[str], str | None]] = field(default_factory=list)
    records: dict[tuple[str, str], tuple[str, str | None]] = field(default_factory=dict)  # of the audit
    providers: dict[str, Provider] = field(default_factory=lambda: {"acme": ACME, "other": OTHER})
    kill: tuple[str, str] | None = None
    lost: set[str] = field(default_factory=set)
    expiries: int = 0
    looks: int = 0  # questions whether anything is to be done
    searches: int = 0  # questions what that is
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
        challenge: str | None = None,
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
                code_challenge=code_challenge(PROOF.code_verifier) if challenge else None,
                connect_code_hash=hashed(PROOF.connect_code) if challenge else None,
                expires_at=NOON + timedelta(minutes=15),
            )
        )
        return name

    def complete(self, name: str = "c1") -> bool:
        """The application completes a consent."""
        row, now = self.rows[name], self.clock.now()
        if (
            row.state is not ConsentState.ASKED
            or row.proof is not None
            or row.held_until is None
            or row.held_until <= now
        ):
            return False
        row.proof, row.grant_due_at = proof_text(PROOF), now
        return True

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
            providers=self.providers,
            lanes={"acme": lane or OpenLane(), "other": OpenLane()}.get,
            consents=MemoryConsents(self, owner),
            tokens=MemoryTokens(self),
            journal=MemoryJournal(self),
            deeds=MemoryDeeds(self),
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

    async def pending(self) -> bool:
        self._world.looks += 1
        unfinished = {ConsentState.WAITING, ConsentState.ASKED}
        return any(
            (row.state in unfinished and row.grant is None) or self._is_due(row)
            for row in self._world.rows.values()
        )

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
        row.has_code = True
        self._world.after("take")
        if self._world.malformed:
            return Malformed(id=consent, message="scopes is not a list of texts")
        return row.request

    async def recall(self, consent: str) -> ConsentRequest | None:
        row = self._world.rows.get(consent)
        if row is None or row.state is not ConsentState.ASKED:
            return None
        return replace(row.request, code=None, code_verifier=None, connect_code_hash=None)

    async def done(self, consent: str, result: ConsentResult) -> None:
        self._world.before("done")
        row = self._world.rows[consent]
        if row.state is ConsentState.ASKED:
            row.state, row.result = ConsentState.DONE, result
            row.grant = row.grant_due_at = None
        self._world.after("done")

    async def failed(
        self,
        consent: str,
        failure: ConsentFailure,
        *,
        grant: Secret | None = None,
        account: str | None = None,
    ) -> None:
        self._world.before("failed")
        row = self._world.rows[consent]
        if row.state is ConsentState.ASKED and row.grant is None:
            row.state, row.failure = ConsentState.FAILED, failure
            if grant is not None:
                self._to_discard(row, grant, account)
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
        self._world.searches += 1
        return [
            Waiting(
                id=name,
                provider=row.request.provider,
                repeatable=row.request.kind is ConsentKind.DEVICE and row.owner == self._owner,
            )
            for name, row in self._world.rows.items()
            if row.state is ConsentState.ASKED and row.owner == self._owner and row.grant is None
        ]

    async def hold(self, consent: str, grant: Secret, *, account: str | None) -> bool:
        self._world.before("hold")
        row = self._world.rows[consent]
        can = row.state is ConsentState.ASKED and row.grant is None
        if can:
            row.grant, row.account, row.owner = grant, account, None
            row.held_until = row.grant_due_at = self._world.clock.now() + HELD_FOR
        self._world.after("hold")
        return can

    async def discard(self, consent: str, grant: Secret, *, account: str | None) -> bool:
        row = self._world.rows.get(consent)
        if row is None or not row.state.is_final or row.state is ConsentState.DONE:
            return False
        if row.grant is None:
            self._to_discard(row, grant, account)
        return True

    def _to_discard(self, row: Row, grant: Secret, account: str | None) -> None:
        row.grant, row.account = grant, account
        self._ends(row)

    def _ends(self, row: Row) -> None:
        row.grant_due_at, row.owner, row.tries = self._world.clock.now(), None, 0
        row.until = self._world.clock.now() + DISCARDED_WITHIN

    async def release(self) -> None:
        for row in self._world.rows.values():
            if row.grant is not None and row.owner == self._owner:
                row.owner, row.grant_due_at = None, self._world.clock.now()

    def _is_due(self, row: Row) -> bool:
        due_at = row.grant_due_at
        return row.grant is not None and due_at is not None and due_at <= self._world.clock.now()

    async def due_grants(self, providers: Collection[str]) -> Sequence[DueGrant]:
        return [
            self._due_grant(name, row)
            for name, row in self._world.rows.items()
            if self._is_due(row) and row.request.provider in providers
        ]

    def _due_grant(self, name: str, row: Row) -> DueGrant:
        return DueGrant(
            id=name, provider=row.request.provider, state=row.state, completed=row.proof is not None
        )

    async def take_grant(self, consent: str) -> TakenGrant | None:
        self._world.before("take_grant")
        row = self._world.rows[consent]
        if not self._is_due(row):
            return None
        row.owner, row.grant_due_at = self._owner, self._world.clock.now() + LEASE
        self._world.after("take_grant")
        return TakenGrant(
            due=self._due_grant(consent, row),
            request=Malformed(id=consent, message="changed") if self._world.malformed else row.request,
            text=row.grant if row.readable else None,
            proof=row.proof if row.readable else None,
            until=row.until,
            tries=row.tries,
        )

    async def give_up(self, consent: str, state: ConsentState, failure: ConsentFailure) -> bool:
        self._world.before("give_up")
        row = self._world.rows[consent]
        can = row.state is ConsentState.ASKED and not (row.proof and state is ConsentState.ABANDONED)
        if can:
            row.state, row.failure = state, failure
            self._ends(row)
        self._world.after("give_up")
        return can

    async def postpone(self, consent: str, *, due_at: datetime, tries: int) -> None:
        row = self._world.rows[consent]
        if row.owner == self._owner:
            row.owner, row.grant_due_at, row.tries = None, due_at, tries

    async def forget_grant(self, consent: str) -> None:
        self._world.before("forget_grant")
        row = self._world.rows[consent]
        if row.state.is_final:
            row.grant = row.grant_due_at = None
        self._world.after("forget_grant")

    async def holds_account(self, consent: str, providers: Collection[str], account: str | None) -> bool:
        return any(
            name != consent
            and row.state is ConsentState.ASKED
            and row.grant is not None
            and row.request.provider in providers
            and (None in (account, row.account) or account == row.account)
            for name, row in self._world.rows.items()
        )

    async def expire(self) -> None:
        self._world.expiries += 1

    async def progress(self, consent: str) -> ConsentProgress | None:
        row = self._world.rows.get(consent)
        if row is None:
            return None
        held = row.state is ConsentState.ASKED and row.grant is not None
        return ConsentProgress(state=row.state, failure=row.failure, result=row.result, held=held)


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

    async def harm(self, providers: Collection[str], grant: DiscardedGrant) -> Harm:
        self._world.asked_about.append((sorted(providers), grant.account))
        return self._world.harmed


class MemoryDeeds:
    """Keeps one record for each action on the grant of a consent."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def revoking(self, token: str, consent: str) -> None:
        self._world.before("revoking")
        self._world.records["revoking", consent] = (token, None)

    async def left_alive(self, token: str, consent: str, *, why: str, manage_url: str | None) -> None:
        self._world.before("left_alive")
        self._world.records[why, consent] = (token, manage_url)
        self._world.after("left_alive")


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
        if request.url.endswith("/revoke"):
            return self._revoked(request)
        self._world.before("send")
        self._world.sent.append(request)
        await asyncio.sleep(0)
        if self._world.gate is not None:
            await self._world.gate.wait()
        self._world.after("send")
        return self._world.replies.pop(0) if self._world.replies else self._world.reply

    def _revoked(self, request: Request) -> Reply | NoReply:
        self._world.before("revoke")
        self._world.revoked.append(parse_qs(request.body.decode())["token"][0])
        reply = self._world.answers.pop(0) if self._world.answers else answered({})
        self._world.after("revoke")
        return reply


def states(world: World) -> Mapping[str, ConsentState]:
    return {name: row.state for name, row in world.rows.items()}
