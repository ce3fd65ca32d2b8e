"""Token exchange (RFC 8693) at the token endpoint: a workload's JWT for an access token, without a key or a secret."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from aiohttp import web

from daemon.runtime.access_web.answers import expires_in, json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.oauth_errors import TokenError, translated, unavailable
from daemon.serving.doorkeeper import Caller
from daemon.serving.ports import Clock
from daemon.serving.problems import Problem, not_found
from daemon.serving.reading import SOON, Reading, Served, Wanted
from daemon.serving.workloads import Workloads

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the name of a type
_UNSUPPORTED = ("resource", "actor_token", "actor_token_type")

Note = Callable[[Caller, str, str], None]


class TokenExchange:
    """`note` receives the caller, the token id and the result."""

    def __init__(
        self, workloads: Workloads, reading: Reading, clock: Clock, *, max_wait: timedelta, note: Note
    ) -> None:
        self._workloads = workloads
        self._reading = reading
        self._clock = clock
        self._max_wait = max_wait
        self._note = note

    async def answer(self, asked: Asked, provider: str | None, fields: Mapping[str, str]) -> web.Response:
        """Return the access token. `provider`: that of the path, or None if it isn't configured. Raises TokenError,
        StoreLost.
        """
        try:
            served = await self._served(asked, provider, fields)
        except Problem as problem:
            raise translated(problem, _no_target()) from None
        token = served.token
        body: dict[str, object] = {
            "access_token": served.access_token.reveal(),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": token.token_type or "Bearer",
        }
        if (left := expires_in(served, self._clock.now())) is not None:
            body["expires_in"] = left
        if token.scope is not None:
            body["scope"] = token.scope
        return json_answer(body, headers={"Pragma": "no-cache"})

    async def _served(self, asked: Asked, provider: str | None, fields: Mapping[str, str]) -> Served:
        jwt, name = _subject_token(asked, fields), fields.get("audience", "")
        callers = await self._workloads.admit(jwt, asked.address, asked.peer)
        if not name:
            raise TokenError("invalid_request", "audience is missing. Name the token: PROVIDER:ACCOUNT.")
        if provider is None or not name.startswith(f"{provider}:"):
            raise not_found()
        try:
            caller, served = await self._read(callers, name, fields.get("scope", ""))
        except Problem as problem:
            self._note(callers[0], name, problem.name)
            raise
        if served.away:
            raise unavailable(SOON)
        self._note(caller, name, "read")
        return served

    async def _read(self, callers: Sequence[Caller], name: str, scope: str) -> tuple[Caller, Served]:
        """Return the token, and the caller as the first rule admits it that allows the token. Raises Problem."""
        wanted = Wanted(scope=frozenset(scope.split()), wait=self._max_wait)
        refusal = not_found()
        for caller in callers:
            try:
                return caller, await self._reading.read(caller, name, wanted)
            except Problem as problem:
                if problem.name != refusal.name:
                    raise
        raise refusal


def _subject_token(asked: Asked, fields: Mapping[str, str]) -> str:
    """Return the JWT. Raises TokenError if the request is malformed."""
    if "Authorization" in asked.request.headers or "client_secret" in fields or "client_assertion" in fields:
        raise TokenError(
            "invalid_request", "Send no client credentials: the subject token says who the caller is."
        )
    for name in _UNSUPPORTED:
        if name in fields:
            raise TokenError("invalid_request", f"{name} is not supported.")
    if fields.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise TokenError("invalid_request", f"requested_token_type can only be {ACCESS_TOKEN}.")
    if fields.get("subject_token_type") != JWT:
        raise TokenError("invalid_request", f"subject_token_type must be {JWT}.")
    if not (jwt := fields.get("subject_token")):
        raise TokenError("invalid_request", "subject_token is missing.")
    return jwt


def _no_target() -> TokenError:
    """The answer for a token that is unknown, and for one that the workload may not have."""
    return TokenError("invalid_target", "The audience is not the id of a token that this workload may read.")
