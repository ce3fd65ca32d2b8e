"""The token endpoint without its wire: one request in, its effect on grants and consents, one reply out.

Everything happens in one call that awaits nothing, so the order of the ledger is the order of arrival.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from daemon.sandbox import minting
from daemon.sandbox.assertions import AssertionDesk
from daemon.sandbox.clients import Client
from daemon.sandbox.consents import Consents, Redemption
from daemon.sandbox.demands import Asked
from daemon.sandbox.dialects import Dialect
from daemon.sandbox.faults import Fault
from daemon.sandbox.grants import Grants, Pair
from daemon.sandbox.ledger import Presentation
from daemon.sandbox.misbehaviour import reply_in_place, spoil
from daemon.sandbox.wording import Refusal, Reply, encode

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_CODE = "authorization_code"
_DEAD = Refusal(complaint="invalid_grant", detail="the refresh token is unknown, spent, expired or revoked")

Outcome = tuple[Reply, Presentation | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """What one sandbox says to token requests. `issuer` gives its URL, which is known once it listens."""

    grants: Grants
    consents: Consents
    client: Client
    dialect: Dialect
    issuer: Callable[[], str]
    desk: AssertionDesk | None = None

    def take_effect(self, asked: Asked, *, fault: Fault | None, now: datetime) -> Outcome:
        """The reply to send, and the ledger's line about the presented token or code if it is one of ours."""
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
            noted = self._note(form, refusal.complaint, fault, now)
            self.grants.refuse_client(form.get(demands.presents, ""), now=now)
            return self.dialect.refuse(refusal), noted
        if (redemption := self._redeem(form, fault, now)) is not None:
            return self._first_tokens(redemption, form, fault, now)
        if self.desk is not None and demands.grants.get(form.get("grant_type", "")) == "assert":
            return self._assert(self.desk, asked, form, fault, now), None
        return self._renew(form, fault, now)

    def _renew(self, form: dict[str, str], fault: str | None, now: datetime) -> Outcome:
        demands = self.dialect.demands
        grant_type = form.get("grant_type", "")
        presented = form.get(demands.presents)
        match demands.grants.get(grant_type):
            case "present" if presented is not None:
                pair, presentation = self.grants.present(presented, now=now, fault=fault)
                if pair is None:
                    return self.dialect.refuse(_DEAD), presentation
                return self._grant(pair, fault, now), presentation
            case "reissue" if form.keys() >= set(demands.needs.get(grant_type, ())):
                return self._grant(self.grants.client_credentials(now=now), fault, now), None
            case None if grant_type not in ("", *self._at_consent()):
                return self.dialect.refuse(self._unsupported()), None
            case _:
                return self.dialect.refuse(self._incomplete(grant_type)), None

    def _assert(
        self, desk: AssertionDesk, asked: Asked, form: dict[str, str], fault: str | None, now: datetime
    ) -> Reply:
        scheme, _, bearer = asked.headers.get("Authorization", "").partition(" ")
        signed = form.get("assertion") if desk.terms.place == "assertion" else bearer.strip()
        if desk.terms.place == "bearer" and scheme.lower() != "bearer":
            signed = None
        token_url = self.issuer() + asked.path
        refused = desk.refuses(signed, place=asked.place, token_url=token_url, now=now)
        if refused is not None:
            refusal, wording = refused
            return self.dialect.refuse(refusal, wording=wording)
        return self._grant(self.grants.client_credentials(now=now), fault, now)

    def _redeem(self, form: dict[str, str], fault: str | None, now: datetime) -> Redemption | None:
        """What becomes of the code in this request; None: it has none."""
        grant_type = form.get("grant_type")
        if grant_type is None and self.dialect.consent.grant_type == "optional" and "code" in form:
            grant_type = _CODE
        match grant_type:
            case "authorization_code" if "code" in form:
                ignored = self.dialect.consent.pkce == "ignored"
                return self.consents.redeem(
                    form["code"],
                    redirect_uri=form.get("redirect_uri"),
                    verifier=None if ignored else form.get("code_verifier"),
                    now=now,
                    fault=fault,
                )
            case _ if grant_type == DEVICE_CODE and self.dialect.device is not None and "device_code" in form:
                return self.consents.poll(form["device_code"], now=now, fault=fault)
            case _:
                return None

    def _first_tokens(
        self, redemption: Redemption, form: dict[str, str], fault: str | None, now: datetime
    ) -> Outcome:
        granted, presentation = redemption
        if isinstance(granted, Refusal):
            return self.dialect.refuse(granted), presentation
        pair = granted.pair
        if any(form.get(name) != value for name, value in self.dialect.consent.expiring.items()):
            pair = replace(pair, refresh_token=None, expires_at=None, refresh_expires_at=None)
        return self._grant(pair, fault, now, first=True, nonce=granted.nonce), presentation

    def _note(
        self, form: dict[str, str] | Refusal, outcome: str, fault: str | None, now: datetime
    ) -> Presentation | None:
        if isinstance(form, Refusal):
            return None
        if (presented := form.get(self.dialect.demands.presents)) is not None:
            return self.grants.note(presented, outcome=outcome, now=now, fault=fault)
        if (code := form.get("code") or form.get("device_code")) is not None:
            return self.consents.note(code, outcome, now=now, fault=fault)
        return None

    def _grant(
        self, pair: Pair, fault: str | None, now: datetime, *, first: bool = False, nonce: str | None = None
    ) -> Reply:
        if fault == "no_refresh_token":
            pair = replace(pair, refresh_token=None)
        id_token = self._id_token(pair, nonce, now)
        members = self.dialect.grant(pair, now=now, first=first, id_token=id_token)
        return Reply(status=self.dialect.granted_status, body=encode(members))

    def _id_token(self, pair: Pair, nonce: str | None, now: datetime) -> str | None:
        if pair.scopes is None or "openid" not in pair.scopes:
            return None
        issued_at = int(now.timestamp())
        claims: dict[str, object] = {
            "iss": self.issuer(),
            "sub": pair.account,
            "aud": self.client.id,
            "iat": issued_at,
            "exp": issued_at + 3600,
        }
        if nonce is not None:
            claims["nonce"] = nonce
        return minting.id_token(claims, secret=self.client.secret)

    def _at_consent(self) -> tuple[str, ...]:
        """The words for grant_type that bring a code."""
        return (_CODE,) if self.dialect.device is None else (_CODE, DEVICE_CODE)

    def _unsupported(self) -> Refusal:
        known = " or ".join(self.dialect.demands.grants)
        detail = f"use {known}" if known else "nothing renews a token here"
        return Refusal(complaint="unsupported_grant_type", detail=detail)

    def _incomplete(self, grant_type: str) -> Refusal:
        at_consent = {_CODE: ["code"], DEVICE_CODE: ["device_code"]}
        needed = self.dialect.demands.needs.get(grant_type) or at_consent.get(
            grant_type, [self.dialect.demands.presents]
        )
        return Refusal(complaint="invalid_request", detail=f"grant_type or {' or '.join(needed)} is missing")
