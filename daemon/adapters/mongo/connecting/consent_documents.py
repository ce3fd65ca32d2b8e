"""A stored consent request as a document, without I/O.

Other processes write these documents too, so no type is assumed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from daemon.adapters.mongo.connecting.device_codes import interval_of, is_repeatable, kind_of
from daemon.adapters.mongo.token_document import Document
from daemon.domain.consent_request import (
    ConsentFailure,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    ConsentState,
    Waiting,
    is_identified,
)
from daemon.domain.secret import Secret
from daemon.domain.subject import fault_of_subject
from daemon.domain.token import token_id

EXPIRED = ConsentFailure(kind=ConsentFailureKind.EXPIRED, message="no daemon took the code in time")
NOT_GIVEN = ConsentFailure(
    kind=ConsentFailureKind.EXPIRED, message="the owner has not consented in time: begin again"
)
LARGEST = 1 << 20  # bytes of one document: a held grant is as large as a provider's reply may be
CODES = ("code", "code_verifier")
NO_GRANT = dict.fromkeys(("grant", "grant_due_at", "lease", "proof"))
# Writer keys seal these fields only. A proof and a code have other members, so one is never taken for the other.
PROOF_SEALED_AS = "code"
PROGRESS = (
    *("state", "failure", "result", "code", "asked_at"),
    *("expires_at", "held_until", "key", "return_url", "provider_account"),
)
LONGEST_ID = 200  # characters
_LONGEST_MESSAGE = 300
# What other processes write is bounded before it is fetched.
SMALL = {"$expr": {"$lte": [{"$bsonSize": "$$ROOT"}, LARGEST]}}


def ended(state: ConsentState, now: datetime) -> dict[str, object]:
    """Return the fields of a request that has ended. It needs its code and its grant no longer."""
    return {"state": state.value, **dict.fromkeys(CODES), **NO_GRANT, "ended_at": now}


def failure_fields(failure: ConsentFailure, now: datetime) -> dict[str, object]:
    return {
        "kind": failure.kind.value,
        "code": failure.named,
        "message": failure.message[:_LONGEST_MESSAGE],
        "at": now,
    }


class Wrong(ValueError):
    """A field has a value that no writer of this version gives it. The text contains no value."""


def request_of(document: Document, code: Secret | None, verifier: Secret | None) -> ConsentRequest:
    """Return the request in `document`. Raises Wrong."""
    subject = _text_or_none(document, "subject")
    if subject is not None and fault_of_subject(subject):
        raise Wrong("subject is not valid")
    scopes = document.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        raise Wrong("scopes is not a list of texts")
    expires_at = document.get("expires_at")
    if not isinstance(expires_at, datetime):
        raise Wrong("expires_at is not a date")
    request = ConsentRequest(
        id=str(document["_id"]),
        provider=_text(document, "provider"),
        account=_text(document, "account"),
        code=code,
        code_verifier=verifier,
        nonce=_text_or_none(document, "nonce"),
        issuer=_text_or_none(document, "issuer"),
        redirect_uri=_text(document, "redirect_uri"),
        scopes=tuple(scopes),
        vars=_texts(document, "vars"),
        subject=subject,
        meta=_texts(document, "meta"),
        replace=document.get("replace") is True,
        code_challenge=_text_or_none(document, "code_challenge"),
        key=_text_or_none(document, "key"),
        return_url=_text_or_none(document, "return_url"),
        kind=kind_of(document),
        interval=interval_of(document),
        expires_at=expires_at,
    )
    try:
        token_id(request.provider, request.account)
    except ValueError:
        raise Wrong("provider or account is not valid") from None
    if not is_identified(request):
        raise Wrong("its fields do not belong to its id: they were changed after it was stored")
    return request


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or "\ufffd" in value:
        raise Wrong(f"{name} is not a text")
    return value


def _text_or_none(document: Document, name: str) -> str | None:
    return None if document.get(name) is None else _text(document, name)


def _texts(document: Document, name: str) -> Mapping[str, str]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Wrong(f"{name} is not an object")
    return {key: _text(value, key) for key in value}


def named(documents: Sequence[Document], *, owner: str | None = None) -> Sequence[Waiting]:
    """Return the requests. `owner`: the instance that may repeat its own polls."""
    return [
        Waiting(
            id=str(one["_id"]),
            provider=str(one.get("provider")),
            repeatable=owner is not None and is_repeatable(one, owner),
        )
        for one in documents
        if len(str(one["_id"])) <= LONGEST_ID
    ]


def progress_of(document: Document, now: datetime) -> ConsentProgress | None:
    """Return the state of a request. An unknown state counts as gone."""
    try:
        state = ConsentState(str(document.get("state")))
    except ValueError:
        return None
    failure, ends = _failure_of(document.get("failure")), document.get("expires_at")
    if state is ConsentState.WAITING and not document.get("code") and _is_past(ends, now):
        state, failure = ConsentState.FAILED, NOT_GIVEN  # no daemon ends a request that has no code
    key, return_url, account = (document.get(name) for name in ("key", "return_url", "provider_account"))
    return ConsentProgress(
        state=state,
        asked_before=state is not ConsentState.WAITING or isinstance(document.get("asked_at"), datetime),
        failure=failure,
        result=_result_of(document.get("result")),
        held=state is ConsentState.ASKED and isinstance(document.get("held_until"), datetime),
        key=key if isinstance(key, str) else None,
        return_url=return_url if isinstance(return_url, str) else None,
        account=account if isinstance(account, str) else None,
    )


def _is_past(at: object, now: datetime) -> bool:
    return isinstance(at, datetime) and at <= now


def _failure_of(stored: object) -> ConsentFailure | None:
    if not isinstance(stored, Mapping):
        return None
    kind, code, message = (str(stored.get(name) or "") for name in ("kind", "code", "message"))
    known = kind in frozenset(ConsentFailureKind)
    return ConsentFailure(
        kind=ConsentFailureKind(kind) if known else ConsentFailureKind.UNREADABLE,
        code=code[:_LONGEST_MESSAGE],
        message=message[:_LONGEST_MESSAGE],
    )


def _result_of(stored: object) -> ConsentResult | None:
    if not isinstance(stored, Mapping):
        return None
    scope, missing, expires_at = (stored.get(name) for name in ("scope", "missing_scopes", "expires_at"))
    return ConsentResult(
        scope=scope if isinstance(scope, str) else None,
        missing_scopes=tuple(one for one in missing if isinstance(one, str))
        if isinstance(missing, list)
        else (),
        expires_at=expires_at if isinstance(expires_at, datetime) else None,
    )
