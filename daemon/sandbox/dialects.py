"""How the sandbox words its answers: what happened is decided elsewhere, a dialect only says it.

A dialect is data: a file in `fixtures/` whose shapes were recorded from that provider, never taken from the daemon's
own definition files (a wrong definition would then agree with itself).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from daemon.sandbox.accents import ConsentTerms, DeviceTerms, RevocationTerms
from daemon.sandbox.assertions import AssertionTerms
from daemon.sandbox.demands import Demands
from daemon.sandbox.grants import Pair
from daemon.sandbox.terms import Terms
from daemon.sandbox.wording import FORM, Answer, Complaint, Refusal, Reply, filled


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One provider: its paths, what it demands, how it treats its tokens, and its words.

    paths           of the token endpoint, the first is the one that is shown; `variables` fills it in
    granted         a token response; `first` holds what only the response to a consent has
    form_by_default whether a client that does not ask for JSON gets a form
    granted_status  of a token response
    refusals        for each complaint the wordings that were seen, the usual one first
    assertion       how what the client signs is checked; None: nothing is signed
    device          None: the provider has no device flow; `revocation` likewise
    """

    name: str
    paths: tuple[str, ...]
    variables: Mapping[str, str]
    demands: Demands
    terms: Terms
    granted: Mapping[str, object]
    first: Mapping[str, object]
    form_by_default: bool
    granted_status: int
    refusals: Mapping[Complaint, tuple[Answer, ...]]
    consent: ConsentTerms
    assertion: AssertionTerms | None
    device: DeviceTerms | None
    revocation: RevocationTerms | None

    @property
    def has_owners(self) -> bool:
        """Whether somebody consents there: not where the client alone is enough for every token."""
        kinds = self.demands.grants.values()
        return not kinds or "present" in kinds

    @property
    def path(self) -> str:
        return self.shown(self.paths[0])

    def shown(self, path: str) -> str:
        """A path as a client is shown it: with its variables filled in, and the place of a token as it is."""
        for name, value in self.variables.items():
            path = path.replace(f"{{{name}}}", value)
        return path

    def grant(
        self, pair: Pair, *, now: datetime, first: bool = False, id_token: str | None = None
    ) -> dict[str, Any]:
        """The members of a successful answer (RFC 6749, section 5.1). `first`: at the consent."""
        shape = {**self.granted, **self.first} if first else self.granted
        issued_at = int(now.timestamp())
        members = filled(
            shape,
            {
                "access_token": pair.access_token,
                "refresh_token": pair.refresh_token,
                "expires_in": _seconds_left(pair.expires_at, now),
                "expires_in_text": pair.expires_at and f"{_seconds_left(pair.expires_at, now)}",
                "expires_at": pair.expires_at and int(pair.expires_at.timestamp()),
                "expires_at_iso": pair.expires_at and f"{pair.expires_at:%Y-%m-%dT%H:%M:%SZ}",
                "refresh_expires_in": _seconds_left(pair.refresh_expires_at, now),
                "refresh_expires_at": pair.refresh_expires_at and int(pair.refresh_expires_at.timestamp()),
                "issued_at": issued_at,
                "issued_at_ms": f"{issued_at}000",
                "account": pair.account,
                "id_token": id_token,
            },
        )
        return self._of_page(dict(members), pair) if isinstance(members, dict) else {}

    def _of_page(self, members: dict[str, Any], pair: Pair) -> dict[str, Any]:
        """With what the owner chose on a page in the place of what was recorded: the scopes and the account."""
        if pair.scopes is None:
            return members
        for name in ("scope", "scopes"):
            match members.get(name):
                case str(recorded) if recorded:
                    members[name] = ("," if "," in recorded else " ").join(pair.scopes)
                case list():
                    members[name] = list(pair.scopes)
                case _:
                    pass
        *path, last = self.consent.account.split(".")
        holder: Any = members
        for step in path:
            holder = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and last in holder:
            holder[last] = _renamed(holder[last], pair.account)
        return members

    def refuse(self, refusal: Refusal, *, wording: int = 0) -> Reply:
        """An error answer (RFC 6749, section 5.2, or what this provider makes of it)."""
        reply = self.refusals[refusal.complaint][wording].reply(
            {"detail": refusal.detail, "interval": refusal.interval}
        )
        if not refusal.challenge:
            return reply
        challenge = f'Basic realm="{self.name}", charset="UTF-8"'
        return replace(reply, headers={**reply.headers, "WWW-Authenticate": challenge})

    def as_asked(self, reply: Reply, accept: str) -> Reply:
        """`reply` in the form that the client's Accept header gets here."""
        if not self.form_by_default or "application/json" in accept or reply.status != 200:
            return reply
        return replace(reply, body=urlencode(json.loads(reply.body)).encode(), content_type=FORM)


def _seconds_left(end: datetime | None, now: datetime) -> int | None:
    return None if end is None else int((end - now).total_seconds())


def _renamed(recorded: object, account: str) -> object:
    """`account` in the shape of the recorded name: as a number, or as the last step of an address."""
    match recorded:
        case int() if account.isascii() and account.isdigit():
            return int(account)
        case str() if "/" in recorded:
            return f"{recorded.rpartition('/')[0]}/{account}"
        case _:
            return account
