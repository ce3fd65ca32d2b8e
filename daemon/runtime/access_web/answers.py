"""The answers of the access service: JSON, and problem documents (RFC 9457)."""

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus

from aiohttp import web

from daemon.adapters.telemetry.redaction import rfc3339
from daemon.domain.access_key import META
from daemon.domain.served_token import ServedToken
from daemon.runtime.web.challenge import bearer_challenge
from daemon.serving.problems import Problem, Unauthorized
from daemon.serving.reading import Served

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FROM_MEMORY = {"Refreshd-Served-From": "memory"}


def json_answer(
    body: object,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return `body` as JSON in ASCII. Instants are in RFC 3339."""
    try:
        text = json.dumps(body, default=instant, allow_nan=False)
    except ValueError:  # a document of another program may hold such a number, and JSON can't
        text = json.dumps(_finite(body), default=instant)
    return web.Response(status=status, body=f"{text}\n".encode(), headers=headers, content_type=content_type)


def problem_answer(problem: Problem) -> web.Response:
    """Return the problem document."""
    status, headers = problem.status, {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(seconds(problem.retry_after))
    if status == HTTPStatus.UNAUTHORIZED:
        presented = isinstance(problem, Unauthorized) and problem.presented
        headers["WWW-Authenticate"] = bearer_challenge(presented=presented)
    if problem.allow:
        headers["Allow"] = ", ".join(problem.allow)
    body = {
        "type": f"urn:refreshd:problem:{problem.name}",
        "title": problem.name.replace("-", " ").capitalize(),
        "status": status,
        "detail": problem.detail,
        **problem.fields,
    }
    return json_answer(body, status=status, content_type="application/problem+json", headers=headers)


def token_answer(served: Served, now: datetime) -> web.Response:
    """Return a token as `GET /v1/tokens/...` answers."""
    token = served.token
    body = {
        "id": token.id,
        "provider": token.provider,
        "account": token.account,
        "access_token": served.access_token.reveal(),
        "token_type": token.token_type or "Bearer",
        "expires_at": token.expires_at,
        "expires_in": expires_in(served, now),
        "scope": token.scope,
        "missing_scopes": list(token.missing_scopes),
        "version": token.version,
        "revision": token.revision,
        "extra": token.extra,
        "subject": token.subject,
    }
    return json_answer(body, headers=token_headers(served))


def token_headers(served: Served) -> Mapping[str, str]:
    """Return the headers of an answer with a token, and of one that confirms the caller's copy (304)."""
    return {"ETag": f'"{served.token.version}"'} | (FROM_MEMORY if served.away else {})


def item_of(token: ServedToken) -> dict[str, object]:
    """Return what lists and writes answer of a token: no secret. `meta` holds its texts."""
    failure = token.last_failure
    meta = {name.removeprefix(META): text for name, text in token.selected.items() if name.startswith(META)}
    return {
        "id": token.id,
        "provider": token.provider,
        "account": token.account,
        "state": token.state,
        "token_type": token.token_type,
        "scope": token.scope,
        "missing_scopes": list(token.missing_scopes),
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "due_at": token.due_at,
        "refreshed_at": token.refreshed_at,
        "failures": token.failures,
        "last_failure": failure and {"kind": failure.kind.value, "code": failure.code, "at": failure.at},
        "revision": token.revision,
        "subject": token.subject,
        "meta": meta,
    }


def expires_in(served: Served, now: datetime) -> int | None:
    """Return the whole seconds that the access token still lives. None: it has no end."""
    ends = served.token.expires_at
    return None if ends is None else max(math.floor((ends - now).total_seconds()), 0)


def seconds(span: timedelta) -> int:
    """Return a wait for `Retry-After`, at least one second."""
    return max(math.ceil(span.total_seconds()), 1)


def _finite(value: object) -> object:
    """Return `value` with the numbers that JSON can't hold as text."""
    match value:
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(name): _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value


def instant(value: object) -> str:
    """Return an instant in RFC 3339, and any other value as text."""
    return rfc3339(value) if isinstance(value, datetime) else str(value)
