"""The consents that were asked for, and what became of each: the ledger's other half, of pages and codes.

A state machine without I/O; time is an argument. A consent begins as a request of the authorization endpoint or of
the device authorization endpoint, and ends in a grant, or in none. Codes appear by fingerprint only.

**Code.** It is spent by the first authenticated presentation, even by a refused one. A second presentation ends the
grant that the first one gave (RFC 6749, section 4.1.2).

**Device.** A poll before its interval has passed gets `slow_down`, and the interval grows by five seconds (RFC 8628,
section 3.5). An approved device code is spent as a code is.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from daemon.sandbox import minting
from daemon.sandbox.grants import Grants, Pair
from daemon.sandbox.ledger import REMEMBERED, Grant, Presentation, fingerprint
from daemon.sandbox.wording import Complaint, Refusal

State = Literal["waiting", "approved", "denied", "spent"]
Kind = Literal["code", "device"]
Redemption = tuple["Granted | Refusal", Presentation | None]
_SLOWER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an authorization request or a device asks for.

    offline  whether a refresh token is asked for; `again`: even if the account has consented before
    """

    scopes: tuple[str, ...]
    offline: bool = True
    again: bool = True
    redirect_uri: str | None = None
    challenge: str | None = None
    nonce: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What the presentation of a code gives: the first tokens, and the nonce for an ID token."""

    pair: Pair
    nonce: str | None


@dataclass(slots=True, kw_only=True)
class Consent:
    """One consent, from the request to its end."""

    id: str
    kind: Kind
    wish: Wish
    expires_at: datetime
    code: str = ""  # its fingerprint
    user_code: str = ""
    interval: timedelta = timedelta()
    state: State = "waiting"
    account: str = ""
    scopes: tuple[str, ...] = ()
    grant: Grant | None = None
    polled_at: datetime | None = None
    presented: list[Presentation] = field(default_factory=list)

    def decide(self, *, approved: bool, account: str, scopes: tuple[str, ...]) -> None:
        """The owner's decision; the scopes that the request did not ask for are left out."""
        self.state = "approved" if approved else "denied"
        self.account = account
        self.scopes = tuple(scope for scope in self.wish.scopes if scope in scopes) if approved else ()

    def note(self, code: str, outcome: str, *, now: datetime, fault: str | None) -> Presentation:
        presentation = Presentation(at=now, sha256=fingerprint(code), outcome=outcome, fault=fault)
        self.presented.append(presentation)
        del self.presented[:-REMEMBERED]
        return presentation

    def as_json(self) -> dict[str, object]:
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "account": self.account,
            "asked": list(self.wish.scopes),
            "scopes": list(self.scopes),
            "code": self.code,
            "user_code": self.user_code or None,
            "grant": self.grant and self.grant.id,
            "presented": [presentation.as_json() for presentation in self.presented],
        }


