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
from daemon.runtime.access_web.answers import expires_in, json_answer
from daemon.runtime.access_web.asked import Asked, basic_credentials, form
from daemon.runtime.access_web.oauth_errors import TokenError, error_answer, translated, unavailable
from daemon.runtime.access_web.token_exchange import EXCHANGE, TokenExchange
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.ports import Clock
from daemon.serving.problems import Problem
from daemon.serving.reading import SOON, Reading, Served, Wanted

AGAIN_AFTER = timedelta(seconds=60)  # the same key asks for the same version: its provider refuses the token
MOST_REMEMBERED = 50_000
FORM = "application/x-www-form-urlencoded"

Note = Callable[[Caller, str, str], None]


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
        exchange: TokenExchange | None = None,
        refused: Callable[[str], None] = lambda _problem: None,
    ) -> None:
        """`exchange`: for workloads, if any issuer is trusted."""
        self._exchange = exchange
        self._doorkeeper = doorkeeper
        self._reading = reading
        self._clock = clock
        self._max_wait = max_wait
        self._providers = providers
        self._note = note
        self._refused = refused
        self._served: OrderedDict[tuple[str, str], tuple[str | None, timedelta]] = OrderedDict()

    @property
    def exchanges(self) -> bool:
        """Return whether workloads may exchange JWTs for access tokens."""
        return self._exchange is not None

    def knows(self, provider: str) -> bool:
        """Return whether a provider of this name is configured."""
        return provider in self._providers()

    async def answer(self, asked: Asked, provider: str) -> web.Response:
        """`POST /v1/oauth/{provider}/token`."""
        try:
            return await self._answer(asked, provider)
        except TokenError as error:
            return error_answer(error)
        except Problem as problem:
            self._refused(problem.name)
            return error_answer(translated(problem, _no_grant()))
        except StoreLost:
            return error_answer(unavailable(SOON))

    async def _answer(self, asked: Asked, provider: str) -> web.Response:
        if asked.request.rel_url.raw_query_string:
            raise TokenError("invalid_request", "Send all parameters in the body, and none in the query.")
        if asked.content_type() != FORM:
            raise TokenError("invalid_request", f"Send the parameters as {FORM}.")
        fields = form(await asked.body())
        if self._exchange is not None and fields.get("grant_type") == EXCHANGE:
            return await self._exchange.answer(asked, provider if self.knows(provider) else None, fields)
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
            raise unavailable(SOON)
        served = await self._reading.read(
            caller, name, Wanted(scope=frozenset(scope.split()), wait=self._max_wait)
        )
        if served.away:
            raise unavailable(SOON)
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


def metadata(base: str, provider: str, *, exchanges: bool = False) -> dict[str, object]:
    """Return the authorization server metadata (RFC 8414) of one provider's token endpoint. `exchanges`: it takes the
    JWTs of workloads.
    """
    issuer = f"{base}/v1/oauth/{provider}"
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/token",
        "response_types_supported": [],
        "grant_types_supported": ["refresh_token", *([EXCHANGE] if exchanges else [])],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
            *(["none"] if exchanges else []),
        ],
    }


def _access_key(asked: Asked, fields: dict[str, str]) -> str:
    """Return the access key, which is sent as the client's secret. If the secret isn't a key, or not the client's, the
    text can't be a key. Raises TokenError.
    """
    given = asked.request.headers.getall("Authorization", [])
    in_body = "client_secret" in fields
    asserted = not {"client_assertion", "client_assertion_type"}.isdisjoint(fields)
    if len(given) > 1 or (given and in_body) or asserted:
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
    if not secret or (presented is not None and presented.id == client):
        return secret
    return f"{client}:{secret}"  # no key has a colon, so this counts as a wrong one


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        return basic_credentials(b64decode(encoded.strip(), validate=True).decode())
    except (binascii.Error, ValueError):
        return "", ""


def _no_grant() -> TokenError:
    return TokenError(
        "invalid_grant", "The refresh token is not the handle of a token that this key may read."
    )
