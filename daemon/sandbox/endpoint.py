"""The token endpoint without its wire: one request in, its effect on the grants, one reply out.

Everything happens in one call, at once, so the order of the ledger is the order of arrival.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.sandbox.clients import Client
from daemon.sandbox.dialects import Dialect, Refusal, Reply, encode
from daemon.sandbox.faults import Fault
from daemon.sandbox.grants import Grants, Pair
from daemon.sandbox.ledger import Presentation
from daemon.sandbox.misbehaviour import reply_in_place, spoil

_DEAD = Refusal(complaint="invalid_grant", detail="the refresh token is unknown, spent, expired or revoked")
_INCOMPLETE = Refusal(complaint="invalid_request", detail="grant_type or refresh_token is missing")
_UNSUPPORTED = Refusal(complaint="unsupported_grant_type", detail="use refresh_token or client_credentials")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """What one sandbox says to token requests."""

    grants: Grants
    client: Client
    dialect: Dialect
    lifetime: timedelta
    refresh_lifetime: timedelta | None

    def granted(self, pair: Pair) -> dict[str, object]:
        """A token response, as JSON's members."""
        return self.dialect.grant(pair, lifetime=self.lifetime, refresh_lifetime=self.refresh_lifetime)

    def take_effect(
        self, form: dict[str, str] | Refusal, authorization: str | None, *, fault: Fault | None, now: datetime
    ) -> tuple[Reply, Presentation | None]:
        """The reply to send, and the ledger's line about the refresh token if it is one of ours."""
        if fault is None:
            return self._process(form, authorization, fault=None, now=now)
        if fault.after_processing:
            reply, presentation = self._process(form, authorization, fault=fault.kind, now=now)
        else:
            reply = reply_in_place(fault.kind, fault.retry_after, self.dialect)
            presentation = self._note(form, f"fault:{fault.kind}", fault.kind, now)
        return spoil(reply, fault, self.dialect), presentation

    def _process(
        self, form: dict[str, str] | Refusal, authorization: str | None, *, fault: str | None, now: datetime
    ) -> tuple[Reply, Presentation | None]:
        if isinstance(form, Refusal):
            return self.dialect.refuse(form), None
        if refusal := self.client.refuses(authorization, form):
            return self.dialect.refuse(refusal), self._note(form, refusal.complaint, fault, now)
        match form:
            case {"grant_type": "refresh_token", "refresh_token": value}:
                pair, presentation = self.grants.present(value, now=now, fault=fault)
                return self.dialect.refuse(_DEAD) if pair is None else self._grant(pair), presentation
            case {"grant_type": "client_credentials"}:
                return self._grant(self.grants.client_credentials(now=now)), None
            case {"grant_type": grant_type} if grant_type != "refresh_token":
                return self.dialect.refuse(_UNSUPPORTED), None
            case _:
                return self.dialect.refuse(_INCOMPLETE), None

    def _note(
        self, form: dict[str, str] | Refusal, outcome: str, fault: str | None, now: datetime
    ) -> Presentation | None:
        if isinstance(form, Refusal) or "refresh_token" not in form:
            return None
        return self.grants.note(form["refresh_token"], outcome=outcome, now=now, fault=fault)

    def _grant(self, pair: Pair) -> Reply:
        return Reply(status=200, body=encode(self.granted(pair)))
