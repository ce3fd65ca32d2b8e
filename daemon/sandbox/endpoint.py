"""The token endpoint without its wire: one request in, its effect on the grants, one reply out.

Everything happens in one call, at once, so the order of the ledger is the order of arrival.
"""

from dataclasses import dataclass
from datetime import datetime

from daemon.sandbox.clients import Client
from daemon.sandbox.demands import Asked
from daemon.sandbox.dialects import Dialect
from daemon.sandbox.faults import Fault
from daemon.sandbox.grants import Grants, Pair
from daemon.sandbox.ledger import Presentation
from daemon.sandbox.misbehaviour import reply_in_place, spoil
from daemon.sandbox.wording import Refusal, Reply, encode

_DEAD = Refusal(complaint="invalid_grant", detail="the refresh token is unknown, spent, expired or revoked")

Outcome = tuple[Reply, Presentation | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """What one sandbox says to token requests."""

    grants: Grants
    client: Client
    dialect: Dialect

    def take_effect(self, asked: Asked, *, fault: Fault | None, now: datetime) -> Outcome:
        """The reply to send, and the ledger's line about the presented token if it is one of ours."""
        form = self.dialect.demands.read(asked)
        if fault is None or fault.after_processing:
            kind = None if fault is None else fault.kind
            reply, presentation = self._process(asked, form, fault=kind, now=now)
        else:
            reply = reply_in_place(fault, self.dialect)
            presentation = self._note(form, f"fault:{fault.kind}", fault.kind, now)
        reply = self.dialect.as_asked(reply, asked.headers.get("Accept", ""))
        return reply if fault is None else spoil(reply, fault, self.dialect), presentation

    def _process(
        self, asked: Asked, form: dict[str, str] | Refusal, *, fault: str | None, now: datetime
    ) -> Outcome:
        demands = self.dialect.demands
        if isinstance(form, Refusal):
            return self.dialect.refuse(form), None
        refusal = demands.refuses(asked.headers) or self.client.refuses(
            asked.headers.get("Authorization"), form
        )
        if refusal is not None:
            return self.dialect.refuse(refusal), self._note(form, refusal.complaint, fault, now)
        grant_type = form.get("grant_type", "")
        presented = form.get(demands.presents)
        match demands.grants.get(grant_type):
            case "present" if presented is not None:
                pair, presentation = self.grants.present(presented, now=now, fault=fault)
                return self.dialect.refuse(_DEAD) if pair is None else self._grant(pair, now), presentation
            case "reissue" if form.keys() >= set(demands.needs.get(grant_type, ())):
                return self._grant(self.grants.client_credentials(now=now), now), None
            case None if grant_type:
                return self.dialect.refuse(self._unsupported()), None
            case _:
                return self.dialect.refuse(self._incomplete(grant_type)), None

    def _note(
        self, form: dict[str, str] | Refusal, outcome: str, fault: str | None, now: datetime
    ) -> Presentation | None:
        presents = self.dialect.demands.presents
        if isinstance(form, Refusal) or presents not in form:
            return None
        return self.grants.note(form[presents], outcome=outcome, now=now, fault=fault)

    def _grant(self, pair: Pair, now: datetime) -> Reply:
        return Reply(status=200, body=encode(self.dialect.grant(pair, now=now)))

    def _unsupported(self) -> Refusal:
        known = " or ".join(self.dialect.demands.grants)
        detail = f"use {known}" if known else "nothing renews a token here"
        return Refusal(complaint="unsupported_grant_type", detail=detail)

    def _incomplete(self, grant_type: str) -> Refusal:
        needed = self.dialect.demands.needs.get(grant_type) or [self.dialect.demands.presents]
        return Refusal(complaint="invalid_request", detail=f"grant_type or {' or '.join(needed)} is missing")
