"""RFC 6749 and its real-world accents, without I/O: what a reply means.

The body decides, not the status code: a refusal can come with 200 and an outage with 400. The definition's own signs
are read first, then the standard's error codes (RFC 6749 §5.2). An error that nobody knows is Unavailable: time may
heal it, and nothing is condemned on a guess.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

from daemon.domain.answer import Answer, Cause, Concern, Granted, Misconfigured, Rejected, Unavailable, Unread
from daemon.domain.provider import Definition, Grant, Provider, Rotation, Sign
from daemon.domain.secret import Secret, masked
from daemon.domain.token import Token
from daemon.domain.token_response import (
    Body,
    access_end,
    at_path,
    first,
    first_text,
    holds_refresh_token_elsewhere,
    kept,
    refresh_end,
    scope,
)

_DEAD = frozenset({"invalid_grant"})
# One token's client or scope may differ from the others'; a client that nobody knows is everybody's.
_REACH = {
    "invalid_client": Concern.CLIENT,
    "unauthorized_client": Concern.PROVIDER,
    "unsupported_grant_type": Concern.PROVIDER,
    "invalid_scope": Concern.TOKEN,
}
# Codes that are told as they are, together with the definition's own: masking would hide the longer ones.
_STANDARD = (
    _DEAD
    | _REACH.keys()
    | {"temporarily_unavailable", "unsupported_response_type"}
    | {"interaction_required", "login_required", "consent_required"}  # OpenID Connect Core §3.1.2.6
)
NO_WAIT = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, as received. `whole`: the body ended as announced."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes = field(repr=False)
    whole: bool
    asked_at: datetime
    location: str | None = None  # the header, as received


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """Nothing came back. `sent`: the request may have reached the provider; `concerns`: it is
    the operator's to mend, and how far it reaches; None: time's. `ours`: refreshd's own trouble kept it from asking.
    """

    code: str
    message: str
    sent: bool
    concerns: Concern | None = None
    ours: bool = False
    asked_at: datetime


def read(provider: Provider, token: Token, reply: Reply | NoReply) -> Answer:
    """What `reply` means for `token`. Total: any bytes, any status and any headers yield an answer."""
    if isinstance(reply, NoReply):
        if reply.concerns is not None:
            return Misconfigured(code=reply.code, message=reply.message, concerns=reply.concerns)
        cause = Cause.OURS if reply.ours else Cause.OUTAGE
        return Unavailable(code=reply.code, message=reply.message, in_doubt=reply.sent, cause=cause)
    body = _parsed(reply)
    hide = (token.refresh_token, token.access_token, provider.client_secret)
    refusal = _refusal(provider.definition, reply, body or {}, hide)
    if refusal is not None:
        return refusal
    if body is None or not first_text(body, provider.definition.reply.access_token):
        return _no_grant(reply)
    grant = provider.definition.grant_of(token.grant)
    return _grant(provider.definition, body, rotates=grant is Grant.REFRESH_TOKEN, asked_at=reply.asked_at)


def retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """The wait that a Retry-After header asks for: seconds or an HTTP date (RFC 9110 §10.2.3), 1 s to 24 h.

    Unparsable is None: as if it weren't there.
    """
    if header is None:
        return None
    wish = header.strip()
    if wish.isascii() and wish.isdigit():
        wait = timedelta(seconds=min(int(wish[:9]), 86_400))
    else:
        try:
            at = parsedate_to_datetime(wish)
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(max(wait, timedelta(seconds=1)), timedelta(hours=24))


def _parsed(reply: Reply) -> Body | None:
    """The body as an object, or None. JSON whatever the content type says, and whatever comes behind it where the reply
    is not whole; form-encoded only where it says so, and whole: cut short, its last value would look like a shorter one.
    """
    try:
        body = json.loads(reply.body) if reply.whole else _first_value(reply.body)
    except (ValueError, RecursionError):
        if not reply.whole or "x-www-form-urlencoded" not in reply.content_type.lower():
            return None
        try:
            return dict(parse_qsl(reply.body.decode(), max_num_fields=100))
        except ValueError:
            return None
    return body if isinstance(body, dict) else None


def _first_value(body: bytes) -> object:
    return json.JSONDecoder().raw_decode(body.decode(json.detect_encoding(body)).lstrip())[0]


def _refusal(
    known: Definition, reply: Reply, body: Body, hide: tuple[Secret | None, ...]
) -> Rejected | Misconfigured | Unavailable | None:
    """The error that the body or the status tells, if any. With an access token, only the definition's own signs
    count: a grant that is taken for an error would be lost.
    """
    own = (known.unavailable, known.misconfigured, known.rejected)
    if first_text(body, known.reply.access_token) and not any(
        _shown(signs, reply.status, body) for signs in own
    ):
        return None
    code = _code(body)
    label = (code if _is_known(code, known) else masked(code, hide)) or f"http_{reply.status}"
    told = masked(_message(body), hide) or (label if code else f"HTTP {reply.status}")
    later = Unavailable(
        code=label,
        message=told,
        retry_after=retry_after(reply.retry_after, now=reply.asked_at),
        in_doubt=reply.status >= 500,
        throttled=reply.status == 429,
    )
    if (sign := _shown(known.unavailable, reply.status, body)) is not None:
        wait = max(sign.wait or NO_WAIT, later.retry_after or NO_WAIT) or None
        throttled = later.throttled or sign.wait is not None  # it says how long not to ask
        return replace(later, in_doubt=later.in_doubt or sign.doubt, retry_after=wait, throttled=throttled)
    if _shown(known.misconfigured, reply.status, body):
        return Misconfigured(code=label, message=told, concerns=Concern.CLIENT)
    if code in _DEAD or _shown(known.rejected, reply.status, body):
        return Rejected(code=label, message=told)
    if code in _REACH:
        return Misconfigured(code=label, message=told, concerns=_REACH[code])
    return later if body.get("error") or not 200 <= reply.status < 300 else None


def _is_known(code: str, known: Definition) -> bool:
    signs = (*known.unavailable, *known.misconfigured, *known.rejected)
    return code in _STANDARD or any(code in sign.values for sign in signs)


def _no_grant(reply: Reply) -> Unread | Unavailable:
    """A success without an access token. Cut short, it is as good as lost; whole, somebody must look at it."""
    if not reply.whole:
        return Unavailable(code="cut_short", message="the reply ended before its end", in_doubt=True)
    return Unread(
        code="no_grant", message=f"HTTP {reply.status} that holds neither a grant nor a known error"
    )


def _grant(known: Definition, body: Body, *, rotates: bool, asked_at: datetime) -> Granted | Unread:
    """`rotates`: a refresh token was presented. Nothing else is replaced, so none is looked for then."""
    shape = known.reply
    access = first_text(body, shape.access_token)
    refresh = first_text(body, shape.refresh_token) if rotates else ""
    granted = Granted(
        access_token=Secret(access),
        refresh_token=Secret(refresh) if refresh else None,
        token_type=first_text(body, shape.token_type) or None,
        scope=scope(first(body, shape.scope)),
        expires_at=access_end(known, body, access=access, asked_at=asked_at),
        refresh_expires_at=refresh_end(known, body, asked_at=asked_at) if rotates else None,
        extra=kept(known, body),
    )
    if refresh or not rotates:
        return granted
    if holds_refresh_token_elsewhere(body):
        return Unread(
            code="refresh_token_elsewhere",
            message="the reply holds a refresh token in a place where the definition does not look",
            granted=granted,
        )
    if known.rotation is Rotation.ALWAYS:
        return Unread(
            code="no_refresh_token",
            message="the reply holds no refresh token, although this provider always replaces it",
            granted=granted,
        )
    return granted


def _shown(signs: tuple[Sign, ...], status: int, body: Body) -> Sign | None:
    return next((sign for sign in signs if _is_shown(sign, status, body)), None)


def _is_shown(sign: Sign, status: int, body: Body) -> bool:
    if sign.status and status not in sign.status:
        return False
    value = at_path(body, sign.field)
    if value is None:
        return False
    try:
        shown = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:  # nested almost too deep to be parsed: no sign that anybody meant
        return False
    return shown in sign.values or (sign.pattern is not None and sign.pattern.search(shown) is not None)


def _code(body: Body) -> str:
    """The error code: `error` as text or number, or the code inside an error object."""
    error = body.get("error")
    if isinstance(error, Mapping):
        error = error.get("code") or error.get("type")
    return str(error) if isinstance(error, str | int) and not isinstance(error, bool) and error else ""


def _message(body: Body) -> str:
    error = body.get("error")
    inner = error.get("message") if isinstance(error, Mapping) else None
    for told in (body.get("error_description"), inner, body.get("message")):
        if isinstance(told, str) and told:
            return told
    return ""
