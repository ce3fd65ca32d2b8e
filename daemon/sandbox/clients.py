"""Who asks, and for what: a token request read strictly, and its client authenticated (RFC 6749, section 2.3.1).

Strict on purpose: what a lenient server lets pass here, a real one refuses.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus

from daemon.sandbox.dialects import Refusal

_FORM = "application/x-www-form-urlencoded"
_MOST_PARAMETERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The one client that the sandbox knows."""

    id: str
    secret: str

    def refuses(self, authorization: str | None, form: dict[str, str]) -> Refusal | None:
        """Why this request is not from our client; None: it is."""
        given = _from_form(form) if authorization is None else _from_basic(authorization)
        basic = authorization is not None
        if given is None or not (_same(given[0], self.id) and _same(given[1], self.secret)):
            detail = "send the client's id and secret by HTTP Basic, both form-encoded first, or in the body"
            return Refusal(complaint="invalid_client", detail=detail, challenge=basic)
        if basic and ("client_secret" in form or form.get("client_id", self.id) != self.id):
            return Refusal(complaint="invalid_request", detail="authenticate in one way, not in two")
        return None


def read_form(content_type: str, body: bytes) -> dict[str, str] | Refusal:
    """The parameters of a token request. An empty one counts as left out (RFC 6749, section 3.2)."""
    if content_type != _FORM:
        return Refusal(complaint="invalid_request", detail=f"send the parameters as {_FORM}")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        return Refusal(
            complaint="invalid_request", detail="the body is not a form in UTF-8 of a sensible size"
        )
    form = dict(pairs)
    if len(form) != len(pairs):
        return Refusal(complaint="invalid_request", detail="a parameter was sent more than once")
    return {name: value for name, value in form.items() if value}


def _from_form(form: dict[str, str]) -> tuple[str, str] | None:
    if "client_id" in form and "client_secret" in form:
        return form["client_id"], form["client_secret"]
    return None


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
