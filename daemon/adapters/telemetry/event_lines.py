"""The line of each event: which of `log_lines.py`, and its fields."""

from collections.abc import Callable, Mapping
from datetime import timedelta

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.log_lines import LogLine
from daemon.adapters.telemetry.redaction import rfc3339
from daemon.adapters.telemetry.subscriptions import on
from daemon.domain.event import (
    AnomalyDetected,
    ConsentFailed,
    Event,
    HookBack,
    HookCounted,
    HookDisabled,
    InFlight,
    InternalError,
    JournalReplayed,
    LaneFailed,
    LateReplyRevoked,
    MirrorBack,
    MirrorFailed,
    MirrorRefused,
    OwnerEventsLost,
    ProviderAnswered,
    ProviderDrifted,
    ProviderPaused,
    ProviderResumed,
    ProviderThrottled,
    SweepFailed,
    SweepFinished,
    TokenConnected,
    TokenEnding,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenScheduled,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.hook import Outcome
from daemon.domain.secret import masked
from daemon.domain.store_event import StoreBack, StoreLost

Fields = dict[str, object]
Said = tuple[LogLine, Fields]

_MILLISECOND = timedelta(milliseconds=1)
_TOKEN_LIMIT = 1_000  # an `_id` that another writer made can be of any length
# The metrics count these, and the line of the token shows the rest.
SILENT: frozenset[type] = frozenset({InFlight, ProviderAnswered, ProviderThrottled, TokenScheduled})


def described(event: Event) -> Said | None:
    """Return the line of an event and its fields. None: it has none."""
    describe = LINES.get(type(event))
    return None if describe is None else describe(event)


def _renewed(event: TokenRenewed) -> dict[str, object]:
    return {
        "token": event.token,
        "provider": event.provider,
        "revision": event.revision,
        "duration_ms": None if event.duration is None else round(event.duration / _MILLISECOND, 1),
        "lead_s": None if event.lead is None else round(event.lead.total_seconds(), 1),
        "expires_at": None if event.expires_at is None else rfc3339(event.expires_at),
        "rotated": event.rotated,
    }


def _failed(
    event: TokenPostponed
    | TokenNeedsReauth
    | TokenUnparsed
    | TokenStuck
    | TokenInDoubt
    | TokenRevocationPostponed
    | TokenRevocationFailed,
    *,
    with_kind: bool = False,
    **more: object,
) -> dict[str, object]:
    """Return the fields of a failed refresh. Some events are of one kind only, and their lines leave it out."""
    failure = event.failure
    kind = {"kind": failure.kind.value} if with_kind else {}
    return _about(event, **kind, code=failure.code, message=failure.message, **more)


def _about(
    event: TokenPostponed
    | TokenNeedsReauth
    | TokenSuperseded
    | TokenUnparsed
    | TokenStuck
    | TokenInDoubt
    | TokenHeld
    | TokenEnding
    | TokenRevoked
    | TokenRevocationPostponed
    | TokenRevocationFailed
    | LateReplyRevoked,
    **more: object,
) -> dict[str, object]:
    return {"token": event.token, "provider": event.provider, **more}


def _bug(event: InternalError) -> dict[str, object]:
    """Return the fields of a bug, with its traceback, and with the token and the provider if it concerns
    one.
    """
    concerned = {"token": event.token, "provider": event.provider}
    return {
        "where": event.where,
        **{name: value for name, value in concerned.items() if value is not None},
        "error": event.error,
        "exc_info": event.error,
    }


def _not_connected(event: ConsentFailed) -> dict[str, object]:
    return {
        "token": event.token,
        "provider": event.provider,
        "consent": event.consent,
        "kind": event.kind,
        "code": event.code,
        "message": event.message,
    }


def _anomaly(event: AnomalyDetected) -> dict[str, object]:
    more = {"name": event.name, "token": event.token}
    return {
        "kind": event.kind.value,
        "key": event.key[:_TOKEN_LIMIT],
        **{name: text for name, text in more.items() if text is not None},
        "count": event.count,
        "message": event.message,
    }


def _unreadable(event: TokenUnreadable) -> dict[str, object]:
    """Return the fields of an unreadable document. Another writer stored both names: the id may have any
    length, and the provider may not be a valid name.
    """
    return {
        "token": event.token[:_TOKEN_LIMIT],
        "provider": masked(event.provider),
        "kind": event.kind.value,
        "code": event.code,
        "message": event.message,
    }


def _swept(event: SweepFinished) -> dict[str, object]:
    return {
        "claimed": event.claimed,
        "renewed": event.renewed,
        "postponed": event.postponed,
        "rejected": event.rejected,
        "scheduled": event.scheduled,
        "in_doubt": event.in_doubt,
        "duration_ms": round(event.duration / _MILLISECOND, 1),
    }


def _postponed(event: TokenPostponed) -> Said:
    due_at = rfc3339(event.due_at)
    fields = _failed(event, with_kind=True, due_at=due_at, failures=event.failures)
    return log_lines.TOKEN_POSTPONED, fields


def _stuck(event: TokenStuck) -> Said:
    due_at = rfc3339(event.due_at)
    return log_lines.TOKEN_STUCK, _failed(event, failures=event.failures, due_at=due_at)


def _in_doubt(event: TokenInDoubt) -> Said:
    due_at = rfc3339(event.due_at)
    return log_lines.TOKEN_IN_DOUBT, _failed(event, tries=event.tries, due_at=due_at)


def _not_revoked(event: TokenRevocationPostponed | TokenRevocationFailed) -> Said:
    failed = isinstance(event, TokenRevocationFailed)
    line = log_lines.TOKEN_REVOCATION_FAILED if failed else log_lines.TOKEN_REVOCATION_POSTPONED
    return line, _failed(event, tries=event.tries, due_at=rfc3339(event.due_at))


def _provider_paused(event: ProviderPaused) -> Said:
    probe = event.next_probe_at and rfc3339(event.next_probe_at)
    pause: Fields = {"provider": event.provider, "reason": event.reason, "next_probe_at": probe}
    return log_lines.PROVIDER_PAUSED, pause


def _drifted(event: ProviderDrifted) -> Said:
    drift = {"provider": event.provider, "kind": event.kind.value, "message": event.message}
    return log_lines.PROVIDER_DRIFTED, {**drift, "change": event.change}


def _sweep_finished(event: SweepFinished) -> Said:
    swept = _swept(event)
    idle = not any(count for name, count in swept.items() if name != "duration_ms")
    return log_lines.SWEEP_IDLE if idle else log_lines.SWEEP_FINISHED, swept


def _lane_failed(event: LaneFailed) -> Said:
    if not event.failures:
        return log_lines.LANE_BACK, {"provider": event.provider}
    lane: Fields = {"provider": event.provider, "message": event.message, "failures": event.failures}
    return log_lines.LANE_FAILED, lane


def _connected(event: TokenConnected) -> Said:
    consent = {"consent": event.consent, "missing_scopes": list(event.missing_scopes)}
    return log_lines.TOKEN_CONNECTED, {"token": event.token, "provider": event.provider, **consent}


def _mirror_refused(event: MirrorRefused) -> Said:
    row: Fields = {"mirror": event.mirror, "token": event.token, "message": event.message}
    return log_lines.MIRROR_REFUSED, row


def _hook_counted(event: HookCounted) -> Said | None:
    """Of failures in a row, only the first one has a line."""
    count: Fields = {"hook": event.hook, "count": event.count}
    match event.outcome:
        case Outcome.DELIVERED:
            return log_lines.HOOK_DELIVERED, {"hook": event.hook, "status": event.status}
        case Outcome.DROPPED:
            return log_lines.HOOK_DROPPED, count
        case Outcome.MALFORMED:
            return log_lines.HOOK_MALFORMED, count
        case _ if event.failures > 1:
            return None
        case _:
            outcome = {"outcome": event.outcome.value, "status": event.status}
            return log_lines.HOOK_FAILED, {"hook": event.hook, **outcome}


def _events_lost(event: OwnerEventsLost) -> Said:
    lost = {"malformed": event.malformed, "pushed_out": event.pushed_out}
    return log_lines.EVENTS_LOST, {"token": event.token, **lost}


def _anomaly_detected(event: AnomalyDetected) -> Said | None:
    return None if event.repeated else (log_lines.ANOMALY_DETECTED, _anomaly(event))


LINES: Mapping[type, Callable[..., Said | None]] = dict(
    (
        on(TokenRenewed, lambda e: (log_lines.TOKEN_RENEWED, _renewed(e))),
        on(TokenPostponed, _postponed),
        on(
            TokenNeedsReauth,
            lambda e: (log_lines.TOKEN_NEEDS_REAUTH, _failed(e, with_kind=True, failures=e.failures)),
        ),
        on(TokenSuperseded, lambda e: (log_lines.TOKEN_SUPERSEDED, _about(e, successor=e.successor))),
        on(TokenUnparsed, lambda e: (log_lines.TOKEN_UNPARSED, _failed(e))),
        on(TokenStuck, _stuck),
        on(TokenUnreadable, lambda e: (log_lines.TOKEN_UNREADABLE, _unreadable(e))),
        on(TokenInDoubt, _in_doubt),
        on(TokenEnding, lambda e: (log_lines.TOKEN_ENDING, _about(e, ends_at=rfc3339(e.ends_at)))),
        on(
            TokenRevoked,
            lambda e: (log_lines.TOKEN_REVOKED, _about(e, revision=e.revision, tries=e.tries)),
        ),
        on(TokenRevocationPostponed, _not_revoked),
        on(TokenRevocationFailed, _not_revoked),
        on(LateReplyRevoked, lambda e: (log_lines.TOKEN_LATE_REPLY_REVOKED, _about(e))),
        on(TokenHeld, lambda e: (log_lines.TOKEN_HELD, _about(e, owner=e.owner, hold=rfc3339(e.hold)))),
        on(ProviderPaused, _provider_paused),
        on(ProviderResumed, lambda e: (log_lines.PROVIDER_RESUMED, {"provider": e.provider})),
        on(ProviderDrifted, _drifted),
        on(SweepFinished, _sweep_finished),
        on(SweepFailed, lambda e: (log_lines.SWEEP_FAILED, {"message": e.message})),
        on(LaneFailed, _lane_failed),
        on(InternalError, lambda e: (log_lines.INTERNAL_ERROR, _bug(e))),
        on(JournalReplayed, lambda e: (log_lines.JOURNAL_REPLAYED, {"token": e.token, "result": e.result})),
        on(TokenConnected, _connected),
        on(ConsentFailed, lambda e: (log_lines.CONNECT_FAILED, _not_connected(e))),
        on(MirrorFailed, lambda e: (log_lines.MIRROR_FAILED, {"mirror": e.mirror, "message": e.message})),
        on(MirrorBack, lambda e: (log_lines.MIRROR_BACK, {"mirror": e.mirror})),
        on(MirrorRefused, _mirror_refused),
        on(HookCounted, _hook_counted),
        on(HookBack, lambda e: (log_lines.HOOK_BACK, {"hook": e.hook, "failures": e.failures})),
        on(HookDisabled, lambda e: (log_lines.HOOK_DISABLED, {"hook": e.hook})),
        on(OwnerEventsLost, _events_lost),
        on(AnomalyDetected, _anomaly_detected),
        on(StoreLost, lambda e: (log_lines.STORE_LOST, {"message": e.message})),
        on(StoreBack, lambda _: (log_lines.STORE_BACK, {})),
    )
)
