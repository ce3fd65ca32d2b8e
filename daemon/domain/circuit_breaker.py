"""The circuit breaker of one provider decides when the whole provider is paused, and when its answers are
doubtful.

Only *healthy* tokens give evidence. A token that has failed since its last success shows nothing new about
its provider, so it is not counted: a few bad tokens must not stop the others. If several healthy tokens fail
in the same way without a grant between them, the provider is paused. Then probes use the healthiest tokens,
and one grant ends the pause. Nothing else proves health: neither a page with status 200 nor a rejection.

If the first probes succeed, the suspicion was wrong, perhaps because one customer's tokens were due together.
The next suspicion for the same reason needs twice the evidence.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from urllib.parse import urlsplit

from daemon.domain.answer import (
    Answer,
    Cause,
    Concern,
    Granted,
    Misconfigured,
    Rejected,
    Unavailable,
    Unparsed,
)
from daemon.domain.provider import Provider
from daemon.domain.token import Token
from daemon.domain.token_url import NotSendable, fills_host, token_url


class Reason(StrEnum):
    """The reason for a pause. It names the required action."""

    WRONG_CLIENT = "wrong_client"
    MISCONFIGURED = "misconfigured"
    OUTAGE = "outage"
    UNPARSED = "unparsed"  # pages and the like in place of replies
    REJECTIONS = "rejections"  # rejections of so many healthy tokens that they are not believed
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause, as all replicas see it. `client`: a fingerprint of the client that the pause is about.

    `probes` counts the probes by proven tokens (see `is_proven`), `retries` those by other tokens. The
    failure of another token shows little and must not delay a proven token, so each kind has its own next
    time.
    """

    reason: Reason
    since: datetime | None = None
    next_probe_at: datetime | None = None
    probes: int = 0
    next_retry_at: datetime | None = None
    retries: int = 0
    client: str | None = None

    def after(self, now: datetime, *, proven: bool) -> "Pause":
        """Return the pause after a probe that was sent `now`. A proven token's probe postpones both kinds,
        another one's only its own.
        """
        if not proven:
            retry_at = now + probe_after(self.reason, self.probes + self.retries + 1)
            return replace(self, retries=self.retries + 1, next_retry_at=retry_at)
        probes = self.probes + 1
        retry_at = now + probe_after(self.reason, probes + self.retries)
        next_at = now + probe_after(self.reason, probes)
        return replace(self, probes=probes, next_probe_at=next_at, next_retry_at=retry_at)


class Circuit(Enum):
    """The states of a circuit breaker."""

    CLOSED = "closed"  # a grant has shown that the client is accepted
    HALF_OPEN = "half_open"  # after a start or a rest: one request at a time, until a grant
    OPEN = "open"  # nothing but probes is asked


# How many different healthy tokens must fail alike, with no grant between them.
FAILURE_THRESHOLD = 3  # for a misconfiguration, or for pages in place of replies
# If half of all answers are good, so many bad ones hardly ever come together.
OUTAGE_THRESHOLD = 20
REFUSAL_THRESHOLD = 20  # for an error that the definition doesn't contain
REJECTION_THRESHOLD = 7  # each of the first six is believed, by each replica
OUTWEIGHED = (
    4  # grants that outweigh one rejection: dying grants are rare, and a mass of rejections may be partial
)

_DISPROVED_WITHIN = timedelta(minutes=3)  # a rest that a grant ends so soon was a wrong suspicion
_DISPROOF_LASTS = timedelta(hours=1)
_MOST_DOUBLINGS = 5
SUSPICION = timedelta(minutes=15)  # after so many rejections, no rejection is believed for this long

_SECONDS = timedelta(seconds=1)
_FIRST_PROBES = {  # seconds until each of the first probes; the last interval is repeated
    Reason.WRONG_CLIENT: (2, 30, 120, 480, 1800),
    Reason.MISCONFIGURED: (5, 15, 30, 30, 60, 120, 480, 1800),
    Reason.REJECTIONS: (5, 15, 30, 30, 60),
    Reason.UNPARSED: (5, 15, 30, 60),
    Reason.OUTAGE: (15, 30, 60),
}
_OF_CLIENT = frozenset({Reason.WRONG_CLIENT, Reason.MISCONFIGURED})
_WIDENING = frozenset({Reason.MISCONFIGURED, Reason.REJECTIONS})
_PROBED = (1, 2, 4, 8, 16)


def probe_after(reason: Reason, probes: int) -> timedelta:
    """Return the time between a probe and the next one. `probes` counts from 0."""
    intervals = _FIRST_PROBES.get(reason, (1800,))
    return intervals[min(probes, len(intervals) - 1)] * _SECONDS


def probe_size(reason: Reason, probes: int) -> int:
    """Return how many healthy tokens a probe uses. `probes` is the number of earlier probes.

    If the cause may be one customer's trouble, further tokens soon settle that. If all of them fail, few
    requests are sent.
    """
    return _PROBED[probes] if reason in _WIDENING and probes < len(_PROBED) else 1


def is_healthy(token: Token) -> bool:
    """Return whether `token` has not failed since its last success. Only then does a failure show anything
    about its provider.

    A token in doubt may be refused because its lost reply contained the successor, which isn't the provider's
    fault either.
    """
    return token.failures == 0 and token.doubt is None


def is_proven(token: Token) -> bool:
    """Return whether `token` is healthy and was renewed before, which shows that it fits the client."""
    return is_healthy(token) and token.refreshed_at is not None


def source_of(provider: Provider, token: Token) -> str:
    """Return the source of an answer: the token, or its host if each customer has a server of its own, so
    that one server's trouble does not stop the others.
    """
    if not fills_host(provider.definition.token_url):
        return token.id
    try:
        return urlsplit(token_url(provider, token.vars)).netloc
    except NotSendable:
        return token.id