class Consents:
    """All consents of one sandbox. Not thread-safe; every method takes effect immediately."""

    def __init__(self, grants: Grants, *, most: int | None) -> None:
        self._grants = grants
        self._most = most
        self._consents: dict[str, Consent] = {}
        self._by_code: dict[str, Consent] = {}
        self._by_user_code: dict[str, Consent] = {}

    def decide(
        self, wish: Wish, *, approved: bool, account: str, scopes: tuple[str, ...], ends: datetime
    ) -> str:
        """The owner's decision on an authorization request; the code for the redirect if it is yes."""
        consent = self._add(Consent(id=self._next_id(), kind="code", wish=wish, expires_at=ends))
        consent.decide(approved=approved, account=account, scopes=scopes)
        return self._name(consent) if approved else ""

    def begin_device(self, wish: Wish, *, ends: datetime, interval: timedelta) -> tuple[str, str]:
        """A device code and its user code."""
        consent = self._add(Consent(id=self._next_id(), kind="device", wish=wish, expires_at=ends))
        consent.interval = interval
        consent.user_code = minting.user_code()
        self._by_user_code[_plain(consent.user_code)] = consent
        return self._name(consent), consent.user_code

    def waiting(self, user_code: str, *, now: datetime) -> Consent | None:
        """The device that waits for this user code; case and hyphens don't count."""
        consent = self._by_user_code.get(_plain(user_code))
        return consent if consent and consent.state == "waiting" and now < consent.expires_at else None

    def redeem(
        self, code: str, *, redirect_uri: str | None, verifier: str | None, now: datetime, fault: str | None
    ) -> Redemption:
        """Spend an authorization code. `fault` only goes into the record."""
        consent = self._by_code.get(fingerprint(code))
        if consent is None or consent.kind != "code":
            return _refusal("invalid_code", "the code is unknown"), None
        if consent.state == "spent":
            return self._reused(consent, code, now, fault)
        consent.state = "spent"
        if why := _mismatch(consent, redirect_uri, verifier, now):
            return _refusal("invalid_code", why), consent.note(code, "refused", now=now, fault=fault)
        return self._grant(consent, now), consent.note(code, "granted", now=now, fault=fault)

    def poll(self, code: str, *, now: datetime, fault: str | None) -> Redemption:
        """Ask whether the owner has decided on this device code."""
        consent = self._by_code.get(fingerprint(code))
        if consent is None or consent.kind != "device":
            return _refusal("invalid_code", "the device code is unknown"), None
        if consent.state == "spent":
            return self._reused(consent, code, now, fault)
        too_early = consent.polled_at is not None and now - consent.polled_at < consent.interval
        consent.polled_at = now
        match consent.state:
            case _ if now >= consent.expires_at:
                complaint: Complaint = "expired_token"
            case _ if too_early:
                consent.interval += _SLOWER
                complaint = "slow_down"
            case "denied":
                complaint = "access_denied"
            case "approved":
                consent.state = "spent"
                return self._grant(consent, now), consent.note(code, "granted", now=now, fault=fault)
            case _:
                complaint = "authorization_pending"
        refusal = Refusal(
            complaint=complaint,
            detail=_DETAILS[complaint],
            interval=int(consent.interval.total_seconds()),
        )
        return refusal, consent.note(code, complaint, now=now, fault=fault)

    def note(self, code: str, outcome: str, *, now: datetime, fault: str | None) -> Presentation | None:
        """Write down a presentation that had no effect; None if the code is unknown."""
        consent = self._by_code.get(fingerprint(code))
        return None if consent is None else consent.note(code, outcome, now=now, fault=fault)

    def __iter__(self) -> Iterator[Consent]:
        return iter(self._consents.values())

    def _next_id(self) -> str:
        return f"c{len(self._consents) + 1}"

    def _add(self, consent: Consent) -> Consent:
        self._consents[consent.id] = consent
        return consent

    def _name(self, consent: Consent) -> str:
        code = minting.code()
        consent.code = fingerprint(code)
        self._by_code[consent.code] = consent
        return code

    def _grant(self, consent: Consent, now: datetime) -> Granted:
        wish = consent.wish
        pair = self._grants.consent(
            now=now,
            account=consent.account,
            scopes=consent.scopes,
            offline=wish.offline and (wish.again or not self._grants.alive(consent.account)),
            most=self._most,
        )
        consent.grant = None if pair.grant is None else self._grants.find(pair.grant)
        return Granted(pair=pair, nonce=wish.nonce)

    def _reused(self, consent: Consent, code: str, now: datetime, fault: str | None) -> Redemption:
        if consent.grant is not None:
            consent.grant.revoke("code_reuse")
        detail = "the code was used before, and its grant has ended"
        return _refusal("invalid_code", detail), consent.note(code, "reused", now=now, fault=fault)


_DETAILS: dict[Complaint, str] = {
    "authorization_pending": "the owner has not decided yet",
    "slow_down": "wait five seconds longer between two polls",
    "access_denied": "the owner has denied the request",
    "expired_token": "the device code has expired; begin again",
}


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2)."""
    digest = sha256(verifier.encode("utf-8", "surrogatepass")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _mismatch(consent: Consent, redirect_uri: str | None, verifier: str | None, now: datetime) -> str | None:
    """Why this code is refused. A verifier without a challenge is a downgrade (RFC 9700, section 4.8.2)."""
    wish = consent.wish
    if now >= consent.expires_at:
        return "the code has expired"
    if redirect_uri != wish.redirect_uri:
        return "redirect_uri is not the one of the authorization request"
    if wish.challenge is None:
        return None if verifier is None else "code_verifier was sent, but the request had no code_challenge"
    if verifier is None:
        return "code_verifier is missing"
    if not hmac.compare_digest(challenge_of(verifier), wish.challenge):
        return "code_verifier does not match the code_challenge"
    return None


def _refusal(complaint: Complaint, detail: str) -> Refusal:
    return Refusal(complaint=complaint, detail=detail)


def _plain(user_code: str) -> str:
    return "".join(filter(str.isalnum, user_code)).upper()
