"""Who asks: the client of a token request, authenticated (RFC 6749, section 2.3.1, and one way of Stripe's own), or a
client without a secret (section 2.1), or nobody.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote_plus

from daemon.sandbox.wording import Refusal

# `post`: among the parameters, wherever those stand. `secret_as_user`: Basic, the secret as user, no password.
# `id`: a public client, the id alone among the parameters. `nobody`: a refresh that names a client at all is refused; a code is
# exchanged as `code_ways` says, or by `post`. `jwt`: as the bearer, which `assertions` checks.
ClientWay = Literal["basic", "post", "secret_as_user", "id", "nobody", "jwt"]
_NAMES = frozenset({"client_id", "client_secret", "client_assertion"})


@dataclass(slots=True, kw_only=True)
class Client:
    """The one client that the sandbox knows, and the ways in which it may say so; with a code, `code_ways` if there are
    any. Its secret may change.
    """

    id: str
    secret: str
    ways: tuple[ClientWay, ...] = ("basic", "post")
    code_ways: tuple[ClientWay, ...] = ()

    def refuses(self, authorization: str | None, form: dict[str, str]) -> Refusal | None:
        """Why this request is not from our client; None: it is."""
        basic = authorization is not None
        if "code" in form and (self.code_ways or self.ways == ("nobody",)):
            with_code = replace(self, ways=self.code_ways or ("post",), code_ways=())
            return with_code.refuses(authorization, form)
        if self.ways == ("nobody",):
            named = basic or _NAMES & form.keys()
            return Refusal(complaint="invalid_request", detail="name no client here") if named else None
        if self.ways == ("jwt",):
            named = _NAMES & form.keys()
            return Refusal(complaint="invalid_request", detail="name no client here") if named else None
        if not (self._proven_by_basic(authorization) if authorization is not None else self._proven_by(form)):
            return Refusal(complaint="invalid_client", detail=self._advice(), challenge=basic)
        if basic and ("client_secret" in form or form.get("client_id", self.id) != self.id):
            return Refusal(complaint="invalid_request", detail="authenticate in one way, not in two")
        return None

    def _proven_by(self, form: dict[str, str]) -> bool:
        """Whether the parameters name our client. A secret where none belongs is refused: it would be in a place that
        the provider does not keep secret.
        """
        if not _same(form.get("client_id", ""), self.id):
            return False
        if "client_secret" not in form:
            return "id" in self.ways
        return "post" in self.ways and _same(form["client_secret"], self.secret)

    def _proven_by_basic(self, authorization: str) -> bool:
        if (given := _from_basic(authorization)) is None:
            return False
        user, password = given
        if "secret_as_user" in self.ways:
            return _same(user, self.secret) and password == ""
        return "basic" in self.ways and _same(user, self.id) and _same(password, self.secret)

    def _advice(self) -> str:
        match self.ways:
            case ("basic", "post") | ("post", "basic"):
                return (
                    "send the client's id and secret by HTTP Basic, both form-encoded first, or in the body"
                )
            case ("basic",):
                return "send the client's id and secret by HTTP Basic, both form-encoded first"
            case ("id",):
                return "send the client's id among the parameters, and no secret"
            case ("secret_as_user",):
                return "send the client's secret by HTTP Basic, as the user and without a password"
            case _:
                return "send the client's id and secret among the parameters"


def _from_basic(authorization: str) -> tuple[str, str] | None:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
        return (unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")) if colon else None
    except (binascii.Error, UnicodeError):
        return None


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))
