"""How a provider takes a grant back, as data: RFC 7009, or what the provider has in its place."""

from dataclasses import dataclass
from enum import StrEnum

from daemon.domain.provider import BodyFormat, ClientAuth, ErrorPattern

# The places in a revocation's URL that are no variables of the token: ${token} and ${client_id}.
TOKEN_PLACE, CLIENT_ID_PLACE = "token", "client_id"


class RevocationMethod(StrEnum):
    """The request's method."""

    POST = "POST"
    GET = "GET"
    DELETE = "DELETE"


class RevocationAuth(StrEnum):
    """How a revocation is authenticated, if not as the token request is."""

    BEARER = "bearer"  # with the presented token itself (RFC 6750 §2.1)
    NONE = "none"  # nothing in the request names the client


class PresentedToken(StrEnum):
    """The token that a revocation presents."""

    REFRESH = "refresh"
    ACCESS = "access"


class RevocationEnds(StrEnum):
    """The extent of a revocation."""

    GRANT = "grant"  # every token of this account and client; even if no page limits it to one consent
    TOKEN = "token"  # noqa: S105  the presented token, with those that were issued for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The form of the request that ends a grant at its provider.

    `url`: the definition's `revoke_url` if it is None. It may have the places ${token} and ${client_id}.
    `parameter` carries the token, and is empty if the URL or the header carries it. `body`: the definition's
    if it is None. `hint`: `token_type_hint` is sent, too (RFC 7009 §2.1). `auth`: the definition's
    `client_auth` if it is None.

    `success`: the signs of a success. Without a sign that fits a status of 200 to 299, such a status is the
    success, unless the body has an error code. `unknown`: the signs of a token that the provider doesn't know, beside
    the usual error codes. For an access token, they show the end of the grant only if its refresh token is rejected too.
    """

    method: RevocationMethod = RevocationMethod.POST
    url: str | None = None
    parameter: str = "token"
    body: BodyFormat | None = None
    hint: bool = False
    auth: ClientAuth | RevocationAuth | None = None
    token: PresentedToken = PresentedToken.REFRESH
    success: tuple[ErrorPattern, ...] = ()
    unknown: tuple[ErrorPattern, ...] = ()
    ends: RevocationEnds = RevocationEnds.GRANT
