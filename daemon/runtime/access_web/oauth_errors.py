"""The errors of the token endpoint, in the words of RFC 6749 §5.2."""

from datetime import timedelta
from http import HTTPStatus

from aiohttp import web

from daemon.runtime.access_web.answers import json_answer, seconds
from daemon.serving.problems import Problem
from daemon.serving.reading import SOON

_BASIC = 'Basic realm="refreshd"'
_NO_TOKEN = ("needs-reauth", "not-found", "unknown-provider")  # one answer: forbidden looks like unknown
_LATER = ("paused", "revoking", "renewing", "unavailable", "refused-again")


class TokenError(Exception):
    """An error of RFC 6749 §5.2."""

    def __init__(
        self, code: str, description: str, *, status: int = 400, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(description)
        self.code, self.description, self.status, self.retry_after = code, description, status, retry_after


def error_answer(error: TokenError) -> web.Response:
    headers = {"Pragma": "no-cache"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(seconds(error.retry_after))
    if error.status == HTTPStatus.UNAUTHORIZED:  # wherever the credentials were: RFC 9110 section 15.5.2
        headers["WWW-Authenticate"] = _BASIC
    body = {"error": error.code, "error_description": error.description}
    return json_answer(body, status=error.status, headers=headers)


def translated(problem: Problem, no_token: TokenError) -> TokenError:
    """Return a refusal of the service in the words of RFC 6749. `no_token`: for every token that can't be had."""
    if problem.name in _NO_TOKEN:
        return no_token
    if problem.name in _LATER:
        return unavailable(problem.retry_after)
    match problem.name:
        case "unauthorized":
            return TokenError(
                "invalid_client",
                "Send an access key's id as client_id and the whole key as client_secret.",
                status=401,
            )
        case "rate-limited":
            return TokenError(
                "temporarily_unavailable", problem.detail, status=429, retry_after=problem.retry_after
            )
        case "scope-missing":
            return TokenError("invalid_scope", problem.detail)
        case "internal":
            return TokenError("server_error", problem.detail, status=500)
        case _:
            return TokenError(
                "invalid_request", problem.detail, status=413 if problem.name == "too-large" else 400
            )


def unavailable(retry_after: timedelta | None) -> TokenError:
    return TokenError(
        "temporarily_unavailable",
        "The access token is not available now. Try again later.",
        status=503,
        retry_after=retry_after or SOON,
    )
