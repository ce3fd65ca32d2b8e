"""The truth about every grant: which refresh token is current, who presented what, and who was revoked.

A state machine without I/O; time is an argument. Tests compare the daemon's database with it, so it must stay small
enough to be believed.

**Rotation.** A grant stands on one *generation*. A refresh with a value of that generation lifts the grant by one
and issues a successor.

**Grace.** A value of the generation just left, presented within `grace` of the moment it was left, is taken for a
retry after a lost reply: it gets a fresh successor, which becomes `current`. Earlier successors of the same
generation stay good until one of them is used (a lost reply may still arrive). Real providers agree on the time
(Xero 30 min, Atlassian 10 min, Okta 0 to 60 s), not on what happens once the successor was used. Here that ends the
grace early, as with Auth0 and Shopify: a client that used the successor has had the reply, so a client that still presents
a value two generations old is a second presenter, which is what tests look for.

**Reuse.** Any older value is `reused`; with `reuse="revoke"` it costs the whole grant (RFC 9700, section 4.14.2). With
`reuse="keep"` (Microsoft) no value is ever spent: older ones are granted again, although only those of the latest
generation are listed as `live`.

**Until used.** With `until_used` the grace ends with the first use of an access token of the new generation, at
`/resource`, however long that takes.

**Other terms** (`terms.Terms`). A refresh token may stay as it is for some refreshes or for good; then the generation
stays too. Where the access token itself is exchanged (Facebook), it takes the refresh token's place in the ledger, and
works until its own end.

**Revocation.** A token that is alive ends as much as the provider's `Ends` says. A spent refresh token ends nothing, since
its successor is another value. A client that revokes the predecessor leaves the grant alive, and the ledger shows it.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, assert_never

from daemon.sandbox import minting
from daemon.sandbox.accents import Ends, TokenKind
from daemon.sandbox.ledger import Grant, Presentation, Revocation, RevokedBy, fingerprint
from daemon.sandbox.terms import Terms

Standing = Literal["live", "retry", "reused", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What one successful answer carries, and when each ends; no refresh token if the answer has none."""

    grant: str | None
    access_token: str
    expires_at: datetime | None
    refresh_token: str | None = None
    refresh_expires_at: datetime | None = None
    account: str = ""
    scopes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    grant: Grant
    generation: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Access:
    grant: Grant | None
    expires_at: datetime | None
    generation: int = 0


