"""Asking one provider of the sandbox as the daemon does, step by step: the request, the answer, the change, the document."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.token_changes import written
from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.answer import Answer
from daemon.domain.change import Change
from daemon.domain.consent import read_consent
from daemon.domain.dialect import read
from daemon.domain.due import Moment, Timing
from daemon.domain.policy import decide
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import refresh_request
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from daemon.sandbox import Sandbox, SandboxOptions
from tests.providers import samples
from tests.providers.row import Row
from tests.providers.wire import CLOCK, send

RING = KeyRing({"a": b"\x01" * 32}, active="a")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One request and what came of it. `stored`: the fields that the document is given."""

    reply: Reply | NoReply
    answer: Answer
    change: Change
    stored: Mapping[str, object]
    at: datetime

    def opened(self, field: str, of: Token) -> str | None:
        """The stored secret; None: the document keeps the one that it has."""
        return RING.open(self.stored[field], token_id=of.id, field=field) if field in self.stored else None

    @property
    def holds_refresh_token(self) -> bool:
        """Whether all of one stands in the reply: where half of it ends, differs from run to run."""
        body = self.reply.body if isinstance(self.reply, Reply) else b""
        return re.search(rb'refresh_?token"\s*:\s*"[^"]+"', body, re.IGNORECASE) is not None


class Speaker:
    """The sandbox as one provider, with the shipped definition of it on our side."""

    def __init__(self, row: Row, sandbox: Sandbox, through: TokenEndpoint) -> None:
        self.row, self.sandbox, self._through = row, sandbox, through
        self.provider = samples.provider(row.definition)
        if sandbox.desk is not None:
            scoped = replace(self.provider.definition, scopes=self.provider.definition.scopes or ("read",))
            self.provider = replace(
                self.provider, definition=scoped, sign_claims=samples.signer(sandbox.desk.draw_key())
            )

    @property
    def issues_anew(self) -> bool:
        """Whether there is no grant that a token stands for: the client speaks for itself."""
        return self.provider.definition.grant.issues_anew

    def consent(self) -> tuple[Token, str]:
        """A grant that has just been given, as `refreshd add` reads it, and its name in the ledger."""
        [body] = self.sandbox.consent()
        now = CLOCK.now()
        name = str(body["grant"])
        if self.issues_anew:
            return samples.token(self.row.definition, access_token=None, refresh_token=None), name
        given = read_consent(self.provider.definition, body, received_at=now, now=now)
        fields = (
            "access_token",
            "refresh_token",
            "issued_at",
            "expires_at",
            "refresh_expires_at",
            "consent_ends_at",
        )
        return samples.token(self.row.definition, **{field: getattr(given, field) for field in fields}), name

    def truth(self, grant: str) -> Any:
        """The ledger's line on one grant."""
        [line] = [line for line in self.sandbox.ledger() if line["id"] == grant]
        return line

    def issued_last(self, grant: str | None) -> str:
        """The access token that the sandbox issued last, to `grant` if one is named."""
        grants = self.sandbox._grants
        found = None if grant is None else grants.find(grant)
        return found.access_token if found else next(reversed(grants._access))

    async def ask(
        self,
        token: Token,
        *,
        as_: Provider | None = None,
        edit: Callable[[Reply], Reply] = lambda reply: reply,
        through: TokenEndpoint | None = None,
        **fault: object,
    ) -> Outcome:
        """Renew `token` once, while the sandbox misbehaves as `fault` says. `edit`: what happens to the reply."""
        provider = as_ or self.provider
        if fault:
            self.sandbox.add_fault({"count": 1, **fault})
        request = refresh_request(provider, token, now=CLOCK.now())
        try:
            reply = await send(through or self._through, request, to=self.sandbox.url)
        finally:
            self.sandbox.clear_faults()
        if isinstance(reply, Reply):
            reply = edit(reply)
        now = CLOCK.now()
        answer = read(provider, token, reply)
        change = decide(provider, token, answer, asked_at=reply.asked_at, moment=Moment(now, 0.5, Timing()))
        stored = written(token, change, RING, now=now).fields
        return Outcome(reply=reply, answer=answer, change=change, stored=stored, at=now)

    def wrong(self) -> Provider:
        """Our client with another's secret or key, or with another's id if it has no secret."""
        if self.row.client == "id":
            return replace(self.provider, client_id="of-another-app")
        wrong = replace(self.provider, client_secret=Secret("of-another-app"))
        if self.sandbox.desk is None:
            return wrong
        stranger = Sandbox(SandboxOptions(name=self.row.sandbox)).desk
        assert stranger is not None
        return replace(wrong, sign_claims=samples.signer(stranger.draw_key()))
