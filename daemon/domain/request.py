"""The request that renews a token, without I/O: RFC 6749 §6 and the changes that a definition makes."""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote_plus

from daemon.domain.assertion import JWT_BEARER_GRANT, signed_assertion
from daemon.domain.provider import (
    SECRET_AUTHS,
    AssertionAudience,
    BodyFormat,
    ClientAuth,
    Grant,
    Parameter,
    Provider,
)
from daemon.domain.secret import Secret
from daemon.domain.token import Token
from daemon.domain.token_url import NotSendable, completed_url, filled, fills_host, is_allowed

_SAFE = re.compile(r"[A-Za-z0-9_.~-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.~-]")
_ENCODED = {chr(code): f"%{code:02X}" for code in range(128)} | {" ": "+"}
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628 §3.4
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 §2.2
_CLIENT_FIELDS = frozenset({"client_id", "client_secret", "client_assertion", "client_assertion_type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to send. The body and the headers hold secrets and never print themselves."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    public_only: bool = False  # a variable decides the host: it must not lead to a private address


def refresh_request(provider: Provider, token: Token, *, now: datetime) -> Request:
    """Return the request that asks `provider` for a new access token for `token`.

    Raises NotSendable if the URL can't be completed safely, or nothing can be presented.
    """
    definition = provider.definition
    grant = definition.grant_of(token.grant)
    presented = _asserted(provider, token, now=now) if grant is Grant.JWT_BEARER else _presented(grant, token)
    for name in definition.omit:
        presented.pop(name, None)
    for name in definition.echo:
        if value := token.echoed.get(name):
            presented[name] = value
    return _token_request(provider, definition.token_url, presented, token.vars, now=now)


def code_request(
    provider: Provider,
    *,
    code: Secret,
    code_verifier: Secret | None,
    redirect_uri: str,
    variables: Mapping[str, str],
    now: datetime,
) -> Request:
    """Return the request that exchanges an authorization code for tokens (RFC 6749 §4.1.3, RFC 7636 §4.5).

    Raises NotSendable if the URL can't be completed safely.
    """
    presented: dict[str, Parameter] = {
        "grant_type": "authorization_code",
        "code": code.reveal(),
        "redirect_uri": redirect_uri,
        **provider.definition.exchange_params,
    }
    if code_verifier is not None:
        presented["code_verifier"] = code_verifier.reveal()
    return _consent_request(provider, presented, variables, now=now)


def device_request(
    provider: Provider, *, device_code: Secret, variables: Mapping[str, str], now: datetime
) -> Request:
    """Return the request that polls for the tokens of a device code (RFC 8628 §3.4).

    Raises NotSendable if the URL can't be completed safely.
    """
    presented = {"grant_type": DEVICE_GRANT, "device_code": device_code.reveal()}
    return _consent_request(provider, presented, variables, now=now)


def _consent_request(
    provider: Provider, presented: Mapping[str, Parameter], variables: Mapping[str, str], *, now: datetime
) -> Request:
    """Return the request for the first tokens of a consent. It names the client even if a refresh does not.

    The definition's parameters are those of a refresh: they must not replace the grant type.
    """
    definition = provider.definition
    if definition.exchange_auth in SECRET_AUTHS and provider.client_secret is None:
        raise NotSendable(f"{provider.name} has no client_secret, which a code needs, if not a renewal")
    if definition.code_auth is not definition.client_auth:
        provider = replace(provider, definition=replace(definition, client_auth=definition.code_auth))
    url = definition.exchange_url or definition.token_url
    return _token_request(provider, url, presented, variables, now=now, fixed=frozenset(presented))


def _token_request(
    provider: Provider,
    template: str,
    presented: Mapping[str, Parameter],
    variables: Mapping[str, str],
    *,
    now: datetime,
    fixed: frozenset[str] = frozenset(),
) -> Request:
    """Return the request to the token endpoint at `template` that presents these fields. The definition's parameters
    replace none that is `fixed`.
    """
    definition = provider.definition
    url = completed_url(provider, template, variables)
    names = definition.names
    ours: dict[str, Parameter] = {**presented, **_client_fields(provider, url, variables, now=now)}
    fields = {names.get(name, name): value for name, value in ours.items()}
    for name, value in definition.params.items():
        if name not in _CLIENT_FIELDS and name not in fixed:
            varies = isinstance(value, str) and "${" in value
            fields[name] = filled(provider, str(value), variables) if varies else value
    outside = fills_host(template) and not is_allowed(provider, url)
    return _request(
        definition.method.value,
        url,
        headers=_headers(provider, variables) | _bearer(provider, variables, audience=url, now=now),
        fields=fields,
        body_format=definition.body,
        public_only=outside and not provider.allow_private,
    )


def client_request(
    provider: Provider,
    *,
    method: str,
    url: str,
    fields: Mapping[str, str],
    more_headers: Mapping[str, str],
    with_client: bool,
    body_format: BodyFormat,
    public_only: bool,
    variables: Mapping[str, str],
    now: datetime,
) -> Request:
    """Return a request of the client to another endpoint of `provider`, such as its revocation. `url` is complete.
    `variables`: those of the headers. `with_client`: the client authenticates as the definition says. Raises NotSendable.
    """
    names = provider.definition.names
    client = _client_fields(provider, url, variables, now=now) if with_client else {}
    return _request(
        method,
        url,
        headers={**_headers(provider, variables, with_client=with_client), **more_headers},
        fields=dict(fields) | {names.get(name, name): value for name, value in client.items()},
        body_format=body_format,
        public_only=public_only,
    )


def _request(
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    fields: Mapping[str, Parameter],
    body_format: BodyFormat,
    public_only: bool,
) -> Request:
    """Return the request with `fields` where `body_format` puts them."""
    body = b""
    if not fields:
        pass
    elif body_format is BodyFormat.QUERY:
        url = f"{url}{'&' if '?' in url else '?'}{form_encoded(fields)}"
    elif body_format is BodyFormat.JSON:
        headers["Content-Type"], body = "application/json", json.dumps(fields).encode()
    else:
        headers["Content-Type"], body = "application/x-www-form-urlencoded", form_encoded(fields).encode()
    return Request(method=method, url=url, headers=headers, body=body, public_only=public_only)


def _asserted(provider: Provider, token: Token, *, now: datetime) -> dict[str, Parameter]:
    url = completed_url(provider, provider.definition.token_url, token.vars)
    signed = signed_assertion(provider, token.vars, audience=url, now=now)
    return {"grant_type": JWT_BEARER_GRANT, "assertion": signed.reveal()}


def _presented(grant: Grant, token: Token) -> dict[str, Parameter]:
    match grant:
        case Grant.REFRESH_TOKEN if token.refresh_token is not None:
            return {"grant_type": "refresh_token", "refresh_token": token.refresh_token.reveal()}
        case Grant.EXCHANGE if token.access_token is not None:
            return {"grant_type": "refresh_token", "access_token": token.access_token.reveal()}
        case Grant.CLIENT_CREDENTIALS:
            return {"grant_type": "client_credentials"}
        case Grant.NONE:
            raise NotSendable("this token has no grant that renews it, so no request is possible")
        case Grant.EXCHANGE:
            raise NotSendable("no access token is stored, so refreshd has nothing to present")
        case _:
            raise NotSendable("no refresh token is stored, so refreshd has nothing to present")


def _client_fields(
    provider: Provider, url: str, variables: Mapping[str, str], *, now: datetime
) -> dict[str, str]:
    client = {"client_id": provider.client_id}
    match provider.definition.client_auth:
        case ClientAuth.BASIC | ClientAuth.BASIC_PLAIN | ClientAuth.SECRET_AS_USER:
            return {}
        case ClientAuth.OMITTED | ClientAuth.BEARER_JWT:
            return {}
        case ClientAuth.NONE:
            return client
        case ClientAuth.POST:
            secret = provider.client_secret
            return client | ({"client_secret": secret.reveal()} if secret else {})
        case ClientAuth.PRIVATE_KEY_JWT:
            if provider.client_assertion is None:
                raise NotSendable("no private key is configured to sign with")
            signed = provider.client_assertion(_audience(provider, url, variables), now).reveal()
            return client | {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": signed}


def _audience(provider: Provider, url: str, variables: Mapping[str, str]) -> str:
    """Return whom a client assertion is for: the endpoint at `url`, or the issuer. Raises NotSendable."""
    issuer = provider.definition.issuer
    if provider.definition.assertion_audience is AssertionAudience.TOKEN_URL or issuer is None:
        return url
    return completed_url(provider, issuer, variables, name="issuer")


def _headers(provider: Provider, variables: Mapping[str, str], *, with_client: bool = True) -> dict[str, str]:
    """Return the headers. The definition's value replaces refreshd's, in any spelling of the name, because
    two values would contradict each other.
    """
    headers = {"Accept": "application/json"}
    if with_client:
        headers |= _client_headers(
            provider.definition.client_auth, provider.client_id, provider.client_secret
        )
    own = provider.definition.headers
    if any(name.lower() == "accept" for name in own):
        del headers["Accept"]
    for name, value in own.items():
        headers[name] = filled(provider, value, variables) if "${" in value else value
    return headers


def _client_headers(auth: ClientAuth, client_id: str, client_secret: Secret | None) -> Mapping[str, str]:
    """Return the client's headers. Basic credentials are form-encoded first (RFC 6749 §2.3.1), unless the
    definition says otherwise. Each request builds them: a cache would keep a secret for longer than its configuration.
    """
    plain = client_secret.reveal() if client_secret else ""
    secret = form_value(plain)
    match auth:
        case ClientAuth.BASIC:
            pair = f"{form_value(client_id)}:{secret}"
        case ClientAuth.BASIC_PLAIN:
            pair = f"{client_id}:{plain}"
        case ClientAuth.SECRET_AS_USER:
            pair = f"{secret}:"
        case _:
            return {}
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _bearer(
    provider: Provider, variables: Mapping[str, str], *, audience: str, now: datetime
) -> dict[str, str]:
    """Return the header with the client's own JWT, if the definition wants one."""
    if provider.definition.client_auth is not ClientAuth.BEARER_JWT:
        return {}
    return {
        "Authorization": f"Bearer {signed_assertion(provider, variables, audience=audience, now=now).reveal()}"
    }


def form_encoded(fields: Mapping[str, Parameter]) -> str:
    """Return `fields` as application/x-www-form-urlencoded (WHATWG URL §5.2)."""
    return "&".join(
        [
            f"{_form_name(name)}={form_value(value if isinstance(value, str) else str(value))}"
            for name, value in fields.items()
        ]
    )


@lru_cache(maxsize=1024)  # a definition's field names are few, and no secrets
def _form_name(name: str) -> str:
    return form_value(name)


def form_value(text: str) -> str:
    """Return one percent-encoded value. On a token with a few characters to encode, this is much faster than
    `quote_plus`.
    """
    if _SAFE.fullmatch(text):
        return text
    return _UNSAFE.sub(lambda one: _ENCODED[one[0]], text) if text.isascii() else quote_plus(text)
