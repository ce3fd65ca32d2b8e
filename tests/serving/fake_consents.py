"""The stored consents in memory, as the adapter for MongoDB keeps them, with a daemon that answers each code."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from daemon.domain.authorization import code_challenge
from daemon.domain.consent_request import (
    Completion,
    ConsentFailure,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    ConsentState,
)
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof, hashed
from daemon.domain.stored_grant import Author, StoredGrant

MOST_TRIES = 5


@dataclass
class Row:
    request: ConsentRequest
    link_hash: str | None
    state: ConsentState = ConsentState.WAITING
    state_hash: str | None = None
    browser_hash: str | None = None
    connect_code_hash: str | None = None
    code: Secret | None = None
    tries: int = 0
    completed: bool = False
    held: bool = False
    failure: ConsentFailure | None = None
    result: ConsentResult | None = None

    def end(self, kind: ConsentFailureKind, code: str = "") -> None:
        self.state = ConsentState.FAILED
        self.failure = ConsentFailure(kind=kind, message="", code=code)
        self.held = False


@dataclass
class FakeConsents:
    """`daemon`: what happens to a row once it has a code; by default, the grant is held or stored. `takes`: how long the
    answer to the use of a link is under way.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    bound: list[tuple[str, str]] = field(default_factory=list)  # token, code
    daemon: Callable[[Row], None] | None = None
    takes: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.daemon = self.daemon or self.exchange

    async def insert(self, request: ConsentRequest, *, state_hash: str | None, link_hash: str | None) -> None:
        self.rows[request.id] = Row(request, link_hash, state_hash=state_hash)

    async def by_link(self, link_hash: str) -> ConsentRequest | None:
        row = self._find(lambda row: row.link_hash == link_hash)
        return row and row.request

    async def spend_link(
        self, link_hash: str, *, browser_hash: str, state_hash: str, code_verifier: Secret | None
    ) -> ConsentRequest | None:
        row = self._find(lambda row: row.link_hash == link_hash)
        if row is None:
            return None
        row.link_hash, row.browser_hash, row.state_hash = None, browser_hash, state_hash
        row.request = replace(row.request, code_verifier=code_verifier)
        await asyncio.sleep(self.takes.total_seconds())
        return row.request

    async def called_back(self, provider: str, state_hash: str, browser_hash: str) -> ConsentRequest | None:
        row = self._find(lambda row: row.state_hash == state_hash)
        if row is None:
            return None
        row.state_hash = None
        if row.request.provider != provider or row.browser_hash != browser_hash:
            row.end(ConsentFailureKind.MIXED_UP)
            return None
        return row.request

    async def give_code(self, consent: str, *, code: Secret, connect_code_hash: str | None) -> bool:
        row = self.rows[consent]
        if row.state is not ConsentState.WAITING or row.code is not None or row.state_hash is not None:
            return False
        row.code, row.connect_code_hash = code, connect_code_hash
        assert self.daemon is not None
        self.daemon(row)
        return True

    async def refuse(self, consent: str, failure: ConsentFailure) -> bool:
        row = self.rows[consent]
        if row.state is not ConsentState.WAITING:
            return False
        row.state, row.failure = ConsentState.FAILED, failure
        return True

    async def progress(self, consent: str) -> ConsentProgress | None:
        row = self.rows.get(consent)
        return row and ConsentProgress(
            state=row.state,
            failure=row.failure,
            result=row.result,
            held=row.held,
            key=row.request.key,
            return_url=row.request.return_url,
        )

    async def recall(self, consent: str) -> ConsentRequest | None:
        row = self.rows.get(consent)
        return row.request if row is not None and row.state is ConsentState.ASKED else None

    async def complete(self, consent: str, *, key: str, proof: Proof) -> Completion:
        row = self.rows.get(consent)
        if row is None or row.request.key != key:
            return Completion.UNKNOWN
        if row.state is not ConsentState.ASKED or row.completed:
            return Completion.OVER
        wanted = (row.connect_code_hash, row.request.code_challenge)
        if (hashed(proof.connect_code), code_challenge(proof.code_verifier)) != wanted:
            row.tries += 1
            if row.tries >= MOST_TRIES:
                row.state, row.held = ConsentState.ABANDONED, False
            return Completion.WRONG
        row.completed = True
        if row.held:
            self._bind(row)
        return Completion.TAKEN

    def exchange(self, row: Row) -> None:
        if row.request.code_challenge is None:
            self._bind(row)
        else:
            row.state, row.held = ConsentState.ASKED, True

    def _bind(self, row: Row) -> None:
        row.state, row.held = ConsentState.DONE, False
        row.result = ConsentResult(scope="a", missing_scopes=(), expires_at=None)
        assert row.code is not None
        self.bound.append((row.request.token, row.code.reveal()))

    def _find(self, wanted: Callable[[Row], bool]) -> Row | None:
        waiting = (row for row in self.rows.values() if row.state is ConsentState.WAITING)
        return next((row for row in waiting if wanted(row)), None)


@dataclass
class FakeWrites:
    """The tokens that are stored, for those who only look."""

    tokens: dict[str, StoredGrant] = field(default_factory=dict)

    async def stored(self, name: str) -> StoredGrant | None:
        return self.tokens.get(name)


@dataclass
class FakeDeeds:
    records: list[tuple[str, str, str, str | None, str | None]] = field(default_factory=list)

    async def note(
        self,
        author: Author,
        action: str,
        token: str,
        *,
        result: str | None = None,
        subject: str | None = None,
    ) -> None:
        self.records.append((author.name, action, token, result, subject))
