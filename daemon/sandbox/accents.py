"""How a provider's consent differs from the standard's: the authorization request, the device flow, the revocation.

All of it is data from `fixtures/`; the defaults are RFC 6749, RFC 8628 and RFC 7009 as written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from daemon.sandbox.clients import ClientWay
from daemon.sandbox.wording import Answer

Pkce = Literal["optional", "required", "ignored"]
GrantType = Literal["required", "optional"]
Ends = Literal["account", "grant", "family", "token"]
Place = Literal["form", "json", "query", "path", "bearer"]
TokenKind = Literal["refresh_token", "access_token"]
RevokingClient = Literal[ClientWay, "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentTerms:
    """The authorization endpoint, and the exchange of its code.

    client, scope  the parameters that hold the client's ID and the scopes; `separator` stands between two scopes
    demands        parameters that must be there with this value; an empty value takes any
    pkce           "optional": checked if the request has a challenge; "ignored": neither read nor checked
    offline        parameters, and `offline_scopes` the scopes (one is enough), without which no refresh token is issued
    again          if not empty: an account's second consent has a refresh token only with these parameters
    fewer          whether the owner may leave scopes out
    code           the redirect's parameter for the code; `returns`: more parameters, whose places
                   `{account}`, `{scope}` (the granted ones) and `{issuer}` (this sandbox) are filled in
    account        the member of a token response that names the account, as `team.id`; "": none does
    denied         the error in the redirect if the owner denies
    issuer         whether the redirect has `iss` (RFC 9207)
    grant_type     whether a code is refused without `grant_type=authorization_code`
    expiring       parameters of the code's exchange without which the access token has no end, and no refresh token
    most           live grants of one account; one more ends the oldest
    """

    paths: tuple[str, ...] = ("/authorize",)
    client: str = "client_id"
    scope: str = "scope"
    separator: str = " "
    demands: Mapping[str, str] = field(default_factory=lambda: {"response_type": "code"})
    pkce: Pkce = "optional"
    offline: Mapping[str, str] = field(default_factory=dict)
    offline_scopes: tuple[str, ...] = ()
    again: Mapping[str, str] = field(default_factory=dict)
    fewer: bool = True
    code: str = "code"
    returns: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    denied: str = "access_denied"
    issuer: bool = False
    grant_type: GrantType = "required"
    expiring: Mapping[str, str] = field(default_factory=dict)
    code_lifetime: timedelta = timedelta(minutes=10)
    most: int | None = None

    def scopes(self, text: str) -> tuple[str, ...]:
        """The scopes of a request, each once. Spaces separate too, as browsers make them of `+`."""
        return tuple(dict.fromkeys(text.replace(self.separator, " ").split()))

    def is_offline(self, scopes: tuple[str, ...]) -> bool:
        """Whether these scopes are enough for a refresh token."""
        return not self.offline_scopes or any(scope in self.offline_scopes for scope in scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTerms:
    """The device authorization endpoint (RFC 8628).

    page    where the owner enters the code
    body    the shape of the response
    scope   the parameter that holds the scopes
    client  whether the client's secret is demanded too
    """

    paths: tuple[str, ...]
    page: str
    body: Mapping[str, object]
    scope: str
    client: Literal["id", "secret"]
    lifetime: timedelta
    interval: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationTerms:
    """The revocation endpoint (RFC 7009, or what the provider has in its place).

    parameter  the one that holds the token, unless `place` is "path" or "bearer"
    place      all places that are read, the usual one first
    client     ways to authenticate, any of them; "id": the ID alone; "none": not asked for
    takes      the kinds of token that are revoked; any other token is unknown here
    ends       "account": all grants of the account; "grant": this one; "family": this one if the token is a refresh
               token, else the access token alone; "token": this token alone
    done       the answer to a token that was revoked; `unknown`: to one that is not alive here
    """

    method: Literal["POST", "GET", "DELETE"]
    paths: tuple[str, ...]
    parameter: str
    place: tuple[Place, ...]
    client: tuple[RevokingClient, ...]
    takes: tuple[TokenKind, ...]
    ends: Ends
    done: Answer
    unknown: Answer
