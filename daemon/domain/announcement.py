"""Events for owners and operators whose ids say what happened, so that every replica makes the same."""

from datetime import UTC, datetime

from daemon.domain.anomaly import OF_DAEMON
from daemon.domain.event import AnomalyDetected, TokenEnding
from daemon.domain.owner_event import OwnerEvent, OwnerEventType
from daemon.domain.transition import LONGEST_CODE, WHO_ACTS


def of_end(event: TokenEnding, *, at: datetime) -> OwnerEvent:
    """Return the event that a grant ends, whatever is renewed. `at`: when it was noticed."""
    return OwnerEvent(
        id=f"token.ending:{event.token}:{_text(event.ends_at)}",
        type=OwnerEventType.ENDING,
        at=at,
        who_acts=WHO_ACTS[OwnerEventType.ENDING],
        provider=event.provider,
        token=event.token,
        account=event.token.partition(":")[2],
        code=_text(event.ends_at),
    )


def of_pause(provider: str, *, since: datetime, reason: str) -> OwnerEvent:
    """Return the event that `provider` gets no requests."""
    kind = OwnerEventType.PROVIDER_PAUSED
    return OwnerEvent(
        id=f"provider.paused:{provider}:{_text(since)}",
        type=kind,
        at=since,
        who_acts=WHO_ACTS[kind],
        provider=provider,
        kind=reason[:LONGEST_CODE],
    )


def of_resumption(provider: str, *, since: datetime, at: datetime) -> OwnerEvent:
    """Return the event that the pause of `provider` which began at `since` is over."""
    kind = OwnerEventType.PROVIDER_RESUMED
    return OwnerEvent(
        id=f"provider.resumed:{provider}:{_text(since)}",
        type=kind,
        at=at,
        who_acts=WHO_ACTS[kind],
        provider=provider,
    )


def of_anomaly(event: AnomalyDetected) -> OwnerEvent:
    """Return the event for an anomaly. Its code is the key that it concerns: of an access key, the id; an address; a token."""
    token = event.key if event.kind in OF_DAEMON else event.token
    return OwnerEvent(
        id=event.id,
        type=OwnerEventType.ANOMALY,
        at=event.at,
        who_acts=WHO_ACTS[OwnerEventType.ANOMALY],
        provider=None if token is None else token.partition(":")[0],
        token=token,
        account=None if token is None else token.partition(":")[2],
        kind=event.kind.value,
        code=event.key[:LONGEST_CODE],
    )


def _text(at: datetime) -> str:
    """Return `at` to the second: what is stored has milliseconds, and what was not stored yet has more."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
