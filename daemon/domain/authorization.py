"""The authorization request and its callback (RFC 6749 §4.1, RFC 7636, RFC 9207), without I/O.

A callback arrives through a browser, so anyone can write one. Only one with the state of this consent has any effect.
"""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import parse_qsl

from daemon.domain.provider import ClientAuth, Definition, Pkce, Provider
from daemon.domain.request import form_encoded
from daemon.domain.secret import Secret
from daemon.domain.token_url import NotSendable, completed_url, filled

SECRET_BYTES = 32  # of a state, a nonce and a code verifier: 256 bits
LONGEST_CALLBACK = 16_384  # characters of a callback's query
_MOST_FIELDS = 50
_LONGEST_CODE = 4096  # characters
_LONGEST_TEXT = 200  # characters of a provider's words
_CODE = re.compile(r"[\x20-\x7e]+")  # RFC 6749 appendix A.11
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
_STATES = re.compile(r"[A-Za-z0-9_-]{43}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_ONCE = ("state", "code", "error", "error_description", "iss")  # RFC 6749 §3.1: no parameter twice
_RESERVED = frozenset(
    {"response_type", "client_id", "redirect_uri", "scope", "state", "nonce"}
    | {"code_challenge", "code_challenge_method"}
)


class NotThisConsent(ValueError):
    """A callback without the state of this consent. It changes nothing. The text is a sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """One authorization request, as it is remembered until its callback. `issuer`: None if it is unknown."""

    state: Secret
    redirect_uri: str
    code_verifier: Secret | None = None
    nonce: str | None = None
    scopes: tuple[str, ...] = ()
    issuer: str | None = None
    callback_variables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The owner has consented. `variables`: those whose values the callback brings. They are checked where a URL is
    completed with them.
    """

    code: Secret
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The owner or the provider has refused. `code` and `message` are the provider's words, fit for a terminal."""

    code: str
    message: str = field(default="")


def new_authorization(
    provider: Provider,
    *,
    random: bytes,
    redirect_uri: str,
    scopes: Sequence[str] = (),
    issuer: str | None = None,
) -> Authorization:
    """Return a new authorization request with three secrets from `random`, which has 3 * SECRET_BYTES bytes.

    `issuer`: the definition's, unless that differs between tokens, which their callbacks may only bring (RFC 9207).
    Raises NotSendable if a scope can't be sent.
    """
    if len(random) != 3 * SECRET_BYTES:
        raise ValueError("three secrets are needed")
    state, verifier, nonce = (
        _text(random[at : at + SECRET_BYTES]) for at in (0, SECRET_BYTES, 2 * SECRET_BYTES)
    )
    chosen = chosen_scopes(provider.definition, scopes)
    return Authorization(
        state=Secret(state),
        redirect_uri=redirect_uri,
        code_verifier=None if provider.definition.pkce is Pkce.NONE else Secret(verifier),
        nonce=nonce if "openid" in chosen else None,
        scopes=chosen,
        issuer=issuer or _fixed(provider.definition.issuer),
        callback_variables=provider.definition.callback_variables,
    )


def _fixed(issuer: str | None) -> str | None:
    return None if issuer is None or "${" in issuer else issuer


def chosen_scopes(definition: Definition, scopes: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes to ask for, each once: `scopes`, or the definition's. Raises NotSendable."""
    chosen = tuple(dict.fromkeys(scopes or definition.scopes))
    for scope in chosen:
        if not _SCOPE.fullmatch(scope):
            raise NotSendable(
                f"the scope {scope[:100]!r} contains a space, a quote, a backslash, a control character or a non-ASCII character"
            )
    return chosen


def authorization_url(
    provider: Provider,
    authorization: Authorization,
    variables: Mapping[str, str],
    *,
    request_uri: str | None = None,
) -> str:
    """Return the URL at which the owner consents. `request_uri`: of the request that was pushed, if the definition has
    a par_url (RFC 9126 §4). Raises NotSendable.
    """
    definition = provider.definition
    if definition.authorize_url is None:
        raise NotSendable(f"the definition of {provider.name} has no authorize_url")
    url = completed_url(provider, definition.authorize_url, variables, name="authorization URL")
    if request_uri is not None:
        client = definition.names.get("client_id", "client_id")
        named = {client: provider.client_id, "request_uri": request_uri}
    elif definition.par_url is not None:
        raise NotSendable(f"{provider.name} takes pushed authorization requests only: use `refreshd connect`")
    else:
        named = authorization_fields(provider, authorization, variables)
    return f"{url}{'&' if '?' in url else '?'}{form_encoded(named)}"


def authorization_fields(
    provider: Provider, authorization: Authorization, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the parameters of an authorization request under the provider's names for them. Raises NotSendable."""
    definition = provider.definition
    if not provider.client_id and definition.client_auth is ClientAuth.OMITTED:
        raise NotSendable(f"{provider.name} has no client_id, which its consents need, if not its refreshes")
    fields = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": authorization.redirect_uri,
        "state": authorization.state.reveal(),
    }
    if authorization.scopes:
        fields["scope"] = definition.scope_separator.join(authorization.scopes)
    if authorization.code_verifier is not None:
        fields["code_challenge"] = code_challenge(authorization.code_verifier)
        fields["code_challenge_method"] = "S256"
    if authorization.nonce is not None:
        fields["nonce"] = authorization.nonce
    for name, value in definition.authorize_params.items():
        if name not in _RESERVED:
            fields[name] = filled(provider, value, variables) if "${" in value else value
    return {definition.names.get(name, name): value for name, value in fields.items()}


def code_challenge(code_verifier: Secret) -> str:
    """Return the challenge of a code verifier: S256 (RFC 7636 §4.2)."""
    return _text(sha256(code_verifier.reveal().encode()).digest())


def state_hash(state: str) -> str:
    """Return the digest under which a state is stored."""
    return _text(sha256(state.encode()).digest())


def state_in(query: str) -> str:
    """Return the state of a callback. Raises NotThisConsent unless it has one, in the form of ours."""
    states = _fields(query).get("state", [])
    if len(states) != 1 or not _STATES.fullmatch(states[0]):
        raise NotThisConsent("the callback has no state, or several")
    return states[0]


def read_callback(query: str, authorization: Authorization) -> Code | Denied:
    """Return the meaning of a callback's query.

    Raises NotThisConsent unless it has the state of `authorization`. An answer with that state ends the
    authorization, even if it can't be used: it is Denied then.
    """
    expected = state_hash(authorization.state.reveal())
    if not hmac.compare_digest(state_hash(state_in(query)), expected):
        raise NotThisConsent("the callback belongs to another consent")
    fields = _fields(query)
    if twice := [
        name for name in (*_ONCE, *authorization.callback_variables) if len(fields.get(name, [])) > 1
    ]:
        return Denied(code="invalid_callback", message=f"the callback has {twice[0]} twice")
    values = {name: fields[name][0] for name in _ONCE if name in fields}
    issuer = values.get("iss")
    if authorization.issuer is not None and issuer is not None and issuer != authorization.issuer:
        return Denied(code="other_issuer", message="the callback comes from another issuer")
    if "error" in values:
        words = _printable(values.get("error_description", ""))
        return Denied(code=_printable(values["error"]) or "error", message=words)
    code = values.get("code", "")
    if not code:
        return Denied(code="invalid_callback", message="the callback has neither a code nor an error")
    if len(code) > _LONGEST_CODE or not _CODE.fullmatch(code):
        return Denied(code="invalid_callback", message="the code of the callback can't be sent")
    brought = {name: fields[name][0] for name in authorization.callback_variables if name in fields}
    return Code(code=Secret(code), variables={name: value for name, value in brought.items() if value})


def query_of(pasted: str, redirect_uri: str) -> str:
    """Return the query of the address on which a browser has ended. Raises NotThisConsent."""
    address = pasted.strip()
    place, mark, query = address.partition("?")
    if not mark or place.rstrip("/") != redirect_uri.rstrip("/"):
        raise NotThisConsent(f"the address does not begin with {redirect_uri}?")
    return query.partition("#")[0]


def _fields(query: str) -> dict[str, list[str]]:
    """Return the fields of a query, by name. Raises NotThisConsent."""
    if len(query) > LONGEST_CALLBACK:
        raise NotThisConsent("the callback is too long")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:  # a UnicodeDecodeError too
        raise NotThisConsent("the callback can't be read") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text)[:_LONGEST_TEXT].strip()


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
