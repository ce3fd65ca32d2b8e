"""The provider: a definition of its protocol, and the client's credentials there. This is data; `dialect` has
the code.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from daemon.domain.secret import Secret

if TYPE_CHECKING:  # they are made of the terms below
    from daemon.domain.assertion import AssertionTerms, ClaimsSigner
    from daemon.domain.revocation import Revocation

Parameter = str | bool | int | float | tuple[str, ...]  # only JSON carries values of other types than text
Assertion = Callable[[str, datetime], Secret]  # (audience, now) -> a signed client assertion, used once


class Grant(StrEnum):
    """What is presented for a new access token."""

    REFRESH_TOKEN = "refresh_token"  # noqa: S105  a name
    EXCHANGE = "exchange"  # the access token itself, as long as it lives
    CLIENT_CREDENTIALS = (
        "client_credentials"  # nothing but the client (RFC 6749 §4.4): each one is issued without the former
    )
    JWT_BEARER = "jwt_bearer"  # an assertion that the client signs for each token (RFC 7523 §2.1)
    NONE = "none"  # nothing renews it: it is watched

    @property
    def issues_anew(self) -> bool:
        """Whether the client alone is enough, so that nothing has to be stored for the first access token."""
        return self in (Grant.CLIENT_CREDENTIALS, Grant.JWT_BEARER)


class ClientAuth(StrEnum):
    """How the client authenticates to the token endpoint (RFC 6749 §2.3)."""

    BASIC = "basic"  # form-encoded first, as RFC 6749 wants it
    BASIC_PLAIN = "basic_plain"  # as they are, as RFC 7617 has it
    POST = "post"
    SECRET_AS_USER = "secret_as_user"  # noqa: S105  Basic, with the secret in the user's place and no password
    PRIVATE_KEY_JWT = "private_key_jwt"  # a signed assertion (RFC 7523 §2.2)
    BEARER_JWT = "bearer_jwt"  # a JWT that the client signs, in the header Authorization
    NONE = "none"  # a public client: its id alone
    OMITTED = "omitted"  # nothing names the client in a refresh; a code is exchanged as with `post`


# A secret is sent
SECRET_AUTHS = frozenset(
    {ClientAuth.BASIC, ClientAuth.BASIC_PLAIN, ClientAuth.POST, ClientAuth.SECRET_AS_USER}
)


class AssertionAlgorithm(StrEnum):
    """How an assertion is signed (RFC 7518 §3.1, RFC 8037 §3.1). The type of the key decides which of them fit."""

    RS256 = "RS256"
    RS384 = "RS384"
    PS256 = "PS256"
    ES256 = "ES256"
    ES384 = "ES384"
    EDDSA = "EdDSA"


class AssertionAudience(StrEnum):
    """Whom an assertion is for."""

    TOKEN_URL = "token_url"  # noqa: S105  a name; the address that it is sent to (RFC 7523 §3)
    ISSUER = "issuer"  # the authorization server (FAPI 2.0 Security Profile §5.3.3.1)


class BodyFormat(StrEnum):
    """The encoding of the request's parameters."""

    FORM = "form"
    JSON = "json"
    QUERY = "query"  # in the URL, and the body is empty


class Rotation(StrEnum):
    """Whether a refresh replaces the refresh token."""

    NEVER = "never"
    SOMETIMES = "sometimes"  # also where we don't know: whatever comes back is stored
    ALWAYS = "always"


class IdleFrom(StrEnum):
    """From when on an unused refresh token grows old."""

    USE = "use"  # each renewal extends it
    REPLACEMENT = (
        "replacement"  # only another refresh token lives longer: a renewal without one extends nothing
    )


class ExpiryUnit(StrEnum):
    """The unit of the number in `expires_in`."""

    SECONDS = "s"
    MILLISECONDS = "ms"


class Method(StrEnum):
    """The request's method. Proxies and clients may repeat GET, so a refresh token is sent by it only if the provider
    says that a repetition is harmless.
    """

    POST = "POST"
    GET = "GET"


class Pkce(StrEnum):
    """Proof Key for Code Exchange (RFC 7636) at a consent."""

    S256 = "S256"  # sent: a provider that doesn't support it ignores it
    NONE = "none"  # never sent: the provider refuses it
    REQUIRED = "required"  # sent: the provider refuses a consent without it


class VariableKind(StrEnum):
    """What a variable stands for."""

    NAME = "name"  # a part of the host or of the path
    VALUE = "value"  # a parameter or a header, never a part of a URL
    BASE = "base"  # where the URL begins: scheme, host and perhaps a path


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A part of the token URL, or of a parameter, that differs between connections.

    Its value comes from a database, so `pattern` must match it completely. A base needs no pattern, because
    its host is checked instead.
    """

    pattern: re.Pattern[str]
    kind: VariableKind = VariableKind.NAME
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `count` requests in any `per`."""

    count: int
    per: timedelta


