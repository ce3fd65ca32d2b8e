"""How a provider takes a grant back, as data: RFC 7009, or what the provider has in its place."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from daemon.domain.provider import BodyFormat, ClientAuth, ErrorPattern

# The presented token itself authenticates the request, in its Authorization header (RFC 6750 §2.1).
BEARER: Final = "bearer"
# Names in a revocation's URL that are no variables of the token. Both values are percent-encoded.
CLIENT_ID_PLACE: Final = "client_id"
TOKEN_PLACE: Final = "token"  # noqa: S105  a name

RevocationAuth = ClientAuth | Literal["bearer"]


class RevocationMethod(StrEnum):
    """The request's method."""

    POST = "POST"
    GET = "GET"
    DELETE = "DELETE"


class RevokedToken(StrEnum):
    """The token that a revocation presents."""

    REFRESH = "refresh"
    ACCESS = "access"


class RevocationEnds(StrEnum):
    """The effect of a revocation."""

    GRANT = "grant"  # every token of this account and client, or no page limits it to one
    TOKEN = "token"  # noqa: S105  only the presented token, and those that descend from the same consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The request that ends a grant at its provider, and the replies that confirm it.

    `url`: the definition's `revoke_url` if it is None. `parameter` carries the token in a body of the format
    `body`, or in the URL with `body = "query"`. The token has no parameter if the URL has the place `${token}`
    or `auth` is "bearer". `hint`: `token_type_hint` (RFC 7009 §2.1) is sent, too. `auth`: the definition's
    `client_auth` if it is None.

    A reply confirms the revocation if its status is 2xx and it has no error code at the definition's
    `reply.error_code`, or if it shows one of the signs in `success`. Such signs show that the token was dead
    before.
    """

    method: RevocationMethod = RevocationMethod.POST
    url: str | None = None
    parameter: str = "token"
    body: BodyFormat = BodyFormat.FORM
    hint: bool = False
    auth: RevocationAuth | None = None
    token: RevokedToken = RevokedToken.REFRESH
    success: tuple[ErrorPattern, ...] = ()
    ends: RevocationEnds = RevocationEnds.GRANT
