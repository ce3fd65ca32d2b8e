"""What a client signs, checked as a provider checks it (RFC 7523, section 3): with the public keys that are registered.

A provider that hands out keys draws one at the start and keeps only its public half. A key can be taken back
(`DELETE /keys`), and another one drawn (`POST /keys`): what the former one signs is refused from then on.
"""

import json
from base64 import urlsafe_b64decode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from daemon.sandbox.wording import Complaint, Refusal

Fault = Literal[
    "missing", "malformed", "issuer", "signature", "audience", "expired", "too_long", "ahead", "incomplete", "reused", "user",
]  # fmt: skip
Place = Literal["assertion", "bearer"]
_SKEW = timedelta(seconds=60)  # what providers forgive of clocks
_KEPT = 1000  # of the assertions that came
_ADVICE: Mapping[Fault, str] = {
    "missing": "send what the client has signed",
    "malformed": "this is not a signed JWT",
    "issuer": "iss is not the client's id",
    "signature": "no registered key has signed this",
    "audience": "aud is another server",
    "expired": "exp is over: is the clock right?",
    "too_long": "exp is too far ahead",
    "ahead": "iat is in the future: is the clock right?",
    "incomplete": "a claim is missing",
    "reused": "this jti was here before",
    "user": "nobody here is known by this name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionTerms:
    """How a provider wants the assertion.

    place      the parameter `assertion`, or the bearer of the request
    audiences  any of these, beside the token URL itself; none: aud is not looked at
    longest    the most time from now to exp
    requires   more claims that must be there
    user       the claim that names the user, or `{name}`, a variable of the path; empty: no user
    once       each jti counts once
    says       the complaint, and which of its wordings, for each fault; the standard's where nothing is said
    """

    place: Place = "assertion"
    audiences: tuple[str, ...] = ()
    longest: timedelta = timedelta(hours=1)
    requires: tuple[str, ...] = ()
    user: str = "sub"
    once: bool = False
    says: Mapping[Fault, tuple[Complaint, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """One assertion that came. `outcome`: "accepted", or its fault."""

    at: datetime
    user: str | None
    key: str | None
    outcome: str

    def as_json(self) -> dict[str, object]:
        return {"at": self.at.isoformat(), "user": self.user, "key": self.key, "outcome": self.outcome}


class _Wrong(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault: Fault = fault
        super().__init__(fault)


class AssertionDesk:
    """Registered keys and known users of one client. `ahead`: how far this provider's clock is ahead of ours."""

    def __init__(
        self, terms: AssertionTerms, *, client_id: str, users: tuple[str, ...], ahead: timedelta
    ) -> None:
        self.terms = terms
        self._client_id, self._users, self._ahead = client_id, users, ahead
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._drawn = 0
        self._seen: set[str] = set()
        self.presented: deque[Presented] = deque(maxlen=_KEPT)

    def draw_key(self) -> dict[str, str]:
        """Register another key: its id, and the private half in PEM, which is not kept."""
        key = rsa.generate_private_key(65537, 2048)
        self._drawn += 1
        name = f"key-{self._drawn}"
        self._keys[name] = key.public_key()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return {"client_key_id": name, "client_key": pem}

    def revoke_keys(self) -> int:
        """Take back all keys; how many they were."""
        count = len(self._keys)
        self._keys.clear()
        return count

    def refuses(
        self, text: str | None, *, place: Mapping[str, str], token_url: str, now: datetime
    ) -> tuple[Refusal, int] | None:
        """What is wrong with the assertion `text`, and the number of the wording; None: it is accepted. `place`: the variables
        of the request's path.
        """
        user, key = None, None
        try:
            header, claims = _parts(text)
            user, key = self._user(claims, place), header.get("kid")
            self._check(text or "", header, claims, token_url=token_url, now=now + self._ahead)
            self._check_user(user)
        except _Wrong as wrong:
            self._note(user, key, wrong.fault, now)
            usual: tuple[Complaint, int] = ("invalid_grant" if wrong.fault == "user" else "invalid_client", 0)
            complaint, wording = self.terms.says.get(wrong.fault, usual)
            return Refusal(complaint=complaint, detail=_ADVICE[wrong.fault]), wording
        self._note(user, key, "accepted", now)
        return None

    def _check(
        self,
        text: str,
        header: Mapping[str, object],
        claims: Mapping[str, object],
        *,
        token_url: str,
        now: datetime,
    ) -> None:
        terms = self.terms
        if claims.get("iss") != self._client_id:
            raise _Wrong("issuer")
        if header.get("alg") != "RS256" or not self._is_signed(text, header.get("kid")):
            raise _Wrong("signature")
        if terms.audiences and claims.get("aud") not in (*terms.audiences, token_url):
            raise _Wrong("audience")
        issued, ends = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(ends, int):
            raise _Wrong("malformed")
        if ends <= now.timestamp():
            raise _Wrong("expired")
        if issued > (now + _SKEW).timestamp():
            raise _Wrong("ahead")
        if ends - now.timestamp() > terms.longest.total_seconds():
            raise _Wrong("too_long")
        if not all(claims.get(name) for name in terms.requires):
            raise _Wrong("incomplete")
        self._check_once(claims.get("jti"))

    def _check_once(self, jti: object) -> None:
        if not self.terms.once:
            return
        if not isinstance(jti, str) or jti in self._seen:
            raise _Wrong("reused")
        self._seen.add(jti)

    def _is_signed(self, text: str, kid: object) -> bool:
        """Whether a registered key has signed `text`. A key that names itself must be that one."""
        signed, _, signature = text.rpartition(".")
        keys = [key for name, key in self._keys.items() if kid is None or kid == name]
        for key in keys:
            try:
                key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), SHA256())
            except InvalidSignature:
                continue
            return True
        return False

    def _user(self, claims: Mapping[str, object], place: Mapping[str, str]) -> str | None:
        user = self.terms.user
        found = place.get(user[1:-1]) if user.startswith("{") else claims.get(user)
        return found if isinstance(found, str) else None

    def _check_user(self, user: str | None) -> None:
        known = user is not None and (not self._users or user in self._users)
        if self.terms.user and not known:
            raise _Wrong("user")

    def _note(self, user: str | None, key: object, outcome: str, now: datetime) -> None:
        named = key if isinstance(key, str) else None
        self.presented.append(Presented(at=now, user=user, key=named, outcome=outcome))


def _parts(text: str | None) -> tuple[Mapping[str, object], Mapping[str, object]]:
    if text is None:
        raise _Wrong("missing")
    parts = text.split(".")
    if len(parts) != 3:
        raise _Wrong("malformed")
    try:
        header, claims = (json.loads(_decoded(part)) for part in parts[:2])
    except (ValueError, RecursionError):
        raise _Wrong("malformed") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _Wrong("malformed")
    return header, claims


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise _Wrong("malformed") from None
