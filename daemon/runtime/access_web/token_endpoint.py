"""The token endpoint for OAuth libraries (RFC 6749 §6): the refresh token is a handle, which never rotates."""

import binascii
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import timedelta

from aiohttp import web

from daemon.domain.access_key import Verb, parse_key
from daemon.domain.claim import StoreLost
from daemon.domain.handle import token_of
from daemon.runtime.access_web.answers import expires_in, json_answer, seconds
from daemon.runtime.access_web.asked import Asked, basic_credentials, form
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.ports import Clock
from daemon.serving.problems import Problem
from daemon.serving.reading import SOON, Reading, Served, Wanted

AGAIN_AFTER = timedelta(seconds=60)  # the same key asks for the same version: its provider refuses the token
MOST_REMEMBERED = 50_000
FORM = "application/x-www-form-urlencoded"
_BASIC = 'Basic realm="refreshd"'
_INVALID_GRANT = ("needs-reauth", "not-found", "unknown-provider")  # one answer: forbidden looks like unknown
_LATER = ("paused", "revoking", "renewing", "unavailable", "refused-again")

Note = Callable[[Caller, str, str], None]


class TokenError(Exception):
    """An error of RFC 6749 §5.2."""

    def __init__(
        self, code: str, description: str, *, status: int = 400, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(description)
        self.code, self.description, self.status, self.retry_after = code, description, status, retry_after


class TokenEndpoint:
    """`providers`: the names of configured providers. `note` receives the caller, the token id and the result,
    `refused` the name of each problem.
    """

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        reading: Reading,
        clock: Clock,
        *,
        max_wait: timedelta,
        providers: Callable[[], Collection[str]],
        note: Note,
        refused: Callable[[str], None] = lambda _problem: None,
    ) -> None:
        self._doorkeeper = doorkeeper
        self._reading = reading
        self._clock = clock
        self._max_wait = max_wait
        self._providers = providers
        self._note = note
        self._refused = refused
        self._served: OrderedDict[tuple[str, str], tuple[str | None, timedelta]] = OrderedDict()

    def knows(self, provider: str) -> bool:
        """Return whether a provider of this name is configured."""
        return provider in self._providers()

    async def answer(self, asked: Asked, provider: str) -> web.Response:
        """`POST /v1/oauth/{provider}/token`."""
        try:
            return await self._answer(asked, provider)
        except TokenError as error:
            return error_answer(error, basic="Authorization" in asked.request.headers)
        except Problem as problem:
            self._refused(problem.name)
            return error_answer(_translated(problem), basic="Authorization" in asked.request.headers)
        except StoreLost:
            return error_answer(_unavailable(SOON))

    async def _answer(self, asked: Asked, provider: str) -> web.Response:
        if asked.request.rel_url.raw_query_string:
            raise TokenError("invalid_request", "Send all parameters in the body, and none in the query.")
        if asked.content_type() != FORM:
            raise TokenError("invalid_request", f"Send the parameters as {FORM}.")
        fields = form(await asked.body())
        caller = await self._doorkeeper.admit(_access_key(asked, fields), asked.address, asked.peer)
        match fields.get("grant_type"):
            case "refresh_token":
                pass
            case None | "":
                raise TokenError("invalid_request", "grant_type is missing.")
            case _:
                raise TokenError("unsupported_grant_type", "Only grant_type=refresh_token is supported.")
        handle = fields.get("refresh_token")
        if not handle:
            raise TokenError("invalid_request", "refresh_token is missing.")
        name = token_of(handle)
        if not self.knows(provider) or name is None or not name.startswith(f"{provider}:"):
            raise _no_grant()
        try:
            served = await self._token(caller, name, fields.get("scope", ""))
        except Problem as problem:
            self._note(caller, name, problem.name)
            raise
        self._note(caller, name, "read")
        return self._granted(served, handle)

    async def _token(self, caller: Caller, name: str, scope: str) -> Served:
        if caller.away:
            raise _unavailable(SOON)
        served = await self._reading.read(
            caller, name, Wanted(scope=frozenset(scope.split()), wait=self._max_wait)
        )
        if served.away:
            raise _unavailable(SOON)
        if self._is_refused(caller, served):
            try:
                renewed = await self._reading.refused(
                    caller, name, served.token.version or "", self._max_wait
                )
            except Problem:
                return served  # it may not be renewed early, and may well work
            if isinstance(renewed, Served):
                served = renewed
        self._remember(caller, served)
        return served

    def _is_refused(self, caller: Caller, served: Served) -> bool:
        """Return whether the caller got this version before and asks again: then it does not work there."""
        version, at = self._served.get((caller.key.id, served.token.id), (None, timedelta(0)))
        again = version is not None and version == served.token.version
        return again and Verb.REFUSE in caller.key.can and self._clock.boot() - at >= AGAIN_AFTER

    def _remember(self, caller: Caller, served: Served) -> None:
        place = (caller.key.id, served.token.id)
        if (known := self._served.get(place)) is None or known[0] != served.token.version:
            self._served[place] = (served.token.version, self._clock.boot())
        self._served.move_to_end(place)
        if len(self._served) > MOST_REMEMBERED:
            self._served.popitem(last=False)

    def _granted(self, served: Served, handle: str) -> web.Response:
        token = served.token
        body: dict[str, object] = {
            "access_token": served.access_token.reveal(),
            "token_type": token.token_type or "Bearer",
            "refresh_token": handle,
        }
        if (left := expires_in(served, self._clock.now())) is not None:
            body["expires_in"] = left
        if token.scope is not None:
            body["scope"] = token.scope
        return json_answer(body, headers={"Pragma": "no-cache"})