class Reach(StrEnum):
    """Whom the refusal of a client concerns. Without one, it is the client: all tokens, unless one has just succeeded."""

    TOKEN = "token"  # noqa: S105  this token alone: it belongs to another app, or is of the wrong kind
    TENANT = "tenant"  # the tokens of this customer, or of this server
    PROVIDER = "provider"  # perhaps all of the provider's: several that fail alike decide it


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition on a reply: the text at `field` (a dotted path in the body) is one of `values`, or matches
    `pattern`.
    """

    field: str
    values: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPattern:
    """One error in a reply: the text at `field` (a dotted path in the body) is one of `values`, or matches
    `pattern`. If `status` is not empty, the status must also be one of them. If `field` is empty, the status
    alone decides. `also`: a second condition that must hold, too.

    `wait` and `doubt` are for temporary failures: the least wait, and whether the request may have been
    processed. `reach` is for a client that is refused.
    """

    field: str = ""
    values: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    status: frozenset[int] = frozenset()
    also: Condition | None = None
    wait: timedelta | None = None
    doubt: bool = False
    reach: Reach | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFields:
    """The paths of a reply's fields. They are dotted, and the first one that exists is used (RFC 6749 §5.1)."""

    access_token: tuple[str, ...] = ("access_token",)
    refresh_token: tuple[str, ...] = ("refresh_token",)
    token_type: tuple[str, ...] = ("token_type",)
    scope: tuple[str, ...] = ("scope",)
    expires_in: tuple[str, ...] = ("expires_in",)
    expires_at: tuple[str, ...] = ("expires_at",)
    refresh_expires_in: tuple[str, ...] = (
        "refresh_token_expires_in",
        "x_refresh_token_expires_in",
        "refresh_expires_in",
        "refresh_token_timeout",  # draft-ietf-oauth-refresh-token-expiration
        "refresh_token_expires_at",
        "refresh_expires_at",
        "refresh_token_expiry",
        "refreshTokenExpiresIn",
        "refreshTokenExpiresAt",
    )
    consent_expires_in: tuple[str, ...] = (
        "authorization_expires_in",  # the same draft
        "authorization_expires_at",
        "consent_expires_in",
        "consent_expires_at",
    )
    error_code: tuple[str, ...] = ("error", "error.code", "error.type")
    error_message: tuple[str, ...] = ()  # else they are looked for under the names that are in use


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The properties of a provider according to its own documentation, and the confidence in them."""

    name: str
    title: str
    token_url: str
    exchange_url: str | None = None  # where a code is exchanged, if not at the token URL
    exchange_auth: ClientAuth | None = None  # how the client authenticates there, if not as in a renewal
    verified: bool = False
    docs: str = ""
    as_of: date | None = None
    variables: Mapping[str, Variable] = field(default_factory=dict)
    domains: tuple[str, ...] = ()  # if a variable fills the host, it must lie in one of these
    grant: Grant = Grant.REFRESH_TOKEN
    # What stored tokens may name beside `grant`: the operator allows it
    grants: frozenset[Grant] = frozenset()
    method: Method = Method.POST
    client_auth: ClientAuth = ClientAuth.POST
    assertion: "AssertionTerms | None" = None  # what the client signs in a JWT of its own
    assertion_algorithms: tuple[
        AssertionAlgorithm, ...
    ] = ()  # the first that fits the key; none: the usual one
    assertion_audience: AssertionAudience = AssertionAudience.TOKEN_URL
    issuer: str | None = None  # the authorization server's identifier (RFC 8414 §2)
    body: BodyFormat = BodyFormat.FORM
    repeatable: bool = False  # the provider says that a repeated refresh is harmless
    # The standard's parameter -> what it is called here
    names: Mapping[str, str] = field(default_factory=dict)
    omit: tuple[str, ...] = ()  # parameters of the standard that are not sent
    params: Mapping[str, Parameter] = field(default_factory=dict)  # more of them, perhaps with variables
    headers: Mapping[str, str] = field(default_factory=dict)  # perhaps with variables
    reply: ReplyFields = ReplyFields()
    success: Condition | None = None  # a reply whose field has another value is an error
    access_lifetime: timedelta | None = None  # documented; used if the reply states none
    expires_in_unit: ExpiryUnit = ExpiryUnit.SECONDS
    refresh_idle: timedelta | None = None  # the refresh token dies when unused for this long
    refresh_lifetime: timedelta | None = None  # ... and this long after the consent, whatever happens
    rotation: Rotation = Rotation.SOMETIMES
    refresh_idle_from: IdleFrom = IdleFrom.USE
    grace: timedelta = timedelta(0)  # for this long a spent refresh token still works (documented; else none)
    grace_until_used: bool = (
        False  # ... or until a new token is used, whatever `grace` is; zero: no other end
    )
    ends_previous: bool = False  # a renewal ends the previous access token immediately
    live_tokens: int | None = (
        None  # so many live at the same time for one account and client; one more ends the oldest
    )
    retires: date | None = None  # from this day on the provider is off
    reuse_refused: bool = False  # reuse of a spent refresh token is merely refused and harms nothing else
    window: timedelta | None = None
    renew_every: timedelta | None = None  # renewed at this age, even if its end is far
    max_age: timedelta | None = None  # a token that nothing renews must be replaced at this age
    earliest: timedelta | None = None  # asked earlier than this before the end, it gives nothing new
    min_interval: timedelta | None = None  # between two requests for one token
    rates: tuple[Rate, ...] = ()  # each of them holds
    confirm_after: timedelta | None = (
        None  # a rejection must be repeated this much later before the grant is dead
    )
    rejected: tuple[ErrorPattern, ...] = ()
    misconfigured: tuple[ErrorPattern, ...] = ()
    unavailable: tuple[ErrorPattern, ...] = ()
    spends_on_refusal: bool = False  # any call spends the refresh token, even a refused one
    keep: tuple[str, ...] = ()  # reply fields that applications need
    echo: tuple[str, ...] = ()  # reply fields that are stored, and sent back with the next refresh
    revoke_url: str | None = None
    authorize_url: str | None = None  # the page on which the owner consents (RFC 6749 §3.1)
    par_url: str | None = None  # where an authorization request is sent first (RFC 9126 §2)
    device_url: str | None = None  # where a device's code is asked for (RFC 8628 §3.1)
    scopes: tuple[str, ...] = ()  # asked for unless the operator or the application names others
    scope_separator: str = " "  # RFC 6749 §3.3 has a blank
    authorize_params: Mapping[str, str] = field(default_factory=dict)  # more of them, without variables
    exchange_params: Mapping[str, Parameter] = field(default_factory=dict)  # sent with the code alone
    pkce: Pkce = Pkce.S256
    account_from: str | None = None  # the account's identifier: a path in the reply, or "id_token.CLAIM"
    callback_variables: tuple[str, ...] = ()  # variables whose values the callback brings
    consent_hint: str = ""  # what to change if a consent brought no refresh token
    manage_url: str | None = None  # the page on which an owner withdraws the consent
    revoke: "Revocation | None" = None  # None: RFC 7009 at `revoke_url`, or no revocation without one
    notes: tuple[str, ...] = ()

    @property
    def code_auth(self) -> ClientAuth:
        """Return how the client authenticates when it exchanges a code. That names the client even if a renewal
        does not.
        """
        usual = ClientAuth.POST if self.client_auth is ClientAuth.OMITTED else self.client_auth
        return self.exchange_auth or usual

    def allows(self, stored: str) -> bool:
        """Return whether a document may name the grant `stored`.

        Applications write documents, and only the configuration gives them the client's own authority. A
        document that names no grant is read as if it named `refresh_token`.
        """
        return stored in (Grant.REFRESH_TOKEN, self.grant) or stored in self.grants

    def grant_of(self, stored: str) -> Grant:
        """Return how to renew a token whose document names the grant `stored`. A grant that isn't allowed is
        never used.
        """
        return Grant.CLIENT_CREDENTIALS if stored in self.grants else self.grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider with a configured client. `share` is the guaranteed number of requests in flight. `most` is
    the limit with borrowed capacity, or None for no limit.
    """

    definition: Definition
    client_id: str
    like: str | None = None  # the name of the definition, if the operator's name for it is another
    client_secret: Secret | None = None
    client_secret_created: date | None = None  # as the operator states it
    client_assertion: Assertion | None = None
    sign_claims: "ClaimsSigner | None" = None
    subjects: tuple[re.Pattern[str], ...] = ()  # the operator's word: a token may act for these users
    client_fingerprint: str = ""  # of what the assertion is signed with, so that a changed key is seen
    share: int = 256
    # A hard limit that the operator set. None: only what is free to be lent limits it.
    most: int | None = None
    window: timedelta | None = None
    # The operator's word: variables may lead there, with port if stated
    allowed_hosts: frozenset[str] = frozenset()
    allow_private: bool = False  # ... and to addresses that are not public
    lacking: str | None = None  # why no request can be sent yet: the client's secret has not come

    @property
    def name(self) -> str:
        return self.definition.name

    def adoptable_after(
        self, *, lease: timedelta, retry_within: timedelta, adopt_after: timedelta
    ) -> timedelta:
        """Return how long after a lease's end another instance must still wait before it presents the same
        value.

        There is no wait if presenting it again is harmless: it does not rotate, reuse is merely refused or repeatable, or
        the retry (at the latest `retry_within` after the lease) still falls inside a documented grace. Otherwise
        it is `adopt_after`, because a spent value can make the provider revoke the successor that a dead
        host's journal still holds.
        """
        definition = self.definition
        harmless = (
            definition.rotation is Rotation.NEVER
            or definition.reuse_refused
            or definition.repeatable
            or definition.grant is not Grant.REFRESH_TOKEN
        )
        endless = definition.grace_until_used and not definition.grace
        return (
            timedelta(0) if harmless or endless or definition.grace >= lease + retry_within else adopt_after
        )
