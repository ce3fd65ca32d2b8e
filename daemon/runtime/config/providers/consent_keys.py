"""The keys of a definition about consents: how one is asked for, and how it is withdrawn.

An authorization URL leads an owner's browser, and a revocation carries a token. So both follow the rules of
the token URL.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qsl

from daemon.domain.provider import SECRET_AUTHS, BodyFormat, ClientAuth, Grant, Pkce
from daemon.domain.revocation import (
    CLIENT_ID_PLACE,
    TOKEN_PLACE,
    PresentedToken,
    Revocation,
    RevocationAuth,
    RevocationEnds,
    RevocationMethod,
)
from daemon.domain.token_response import looks_secret
from daemon.runtime.config.fields import ARRAY, STRICT, Flag, Read, Text, one_of, text
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.providers.request_keys import Parameters
from daemon.runtime.config.providers.sign_table import Signs, empty_sign_faults, error_pattern
from daemon.runtime.config.providers.url_rules import Fault, url_faults, used_variables

# What refreshd sends itself (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core §3.1.2.1), and what would take
# the place of all of that (RFC 9101).
_OWN_PARAMS = frozenset(
    {
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "response_type",
        "scope",
        "state",
    }
)
_OWN_EXCHANGE_PARAMS = frozenset(
    {
        "client_assertion",
        "client_assertion_type",
        "client_id",
        "client_secret",
        "code",
        "code_verifier",
        "grant_type",
        "redirect_uri",
    }
)
_SECRET_PARAMS = frozenset(
    {
        "access_token",
        "client_assertion",
        "client_secret",
        "code_verifier",
        "id_token",
        "password",
        "refresh_token",
    }
)
SIGNS_OF_REVOCATION = ("success", "unknown")
_OWN_CALLBACK = frozenset({"state", "code", "error", "error_description", "iss"})
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
_SEPARATOR = re.compile(r"[ !-/:-@\[-`{-~]")
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_PARAMETER = re.compile(r"[A-Za-z0-9_.-]+")
_WORD = re.compile(r"[a-z]+")  # no request object (RFC 9101), which is a JWT with dots
_ID_TOKEN = "id_token."  # noqa: S105  the start of a path
_PLACES = frozenset({CLIENT_ID_PLACE, TOKEN_PLACE})


def scope_token(value: object) -> str:
    if not _SCOPE.fullmatch(text(value)):
        raise InvalidValue(
            "is not one scope", 'Write each scope as an entry of its own, like ["read", "offline_access"].'
        )
    return text(value)


def separator(value: object) -> str:
    if not isinstance(value, str) or not _SEPARATOR.fullmatch(value):
        raise InvalidValue("is not a separator", 'Write one character, like " " or ",".')
    return value


def account_path(value: object) -> str:
    """Read the path of an account's identifier. It is stored and shown, so it can't be a secret."""
    path = text(value)
    if not _PATH.fullmatch(path):
        raise InvalidValue(
            "is not a path", 'Write names with dots between them, like "team.id" or "id_token.sub".'
        )
    if looks_secret(path.removeprefix(_ID_TOKEN)):
        raise InvalidValue(
            "names a secret field, which would be stored in plain text",
            "Name a field that identifies the account.",
        )
    return path


def revocation_auth(value: object) -> ClientAuth | RevocationAuth:
    """Read a client authentication, or one that only revocations have. "none" is the latter's."""
    if not isinstance(value, str) or value not in {*ClientAuth, *RevocationAuth}:
        names = dict.fromkeys((*ClientAuth, *RevocationAuth))
        raise InvalidValue("is not one of the possible values", f"Use one of: {', '.join(names)}.")
    return RevocationAuth(value) if value in set(RevocationAuth) else ClientAuth(value)


def parameter_name(value: object) -> str:
    if not _PARAMETER.fullmatch(text(value)):
        raise InvalidValue("is not the name of a parameter", 'Write it like "token".')
    return text(value)


