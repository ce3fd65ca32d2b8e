"""When a provider as a whole must rest: decided from its answers, one after the other, and probed until one is good.

One token's trouble is no reason. Several different tokens that fail alike with no good answer between are one; a
refused client is one at once, unless this client was accepted before.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from daemon.domain.answer import Answer, Concern, Granted, Misconfigured, Rejected, Unavailable, Unread
from daemon.domain.provider import Provider
from daemon.domain.target import NotSendable, fills_host, token_url
from daemon.domain.token import Token


class Reason(StrEnum):
    """Why a provider rests; it names what has to happen."""

    WRONG_CLIENT = "wrong_client"
    MISCONFIGURED = "misconfigured"
    OUTAGE = "outage"
    UNPARSED = "unparsed"  # pages and the like in the place of replies
    REJECTIONS = "rejections"  # rejections of so many healthy tokens that they are not believed
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A rest, as all replicas see it. `client`: a fingerprint of the client that it was about."""

    reason: Reason
    since: datetime | None = None
    next_probe_at: datetime | None = None
    probes: int = 0
    client: str | None = None


ALIKE = 3  # different tokens in a row, for a misconfiguration
OUTAGES = 20  # ... and for an outage: where half of all answers are good, so many bad ones hardly ever come together
_FIRST_PROBE = timedelta(seconds=30)  # soon: it may have been the one token with a foreign client
_LAST_PROBE = timedelta(minutes=30)
_FIRST_OUTAGE_PROBE = timedelta(seconds=15)
_LAST_OUTAGE_PROBE = timedelta(
    minutes=1
)  # an outage's end is seen well before what waited is five minutes late


def probe_after(reason: Reason, probes: int) -> timedelta:
    """How long after a probe the next one is sent; `probes` counts from 0."""
    if reason is Reason.OUTAGE:
        return min(_FIRST_OUTAGE_PROBE * (1 << min(probes, 8)), _LAST_OUTAGE_PROBE)
    return min(_FIRST_PROBE * (1 << min(2 * probes, 16)), _LAST_PROBE)


def alike_by(provider: Provider, token: Token) -> str:
    """Whose trouble one answer tells of: the token's; or its host's, where each customer has a server of its own, so
    that one server's trouble is no reason to let the others wait.
    """
    if not fills_host(provider.definition.token_url):
        return token.id
    try:
        return urlsplit(token_url(provider, token.vars)).netloc
    except NotSendable:
        return token.id


@dataclass(slots=True, kw_only=True)
class Brake:
    """What one process has heard of one provider.

    `proven`: an answer has shown that the client is accepted, so many may be asked at once. `paused`: nothing is
    asked but probes.
    """

    proven: bool = False
    paused: bool = False
    _cause: Reason | None = None
    _met: set[str] = field(default_factory=set)  # who met it

    def heard(self, who: str, answer: Answer) -> Reason | None:
        """Take note of the answer that `who` (see `alike_by`) had. A reason: the provider must rest now. A good answer
        ends a pause.
        """
        match answer:
            case Granted() | Unread() | Rejected():
                self.proven, self.paused, self._cause = True, False, None
                return None
            case Misconfigured(concerns=Concern.TOKEN):
                return None
            case Misconfigured(concerns=Concern.CLIENT):
                cause, enough = Reason.WRONG_CLIENT, ALIKE if self.proven else 1
            case Misconfigured():
                cause, enough = Reason.MISCONFIGURED, ALIKE
            case Unavailable():
                cause, enough = Reason.OUTAGE, OUTAGES
        if cause is not self._cause:
            self._cause, self._met = cause, set()
        self._met.add(who)
        if self.paused or len(self._met) < enough:
            return None
        self.rest()
        return cause

    def rest(self) -> None:
        """From now on nothing is asked but probes, and afterwards one at a time until a good answer."""
        self.paused, self.proven, self._cause = True, False, None

    def release(self) -> None:
        """The pause was ended by somebody else: one at a time until a good answer."""
        self.paused = False