@dataclass(slots=True, kw_only=True)
class _Disproof:
    """The number of recent pauses for one reason that were a wrong suspicion."""

    times: int = 0
    until: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """The evidence of one answer about the whole provider. Answers are alike if `reason` and `code` are
    equal.
    """

    reason: Reason
    threshold: int
    code: str = ""  # of refusals and misconfigurations: two different ones are two troubles


def is_probed(provider: Provider, reason: Reason) -> bool:
    """Return whether probes end a pause. Only an operator ends his own, and that of a client whose refusals cost grants:
    each probe would cost another one.
    """
    if reason is Reason.OPERATOR:
        return False
    return not provider.definition.spends_on_refusal or reason not in _OF_CLIENT


@dataclass(slots=True, kw_only=True)
class CircuitBreaker:
    """The evidence that one process has about one provider. Instants are boot times. `reason`: why the
    circuit is open. `wary`: a refused client costs a grant each time, so the first refusal opens it.
    """

    wary: bool = False
    state: Circuit = Circuit.HALF_OPEN
    reason: Reason | None = None
    _since: timedelta = timedelta(0)
    # Who met a trouble since the last grant.
    _met: dict[_Trouble, set[str]] = field(default_factory=dict)
    _grants: int = 0  # since it was last open
    _disproofs: dict[Reason, _Disproof] = field(default_factory=dict)
    _suspicious_until: timedelta = timedelta(0)

    @property
    def is_open(self) -> bool:
        return self.state is Circuit.OPEN

    def record(self, source: str, answer: Answer, *, healthy: bool, now: timedelta) -> Reason | None:
        """Record the answer that `source` (see `source_of`) got. Returns the reason if that opens the
        circuit.

        A grant closes it. `healthy`: whether the token had not failed before.
        """
        if isinstance(answer, Granted):
            self._close(now)
            return None
        trouble = _trouble_of(answer)
        if trouble is None or not healthy:
            return None
        met = self._met.setdefault(trouble, set())
        met.add(source)
        if len(met) < self._threshold(trouble, now):
            return None
        if trouble.reason is Reason.REJECTIONS:
            self._suspicious_until = now + SUSPICION
        if self.is_open:
            return None
        self.open(trouble.reason, now)
        return trouble.reason

    def doubts(self, now: timedelta) -> bool:
        """Return whether the provider seems to give every token the same answer now."""
        return self.reason in _DOUBTFUL or now < self._suspicious_until

    def open(self, reason: Reason, now: timedelta) -> None:
        """Open the circuit: only probes are sent from now on."""
        if reason is Reason.REJECTIONS:
            self._suspicious_until = now + SUSPICION
        self.state, self.reason, self._since = Circuit.OPEN, reason, now
        self._met.clear()

    def half_open(self) -> None:
        """Half-open the circuit, because another replica or the operator ended the pause: one request at a
        time until a grant.
        """
        if self.is_open:
            self.state, self.reason = Circuit.HALF_OPEN, None

    def without_evidence(self) -> "CircuitBreaker":
        """Return a new breaker that is as open as this one, for a provider whose configuration has changed."""
        if not self.is_open:
            return CircuitBreaker(wary=self.wary)
        return CircuitBreaker(wary=self.wary, state=self.state, reason=self.reason)

    def _close(self, now: timedelta) -> None:
        if self.reason is Reason.OPERATOR:
            return
        if self.reason is not None and now - self._since < _DISPROVED_WITHIN:
            disproof = self._disproofs.setdefault(self.reason, _Disproof())
            disproof.times = min(disproof.times + 1, _MOST_DOUBLINGS) if now < disproof.until else 1
            disproof.until = now + _DISPROOF_LASTS
        was_open = self.is_open
        self.state, self.reason = Circuit.CLOSED, None
        self._grants = 0 if was_open else self._grants + 1
        rejected = None if was_open else self._met.get(_MASS)
        self._met.clear()
        if rejected:
            if self._grants % OUTWEIGHED == 0:
                rejected.pop()
            self._met[_MASS] = rejected

    def _threshold(self, trouble: _Trouble, now: timedelta) -> int:
        if trouble.reason is Reason.WRONG_CLIENT and (self.wary or self.state is not Circuit.CLOSED):
            return 1
        disproof = self._disproofs.get(trouble.reason)
        lately = disproof.times if disproof is not None and now < disproof.until else 0
        return trouble.threshold << lately


_MASS = _Trouble(Reason.REJECTIONS, REJECTION_THRESHOLD)
_DOUBTFUL = frozenset({Reason.MISCONFIGURED, Reason.OUTAGE, Reason.UNPARSED, Reason.REJECTIONS})


def _trouble_of(answer: Answer) -> _Trouble | None:
    """Return the evidence of `answer`. None: it shows nothing about the provider, however many healthy tokens
    get it.
    """
    match answer:
        case Rejected():
            return _MASS
        case Unparsed() | Unavailable(cause=Cause.PAGE):
            return _Trouble(Reason.UNPARSED, FAILURE_THRESHOLD)
        case Misconfigured(concerns=Concern.CLIENT):
            return _Trouble(Reason.WRONG_CLIENT, FAILURE_THRESHOLD)
        case Misconfigured(concerns=Concern.PROVIDER, code=code):
            return _Trouble(Reason.MISCONFIGURED, FAILURE_THRESHOLD, code)
        case Unavailable(cause=Cause.REFUSAL, code=code):
            return _Trouble(Reason.MISCONFIGURED, REFUSAL_THRESHOLD, code)
        case Unavailable(cause=Cause.OUTAGE):
            return _Trouble(Reason.OUTAGE, OUTAGE_THRESHOLD)
        case _:
            return None