def metadata(base: str, provider: str) -> dict[str, object]:
    """Return the authorization server metadata (RFC 8414) of one provider's token endpoint."""
    issuer = f"{base}/v1/oauth/{provider}"
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "response_types_supported": [],
        "grant_types_supported": ["refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


def error_answer(error: TokenError, *, basic: bool = False) -> web.Response:
    headers = {"Pragma": "no-cache"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(seconds(error.retry_after))
    if error.code == "invalid_client" and basic:
        headers["WWW-Authenticate"] = _BASIC
    body = {"error": error.code, "error_description": error.description}
    return json_answer(body, status=error.status, headers=headers)


def _access_key(asked: Asked, fields: dict[str, str]) -> str:
    """Return the access key, which is sent as the client's secret. Raises TokenError."""
    given = asked.request.headers.getall("Authorization", [])
    in_body = "client_secret" in fields
    if len(given) > 1 or (given and in_body):
        raise TokenError(
            "invalid_request", "Send the client's credentials once: in Authorization or in the body."
        )
    if given:
        client, secret = _basic(given[0])
        if fields.get("client_id", client) != client:
            raise TokenError("invalid_request", "client_id in the body is not that in Authorization.")
    else:
        client, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    presented = parse_key(secret)
    return secret if presented is not None and presented.id == client else ""


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        return basic_credentials(b64decode(encoded.strip(), validate=True).decode())
    except (binascii.Error, ValueError):
        return "", ""


def _translated(problem: Problem) -> TokenError:
    """Return a refusal of the service in the words of RFC 6749."""
    if problem.name in _INVALID_GRANT:
        return _no_grant()
    if problem.name in _LATER:
        return _unavailable(problem.retry_after)
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


def _no_grant() -> TokenError:
    return TokenError(
        "invalid_grant", "The refresh token is not the handle of a token that this key may read."
    )


def _unavailable(retry_after: timedelta | None) -> TokenError:
    return TokenError(
        "temporarily_unavailable",
        "The access token is not available now. Try again later.",
        status=503,
        retry_after=retry_after or SOON,
    )
