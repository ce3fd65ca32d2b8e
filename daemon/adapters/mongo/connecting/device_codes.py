"""The fields of a consent request with a device code, which is polled for (RFC 8628 §3.4).

Other processes write them too, so no type is assumed.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from daemon.adapters.mongo.token_document import Document
from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind, ConsentKind, ConsentState
from daemon.domain.device_flow import LONGEST_INTERVAL

UNANSWERED = ConsentFailure(kind=ConsentFailureKind.EXPIRED, message="the owner gave no answer in time")
# Requests of owners who have not answered, in contrast to those that no daemon has asked for.
POLLED: Mapping[str, object] = {"kind": ConsentKind.DEVICE.value, "asked_at": {"$type": "date"}}


def polled_before(now: datetime) -> dict[str, object]:
    """Return the condition for requests whose interval is over. Authorization codes have none."""
    return {"poll_at": {"$not": {"$gt": now}}}


def waiting_again(interval: timedelta, now: datetime) -> dict[str, object]:
    """Return the fields of a request that waits for its next poll."""
    return {
        "state": ConsentState.WAITING.value,
        "lease": None,
        "interval": interval.total_seconds(),
        "poll_at": now + interval,
    }


def kind_of(document: Document) -> ConsentKind:
    """Return the kind of a request. The id contains it, so another value than the first one is found out."""
    return ConsentKind.DEVICE if document.get("kind") == ConsentKind.DEVICE.value else ConsentKind.CODE


def interval_of(document: Document) -> timedelta:
    """Return the time between two polls, within bounds whatever is stored."""
    stored = document.get("interval")
    if isinstance(stored, bool) or not isinstance(stored, int | float) or not math.isfinite(stored):
        return timedelta(0)
    return timedelta(seconds=min(max(stored, 0), LONGEST_INTERVAL.total_seconds()))


def is_repeatable(document: Document, owner: str) -> bool:
    """Return whether `owner` may poll again: it is its own poll, and its journal has no reply."""
    lease = document.get("lease")
    own = isinstance(lease, Mapping) and lease.get("owner") == owner
    return own and kind_of(document) is ConsentKind.DEVICE
