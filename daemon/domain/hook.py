"""A hook: who hears of which events, what has come of an attempt, and when the next one is made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from daemon.domain.owner_event import OwnerEvent, OwnerEventType

FIRST, LAST = timedelta(seconds=5), timedelta(hours=1)  # between attempts
FAILING = 3  # failures in a row: then one delivery at a time finds out whether the receiver is back
# So often, and over so long, a receiver says that it is gone for good
GONE_TIMES, GONE_OVER = (
    3,
    timedelta(hours=1),
)


class Format(StrEnum):
    STANDARD = "standard"  # Standard Webhooks
    CLOUDEVENTS = "cloudevents"  # CloudEvents 1.0, structured JSON; the same signature


class Outcome(StrEnum):
    """What has come of a delivery."""

    DELIVERED = "delivered"  # a status of 200 to 299
    REFUSED = "refused"  # another status
    REDIRECTED = "redirected"  # 300 to 399: not followed
    THROTTLED = "throttled"  # 429, or 503 with Retry-After
    GONE = "gone"  # 410
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"  # no connection, or one that ended before the status
    UNTRUSTED = "untrusted"  # its certificate
    NOT_PERMITTED = "not_permitted"  # its address
    MALFORMED = "malformed"  # a stored document that is none of refreshd's; never sent
    DROPPED = "dropped"  # 30 days old; no longer sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The end of one request. `status`: None without a reply. `retry_after`: the wait that the reply asks for."""

    outcome: Outcome
    status: int | None = None
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A hook's name and its filters. `events`: globs over types; none: all types. `providers`: whose events; none: all
    events, those of no provider too.
    """

    name: str
    events: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()

    def takes(self, event: OwnerEvent) -> bool:
        """Return whether the hook receives `event`. A test event is sent to its hook directly, never by a filter. A hook
        that is disabled does not hear of that itself: `code` is its name.
        """
        if event.type is OwnerEventType.HOOK_TEST:
            return False
        if event.type is OwnerEventType.HOOK_DISABLED and event.code == self.name:
            return False
        if self.events and not any(fnmatchcase(event.type.value, glob) for glob in self.events):
            return False
        return not self.providers or event.provider in self.providers


def matched_types(glob: str) -> Sequence[OwnerEventType]:
    """Return the types that `glob` covers."""
    return [one for one in OwnerEventType if fnmatchcase(one.value, glob)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a receiver is, for all replicas. `failures`: in a row; those of requests that were on their way together count
    as one. `failed_at`: the last that counted. `rests_until`: no attempt before. `gone_since`: the first 410 in a row.
    `configuration`: that with which it was disabled; another one enables it again.
    """

    failures: int = 0
    failed_at: datetime | None = None
    rests_until: datetime | None = None
    gone: int = 0
    gone_since: datetime | None = None
    disabled_at: datetime | None = None
    configuration: str | None = None

    @property
    def at_once(self) -> bool:
        """Return whether several deliveries may be sent at the same time."""
        return self.failures < FAILING

    def disabled_for(self, configuration: str) -> bool:
        return self.disabled_at is not None and self.configuration == configuration

    def rest(self, now: datetime) -> timedelta:
        """Return how long no attempt is made."""
        return max((self.rests_until or now) - now, timedelta(0))

    def after(
        self, attempt: Attempt, *, sent_at: datetime, now: datetime, chance: float, configuration: str
    ) -> "Health":
        """Return the health after an attempt. `chance`: uniform in 0 to 1.

        A single failure does not hold up the others: the receiver may refuse just this event. A wait that the receiver
        asks for holds up all.
        """
        if attempt.outcome is Outcome.DELIVERED:
            return Health()
        again = self.failed_at is None or sent_at >= self.failed_at
        failures = self.failures + 1 if again else self.failures
        rest = attempt.retry_after or timedelta(0)
        if failures >= FAILING or attempt.outcome in (Outcome.THROTTLED, Outcome.GONE):
            rest = max(rest, pause_after(failures, chance=chance))
        failed = replace(
            self,
            failures=failures,
            failed_at=now if again else self.failed_at,
            rests_until=max(now + rest, self.rests_until or now),
            disabled_at=None if again else self.disabled_at,
            configuration=None if again else self.configuration,
        )
        if not again:
            return failed
        if attempt.outcome is not Outcome.GONE:
            return replace(failed, gone=0, gone_since=None)
        return _gone(failed, now, configuration)


def pause_after(failures: int, *, chance: float, retry_after: timedelta | None = None) -> timedelta:
    """Return the wait before the next attempt: 5 s to 1 h, doubled each time, of which a random half is left out. A longer
    wait that the receiver asks for is kept. `failures`: at least 1.
    """
    longest = min(LAST, FIRST * (1 << min(failures - 1, 16)))
    pause = max(FIRST, longest * (0.5 + chance / 2))
    return max(pause, retry_after or timedelta(0))


def _gone(health: Health, now: datetime, configuration: str) -> Health:
    since = health.gone_since or now
    gone = replace(health, gone=health.gone + 1, gone_since=since)
    if gone.gone < GONE_TIMES or now - since < GONE_OVER:
        return gone
    return replace(gone, disabled_at=now, configuration=configuration)