class Grants:
    """All grants of one sandbox. Not thread-safe; every method takes effect immediately, in the order of the calls."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._grants: dict[str, Grant] = {}
        self._issued: dict[str, _Issued] = {}  # by fingerprint: the values themselves are not kept
        self._access: OrderedDict[str, _Access] = OrderedDict()  # oldest first: all live equally long
        self._outcomes: Counter[str] = Counter()

    @property
    def terms(self) -> Terms:
        """The rules for all later refreshes."""
        return self._terms

    @terms.setter
    def terms(self, terms: Terms) -> None:
        self._terms = terms

    def consent(
        self,
        *,
        now: datetime,
        account: str = "",
        scopes: tuple[str, ...] | None = None,
        offline: bool = True,
        most: int | None = None,
    ) -> Pair:
        """A new grant and its first tokens. Without an account it is its own.

        `most` is the number of live grants that an account may have: the oldest ones above it end.
        """
        name = f"g{len(self._grants) + 1}"
        grant = Grant(id=name, consented_at=now, account=account or name, scopes=scopes, offline=offline)
        self._grants[grant.id] = grant
        if most is not None and account:
            for crowded in self.alive(grant.account)[:-most]:
                crowded.revoke("crowded")
        return self._issue(grant, now)

    def alive(self, account: str) -> list[Grant]:
        """The grants of this account that nothing has ended, oldest first."""
        return [grant for grant in self if grant.account == account and grant.revoked_by is None]

    def client_credentials(self, *, now: datetime) -> Pair:
        """An access token of the client's own (RFC 6749, section 4.4): no grant, no refresh token."""
        access_token, expires_at = self._issue_access(None, now)
        return Pair(grant=None, access_token=access_token, expires_at=expires_at)

    def present(
        self, value: str, *, now: datetime, fault: str | None = None
    ) -> tuple[Pair | None, Presentation | None]:
        """Spend a refresh token, or whatever renews the grant. No pair: it was refused; no presentation either: it was never issued here.

        `fault` only goes into the ledger: what will happen to the reply.
        """
        issued = self._issued.get(fingerprint(value))
        if issued is None:
            self._outcomes["unknown"] += 1
            return None, None
        grant = issued.grant
        match self._standing(issued, now):
            case "live" if self._stays(grant, now):
                return self._prolong(issued, value, now), self._record(grant, value, "granted", now, fault)
            case "live":
                self._leave(grant, now)
                return self._issue(grant, now), self._record(grant, value, "granted", now, fault)
            case "retry":
                return self._issue(grant, now), self._record(grant, value, "granted_again", now, fault)
            case "reused":
                if self._terms.reuse == "revoke":
                    grant.revoke("reuse")
                return None, self._record(grant, value, "reused", now, fault)
            case "refused":
                return None, self._record(grant, value, "refused", now, fault)
            case never:
                assert_never(never)

    def refuse_client(self, value: str, *, now: datetime) -> None:
        """A call that brought this value was refused for its client: if that spends it, it is spent."""
        issued = self._issued.get(fingerprint(value))
        if issued is None or not self._terms.spends_on_refusal:
            return
        if self._standing(issued, now) == "live":
            self._leave(issued.grant, now)

    @staticmethod
    def _leave(grant: Grant, now: datetime) -> None:
        """End the generation that a grant stands on."""
        grant.generation += 1
        grant.left_at, grant.used = now, False
        grant.live.clear()

    def note(
        self, value: str, *, outcome: str, now: datetime, fault: str | None = None
    ) -> Presentation | None:
        """Write down a presentation that had no effect on its grant; None where the value is unknown."""
        issued = self._issued.get(fingerprint(value))
        return None if issued is None else self._record(issued.grant, value, outcome, now, fault)

    def withdraw(self, grant_id: str) -> Grant | None:
        """The owner takes the consent back; None: no such grant."""
        grant = self._grants.get(grant_id)
        if grant is not None:
            grant.revoke("owner")
        return grant

    def revoke(
        self, value: str, *, takes: tuple[TokenKind, ...], ends: Ends, now: datetime, fault: str | None = None
    ) -> str:
        """Take back a token for the client: "revoked", or why there was nothing to revoke."""
        name = fingerprint(value)
        if (issued := self._issued.get(name)) is not None and "refresh_token" in takes:
            grant: Grant | None = issued.grant
            kind: TokenKind = "refresh_token"
            alive = grant is not None and name in self._acceptable(grant)
        elif (access := self._access.get(value)) is not None and "access_token" in takes:
            grant, kind, alive = access.grant, "access_token", self.accepts(value, now=now)
        else:
            return "unknown"
        outcome = "revoked" if alive else "gone"
        if alive:
            self._end(grant, value, kind, ends)
        if grant is not None:
            grant.record_revocation(Revocation(at=now, sha256=name, kind=kind, outcome=outcome, fault=fault))
        return outcome

    def note_revocation(self, value: str, *, outcome: str, now: datetime, fault: str | None) -> None:
        """Write down a request for revocation that had no effect, if the token is known."""
        name = fingerprint(value)
        issued, access = self._issued.get(name), self._access.get(value)
        grant = issued.grant if issued is not None else access.grant if access is not None else None
        if grant is not None:
            kind = "refresh_token" if issued is not None else "access_token"
            grant.record_revocation(Revocation(at=now, sha256=name, kind=kind, outcome=outcome, fault=fault))

    def find(self, grant_id: str) -> Grant | None:
        return self._grants.get(grant_id)

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._grants.values())

    def accepts(self, access_token: str, *, now: datetime) -> bool:
        """Whether a resource server would let this access token in."""
        access = self._access.get(access_token)
        if access is None or _is_past(access.expires_at, now):
            return False
        if access.grant is None or access.grant.revoked_by is not None:
            return access.grant is None
        access.grant.used = access.grant.used or access.generation == access.grant.generation
        return True

    def summary(self) -> dict[str, int]:
        return {
            "grants": len(self._grants),
            "revoked": sum(grant.revoked_by is not None for grant in self),
            "refreshes": self._outcomes["granted"] + self._outcomes["granted_again"],
            "reused": self._outcomes["reused"],
            "refused": self._outcomes["refused"],
            "unknown": self._outcomes["unknown"],
        }

    def _acceptable(self, grant: Grant) -> list[str]:
        """The refresh tokens that renew this grant, whatever their end."""
        if grant.revoked_by is not None:
            return []
        return grant.values if self._terms.reuse == "keep" else grant.live

    def _end(self, grant: Grant | None, value: str, kind: TokenKind, ends: Ends) -> None:
        by: RevokedBy = "client"
        match ends:
            case "account" if grant is not None:
                for other in self.alive(grant.account):
                    other.revoke(by)
            case "grant" if grant is not None:
                grant.revoke(by)
            case "family" if grant is not None and kind == "refresh_token":
                grant.revoke(by)
            case _ if kind == "refresh_token":
                name = fingerprint(value)
                issued = self._issued.pop(name)
                issued.grant.live = [live for live in issued.grant.live if live != name]
                issued.grant.values = [known for known in issued.grant.values if known != name]
            case _:
                del self._access[value]

    def _standing(self, issued: _Issued, now: datetime) -> Standing:
        grant = issued.grant
        if grant.revoked_by is not None:
            return "refused"
        if issued.generation < grant.generation and not self._within_grace(issued, now):
            return "reused"
        if _is_past(issued.expires_at, now):
            return "refused"
        return "live" if issued.generation == grant.generation else "retry"

    def _within_grace(self, issued: _Issued, now: datetime) -> bool:
        grant, terms = issued.grant, self._terms
        if terms.reuse == "keep":
            return True
        if grant.left_at is None or issued.generation != grant.generation - 1:
            return False
        if not terms.grace:
            return terms.until_used and not grant.used
        return now - grant.left_at < terms.grace and not (terms.until_used and grant.used)

    def _stays(self, grant: Grant, now: datetime) -> bool:
        """Whether this refresh leaves the refresh token as it is."""
        if self._keeps_access(grant, now):
            return True
        grant.refreshes += 1
        if (within := self._terms.changes_within) is not None:
            ends = self._issued[grant.current].expires_at
            return ends is None or ends - now > within
        every = self._terms.changes_every
        return every == 0 or grant.refreshes % every != 0

    def _prolong(self, issued: _Issued, value: str, now: datetime) -> Pair:
        """A new access token, while the refresh token stays as it is."""
        late = self._terms.changes_within is not None
        ends = issued.expires_at if late else self._refresh_end(issued.grant, now)
        self._issued[fingerprint(value)] = replace(issued, expires_at=ends)
        access_token, expires_at = self._issue_access(issued.grant, now)
        return Pair(
            grant=issued.grant.id,
            access_token=access_token,
            expires_at=expires_at,
            refresh_token=value if self._terms.repeats else None,
            refresh_expires_at=ends,
            account=issued.grant.account,
            scopes=issued.grant.scopes,
        )

    def _issue(self, grant: Grant, now: datetime) -> Pair:
        access_token, expires_at = self._issue_access(grant, now)
        bare = Pair(
            grant=grant.id,
            access_token=access_token,
            expires_at=expires_at,
            account=grant.account,
            scopes=grant.scopes,
        )
        match self._terms.renewable:
            case "refresh_token" if not grant.offline:
                return bare
            case "refresh_token":
                value, ends = minting.refresh_token(), self._refresh_end(grant, now)
            case "access_token":
                value, ends = access_token, expires_at
            case "nothing":
                return bare
            case never:
                assert_never(never)
        name = fingerprint(value)
        self._issued[name] = _Issued(grant=grant, generation=grant.generation, expires_at=ends)
        if forgotten := grant.issued(name):
            del self._issued[forgotten]
        shown = value if value is not access_token else None
        return replace(bare, refresh_token=shown, refresh_expires_at=ends if shown else None)

    def _refresh_end(self, grant: Grant, now: datetime) -> datetime | None:
        lifetime = self._terms.refresh_lifetime
        if lifetime is None:
            return None
        return (grant.consented_at if self._terms.absolute else now) + lifetime

    def _keeps_access(self, grant: Grant, now: datetime) -> bool:
        enough, ends = self._terms.keeps_access, grant.access_ends
        return enough is not None and ends is not None and ends - now > enough

    def _issue_access(self, grant: Grant | None, now: datetime) -> tuple[str, datetime | None]:
        if grant is not None and self._keeps_access(grant, now):
            return grant.access_token, grant.access_ends
        while self._access and _is_past(self._access[oldest := next(iter(self._access))].expires_at, now):
            del self._access[oldest]
        value, lifetime = minting.access_token(), self._terms.lifetime
        ends = None if lifetime is None else now + lifetime
        generation = 0 if grant is None else grant.generation
        self._access[value] = _Access(grant=grant, expires_at=ends, generation=generation)
        if grant is not None:
            if self._terms.ends_previous:
                self._access.pop(grant.access_token, None)
            grant.access_token, grant.access_ends = value, ends
        return value, ends

    def _record(
        self, grant: Grant, value: str, outcome: str, now: datetime, fault: str | None
    ) -> Presentation:
        presentation = Presentation(at=now, sha256=fingerprint(value), outcome=outcome, fault=fault)
        grant.record(presentation)
        self._outcomes[outcome] += 1
        return presentation


def _is_past(end: datetime | None, now: datetime) -> bool:
    return end is not None and end <= now