Scopes = Annotated[tuple[Annotated[str, Read(scope_token)], ...], ARRAY]
Separator = Annotated[str, Read(separator)]
AccountPath = Annotated[str, Read(account_path)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationTable:
    """The keys of `revoke`; `domain.revocation.Revocation` explains each."""

    __pydantic_config__: ClassVar = STRICT

    method: Annotated[RevocationMethod, Read(one_of(RevocationMethod))] = RevocationMethod.POST
    url: Text | None = None
    parameter: Annotated[str, Read(parameter_name)] | None = None
    body: Annotated[BodyFormat, Read(one_of(BodyFormat))] | None = None
    hint: Flag = False
    auth: Annotated[ClientAuth | RevocationAuth, Read(revocation_auth)] | None = None
    token: Annotated[PresentedToken, Read(one_of(PresentedToken))] = PresentedToken.REFRESH
    success: Signs = ()
    unknown: Signs = ()
    ends: Annotated[RevocationEnds, Read(one_of(RevocationEnds))] = RevocationEnds.GRANT


def revocation(table: RevocationTable) -> Revocation:
    """Convert `table` into the domain's Revocation."""
    values: dict[str, Any] = {field.name: getattr(table, field.name) for field in fields(RevocationTable)}
    values |= {name: tuple(map(error_pattern, getattr(table, name))) for name in SIGNS_OF_REVOCATION}
    values["parameter"] = "" if _carrier(table) else table.parameter or Revocation().parameter
    return Revocation(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentTable:
    """The keys of a definition about consents; `domain.provider.Definition` explains each."""

    __pydantic_config__: ClassVar = STRICT

    authorize_url: Text | None = None
    exchange_url: Text | None = None
    exchange_auth: Annotated[ClientAuth, Read(one_of(ClientAuth))] | None = None
    par_url: Text | None = None
    device_url: Text | None = None
    scopes: Scopes = ()
    scope_separator: Separator = " "
    authorize_params: dict[str, Text] = field(default_factory=dict)
    exchange_params: Parameters = field(default_factory=dict)
    pkce: Annotated[Pkce, Read(one_of(Pkce))] = Pkce.S256
    account_from: AccountPath | None = None
    callback_variables: Annotated[tuple[Text, ...], ARRAY] = ()
    consent_hint: Text = ""
    manage_url: Text | None = None
    revoke_url: Text | None = None
    revoke: RevocationTable | None = None


def consent_urls(table: ConsentTable) -> tuple[str | None, ...]:
    """Return the URLs whose variables have to be declared."""
    url = table.revoke.url if table.revoke is not None else None
    own = table.authorize_url, table.exchange_url, table.par_url, table.device_url, table.revoke_url
    return *own, _without_places(url) if url else None


def consent_faults(
    table: ConsentTable,
    *,
    grant: Grant,
    domains: Sequence[str],
    bases: Collection[str],
    variables: Collection[str],
) -> Iterator[Fault]:
    """Yield problems of the keys about consents. `bases`: those of the `variables` that may only begin a URL."""
    for key in ("authorize_url", "exchange_url", "par_url", "device_url", "revoke_url"):
        if (url := getattr(table, key)) is not None:
            yield from url_faults((key,), url, domains, bases)
    yield from _page_faults(table)
    yield from _callback_faults(table, variables)
    yield from _exchange_faults(table)
    yield from _grant_faults(table, grant)
    yield from _scope_faults(table)
    yield from _param_faults(table)
    if table.revoke is not None:
        yield from _revocation_faults(table.revoke, table.revoke_url, domains, bases)
        yield from _presented_faults(table.revoke, grant)


def _page_faults(table: ConsentTable) -> Iterator[Fault]:
    """Check the pages that a browser opens."""
    if table.authorize_url is not None:
        for name in sorted(_query_names(table.authorize_url) & (_OWN_PARAMS | _SECRET_PARAMS)):
            yield ("authorize_url",), f"sets {name} in its query", "Remove that parameter."
    if table.manage_url is not None and used_variables(table.manage_url):
        do = "Write the page where the owner of any account finds the app."
        yield ("manage_url",), "has a variable", do
    elif table.manage_url is not None:  # only people open it, so it may have a fragment
        yield from url_faults(("manage_url",), table.manage_url.partition("#")[0], (), ())


def _callback_faults(table: ConsentTable, variables: Collection[str]) -> Iterator[Fault]:
    """Check what belongs to an authorization endpoint."""
    if table.exchange_url is not None and table.authorize_url is None and table.device_url is None:
        yield ("exchange_url",), "is set, but no consent brings a code", "Add authorize_url, or remove it."
    for key in ("par_url", "callback_variables"):
        if getattr(table, key) and table.authorize_url is None:
            yield (key,), "is set without authorize_url", "Add authorize_url, or remove it."
    for name in table.callback_variables:
        if name in _OWN_CALLBACK:
            yield ("callback_variables",), f"contain {name}, which every callback has", "Remove it."
        elif name not in variables:
            do = "Declare it under variables, where its pattern or kind limits what a callback may bring."
            yield ("callback_variables",), f"contain {name}, which is not declared", do


def _exchange_faults(table: ConsentTable) -> Iterator[Fault]:
    """Check the authentication of a code's exchange: it names the client, and needs no key beside that of renewals."""
    if table.exchange_auth is not None and table.exchange_auth not in (*SECRET_AUTHS, ClientAuth.NONE):
        do = 'Use "post", "basic", "basic_plain", "secret_as_user" or "none".'
        yield ("exchange_auth",), f'is "{table.exchange_auth}", with which no code is exchanged', do


def _grant_faults(table: ConsentTable, grant: Grant) -> Iterator[Fault]:
    for key in ("authorize_url", "device_url", "account_from"):
        if grant.issues_anew and getattr(table, key) is not None:
            do = "Remove it, or set another grant."
            yield (key,), "is set, but no owner consents to the client's own grant", do


def _scope_faults(table: ConsentTable) -> Iterator[Fault]:
    if len(set(table.scopes)) < len(table.scopes):
        yield ("scopes",), "contain a scope twice", "Remove one of them."
    if any(table.scope_separator in scope for scope in table.scopes):
        do = "Write each scope as an entry of its own, or set scope_separator."
        yield ("scopes",), "contain an entry with the separator in it", do


def _param_faults(table: ConsentTable) -> Iterator[Fault]:
    for name, value in table.authorize_params.items():
        place = ("authorize_params", name)
        if name == "request" and _WORD.fullmatch(value):
            continue
        if name in _OWN_PARAMS:
            yield place, "is sent by refreshd itself", "Remove it."
        elif name in _SECRET_PARAMS:
            yield place, "is a secret, which the owner's browser would see", "Remove it."
        elif name == "response_mode" and value != "query":
            yield place, "puts the answer where refreshd can't read it", 'Remove it, or write "query".'
        elif "${" in value:
            yield place, "has a variable", "Write the value itself."
    for name, sent in table.exchange_params.items():
        if name in _OWN_EXCHANGE_PARAMS:
            yield ("exchange_params", name), "is sent by refreshd itself", "Remove it."
        elif "${" in str(sent):
            yield ("exchange_params", name), "has a variable", "Write the value itself."


def _revocation_faults(
    revoke: RevocationTable, default_url: str | None, domains: Sequence[str], bases: Collection[str]
) -> Iterator[Fault]:
    if revoke.url is None and default_url is None:
        yield ("revoke",), "has no URL", "Add revoke_url, or url in this table."
    elif revoke.url is not None and _PLACES & used_variables(_before_path(revoke.url)):
        do = "Use it in the path only: it must not decide where the token goes."
        yield ("revoke", "url"), "has the token or the client id before its path", do
    elif revoke.url is not None:
        yield from url_faults(("revoke", "url"), _without_places(revoke.url), domains, bases)
    for name in SIGNS_OF_REVOCATION:
        signs: Signs = getattr(revoke, name)
        yield from empty_sign_faults(("revoke", name), signs)
        if any(sign.wait or sign.doubt or sign.tenant or sign.reach or sign.alone for sign in signs):
            do = "Remove it: such a sign only shows that the grant is over."
            yield ("revoke", name), "an entry has wait, doubt, tenant, reach or alone", do


def _presented_faults(revoke: RevocationTable, grant: Grant) -> Iterator[Fault]:
    """Check which token is presented, and in which part of the request: in one only."""
    if grant is not Grant.REFRESH_TOKEN and revoke.token is PresentedToken.REFRESH:
        what = f'is "refresh", but with grant = "{grant}" there is no refresh token'
        yield ("revoke", "token"), what, 'Write token = "access".'
    alone = revoke.ends is RevocationEnds.TOKEN and revoke.token is PresentedToken.ACCESS
    if alone and grant is Grant.REFRESH_TOKEN:
        what = 'is "token" with token = "access", so the refresh token would live on after a revocation'
        do = 'Write token = "refresh". If the provider ends the whole grant by an access token, write ends = "grant".'
        yield ("revoke", "ends"), what, do
    carrier = _carrier(revoke)
    if carrier == "auth" and TOKEN_PLACE in used_variables(revoke.url):
        yield ("revoke", "auth"), "and url both carry the token", "Use one of the two."
    for key in ("parameter", "body", "hint"):
        if carrier is not None and getattr(revoke, key):
            yield ("revoke", key), f"is not used, because {carrier} carries the token", "Remove it."
    if revoke.method is RevocationMethod.GET and revoke.body not in (None, BodyFormat.QUERY):
        yield ("revoke", "body"), "is not sent with GET", 'Remove it, or set body = "query".'


def _carrier(revoke: RevocationTable) -> str | None:
    """Return the key by which the token is sent, or None if it is a parameter."""
    if revoke.auth is RevocationAuth.BEARER:
        return "auth"
    return "url" if TOKEN_PLACE in used_variables(revoke.url) else None


def _without_places(url: str) -> str:
    """Return `url` with a text instead of each place that isn't a variable of the token."""
    for name in _PLACES:
        url = url.replace(f"${{{name}}}", name)
    return url


def _before_path(url: str) -> str:
    """Return scheme and host of a URL that may have variables."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.partition("/")[0] if mark else url.partition("/")[0]


def _query_names(url: str) -> set[str]:
    return {name for name, _ in parse_qsl(url.partition("?")[2].partition("#")[0], keep_blank_values=True)}
