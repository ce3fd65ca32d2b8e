"""What a change of a token writes into its document."""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.token_document import as_stored
from daemon.domain.change import (
    Change,
    Postponed,
    Renewed,
    Retired,
    RevocationPostponed,
    Revoked,
    Scheduled,
    Withheld,
)
from daemon.domain.token import Doubt, Failure, State, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The fields that a change sets, and the sealed texts that identify it when it is read again."""

    fields: dict[str, object]
    access_token: str | None = None
    refresh_token: str | None = None


def failure_document(failure: Failure) -> dict[str, object]:
    """Return `failure` as it is stored."""
    document: dict[str, object] = {
        "kind": failure.kind.value,
        "code": failure.code,
        "message": failure.message,
        "at": as_stored(failure.at),
    }
    if failure.not_before is not None:
        document["not_before"] = as_stored(failure.not_before)
    return document


def written(token: Token, change: Change, keyring: KeyRing, *, now: datetime) -> Written:
    """Return the fields that `change` sets on `token`'s document, secrets sealed. Only token fields."""
    now = as_stored(now)
    match change:
        case Renewed():
            return _renewed(token, change, keyring, now=now)
        case Withheld(failure=failure, renewed=renewed):
            part = _renewed(token, renewed, keyring, now=now) if renewed else Written(fields={"lease": None})
            withheld = {"last_failure": failure_document(failure), "due_at": None, "updated_at": now}
            return Written(fields={**part.fields, **withheld}, access_token=part.access_token)
        case Postponed():
            return Written(
                fields={
                    "due_at": change.due_at,
                    "failures": change.failures,
                    "last_failure": failure_document(change.failure),
                    "updated_at": now,
                    **_kept_in_doubt(change.doubt),
                }
            )
        case Retired():
            return Written(
                fields={
                    "state": State.NEEDS_REAUTH.value,
                    "due_at": None,
                    "failures": change.failures,
                    "last_failure": failure_document(change.failure),
                    "updated_at": now,
                    "doubt": None,
                    "lease": None,
                }
            )
        case Revoked():
            return Written(fields=_tombstone(token, change, keyring, now=now))
        case RevocationPostponed():
            return Written(
                fields={
                    "due_at": change.due_at,
                    "revocation.tries": change.tries,
                    "last_failure": failure_document(change.failure),
                    "updated_at": now,
                    "doubt": None,
                    "lease": None,
                }
            )
        case Scheduled():
            fields = {"due_at": change.due_at, "updated_at": now, "lease": None}
            return Written(fields=_first_sight(token, keyring, now=now) | fields)
        case _:
            assert_never(change)


def _tombstone(token: Token, change: Revoked, keyring: KeyRing, *, now: datetime) -> dict[str, object]:
    """Return the whole document that remains of a revoked token, but for its revision. It contains no secret, and nothing
    of its owner. The fingerprints show a copy of the grant that comes back.
    """
    secret = token.refresh_token
    return {
        "provider": token.provider,
        "account": token.account,
        "state": State.REVOKED.value,
        "revoked_at": as_stored(change.revoked_at),
        "forget_at": as_stored(change.forget_at),
        "fingerprints": [] if secret is None else [keyring.fingerprint(secret.reveal())],
        "updated_at": now,
    }


def _kept_in_doubt(doubt: Doubt | None) -> dict[str, object]:
    """Keep the lease with its owner while in doubt, with no request running under it (`claim` null)."""
    if doubt is None:
        return {"lease": None}
    return {"lease.claim": None, "doubt": {"since": doubt.since, "tries": doubt.tries, "asker": doubt.asker}}


def _renewed(token: Token, change: Renewed, keyring: KeyRing, *, now: datetime) -> Written:
    granted = change.granted
    access = keyring.seal(granted.access_token.reveal(), token_id=token.id, field="access_token")
    fields: dict[str, object] = {
        **_first_sight(token, keyring, now=now),
        "access_token": access,
        "issued_at": change.issued_at,
        "expires_at": granted.expires_at,
        "refresh_expires_at": change.refresh_expires_at,
        "consent_ends_at": change.consent_ends_at,
        "due_at": change.due_at,
        "refreshed_at": change.refreshed_at,
        "updated_at": now,
        "failures": 0,
        "last_failure": None,
        "doubt": None,
        "lease": None,
    }
    successor = None
    if change.successor is not None:
        successor = keyring.seal(change.successor.reveal(), token_id=token.id, field="refresh_token")
        fields["refresh_token"] = successor
        fields["grant_fingerprint"] = keyring.fingerprint(change.successor.reveal())
    if granted.token_type is not None:
        fields["token_type"] = granted.token_type
    if granted.scope is not None:
        fields["scope"] = granted.scope
    for name, value in granted.extra.items():
        fields[f"extra.{name}"] = value
    return Written(fields=fields, access_token=access, refresh_token=successor)


def _first_sight(token: Token, keyring: KeyRing, *, now: datetime) -> dict[str, object]:
    """Return the fields that an application may leave out when it inserts a document."""
    if token.revision is not None:
        return {}
    fields: dict[str, object] = {"created_at": now, "grant": token.grant, "failures": token.failures}
    if token.refresh_token is not None:
        fields["grant_fingerprint"] = keyring.fingerprint(token.refresh_token.reveal())
    return fields
