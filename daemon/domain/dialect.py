"""RFC 6749 and its dialects, without I/O: the meaning of a reply.

The body decides first, in this order:

1. A sign of the definition: temporary, then a wrong client, then a dead grant. A value that contradicts the
   definition's `success` is an error, too.
2. An access token makes a grant, whatever the status and the notation. Two different ones are withheld.
3. A redirect is not followed. The operator must correct the URL.
4. `invalid_grant` is a verdict with status 400 or 401 only, and only if nothing in the reply mentions waiting,
   names another error or describes a temporary failure (`mixed_reply` has the rule).
5. The standard's other codes concern the client (RFC 6749 §5.2). Any other error is temporary, or the token's own.
6. A success without a grant is an error if it is an object. Any other is a page: an outage in doubt.

A reply that isn't a grant is withheld if it may contain the only copy of a refresh token, whatever else it
means. A success is also withheld if it may contain an access token that can't be read (`token_trace` has the
rule). No grant is declared dead on a guess.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from daemon.domain.answer import (
    Answer,
    Cause,
    Concern,
    Granted,
    Misconfigured,
    Rejected,
    Unavailable,
    Unparsed,
)
from daemon.domain.echo import without_echoes
from daemon.domain.mixed_reply import Mixed, contradiction
from daemon.domain.provider import Definition, ErrorPattern, Grant, Provider, Reach, Rotation
from daemon.domain.refusal import (
    Refusal,
    asks_to_slow_down,
    cause_of,
    code_of,
    hidden,
    is_error,
    refusal_of,
    says_not_dead,
)
from daemon.domain.reply import NoReply, Reply, retry_after
from daemon.domain.reply_body import Body, Parsed, parse
from daemon.domain.reuse import says_used_before
from daemon.domain.secret import Secret, masked, spellings
from daemon.domain.sender_constraint import is_sender_constrained
from daemon.domain.sign import any_shown, shown
from daemon.domain.token import Token
from daemon.domain.token_response import (
    access_end,
    consent_end,
    first,
    first_text,
    first_token,
    holds_refresh_token_elsewhere,
    kept,
    refresh_end,
    scope,
)
from daemon.domain.token_trace import brings_refresh_token, may_be_a_grant
from daemon.domain.token_url import redirect_target

_DEAD = frozenset({"invalid_grant"})
# One token's client or scope may differ from the others'; a client that nobody knows is everybody's.
_REACH = {
    "invalid_client": Concern.CLIENT,
    "unauthorized_client": Concern.PROVIDER,
    "unsupported_grant_type": Concern.PROVIDER,
    "invalid_scope": Concern.TOKEN,
}
# Whom the sign of a wrong client concerns.
_CONCERNS = {
    None: Concern.CLIENT,
    Reach.TOKEN: Concern.TOKEN,
    Reach.TENANT: Concern.TOKEN,
    Reach.PROVIDER: Concern.PROVIDER,
}
# Errors that are no dead grant, whatever a status alone says.
_OTHERS = frozenset({*_REACH, "temporarily_unavailable", "server_error", "slow_down"})
# With any other status invalid_grant isn't a verdict, unless a definition has a sign for it.
_GONE = 410  # RFC 9110 §15.5.11
_VERDICTS = frozenset({400, 401})
# Codes of refreshd\'s own trouble: nothing was sent.
OURS = frozenset({"not_kept", "too_late"})
_MOST_FIELDS = 64  # of a reply that are compared with those of others
# After an error that comes as a success: asking sooner can prolong a lock-out.
REFUSAL_WAIT = timedelta(minutes=2)


def read(provider: Provider, token: Token, reply: Reply | NoReply) -> Answer:
    """Return the meaning of `reply` for `token`. Total: every combination of bytes, status and headers yields
    an answer.
    """
    if isinstance(reply, NoReply):
        if reply.concerns is not None:
            return Misconfigured(code=reply.code, message=reply.message, concerns=reply.concerns)
        cause = Cause.OURS if reply.ours or reply.code in OURS else Cause.OUTAGE
        return Unavailable(code=reply.code, message=reply.message, in_doubt=reply.sent, cause=cause)
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    definition = provider.definition
    if not any(any_shown(definition, reply.status, body) for body in parsed.objects):
        granted = _granted(provider, token, reply, parsed)
        if granted is not None:
            return granted
    refused = _refused(provider, token, reply, parsed)
    return _withheld(provider, token, reply, parsed) or refused


def _granted(provider: Provider, token: Token, reply: Reply, parsed: Parsed) -> Granted | Unparsed | None:
    """Return the grant in a reply, whatever its status, because a discarded grant is lost. If the reply is
    truncated, its refresh token must be complete.
    """
    definition = provider.definition
    shape = definition.reply
    found = {
        (access, first_token(body, shape.refresh_token)): body
        for body in parsed.objects
        if (access := first_token(body, shape.access_token))
    }
    rotates = definition.grant_of(token.grant) is Grant.REFRESH_TOKEN
    if len(found) > 1:
        return Unparsed(code="ambiguous", message=f"HTTP {reply.status} with {len(found)} different grants")
    for (access, refresh), body in found.items():
        if not parsed.cut or (rotates and refresh):
            grant = _grant(
                definition, body, access=access, refresh=refresh, rotates=rotates, asked_at=reply.asked_at
            )
            return without_echoes(grant, token)
    return None


def _refused(
    provider: Provider, token: Token, reply: Reply, parsed: Parsed
) -> Rejected | Misconfigured | Unavailable:
    """Return the meaning of a reply without a grant. If the reply is truncated, only its status counts."""
    definition, success = provider.definition, 200 <= reply.status < 300
    if success and (parsed.cut or not (reply.whole or parsed.objects)):
        return Unavailable(code="cut_short", message="the reply ended before its end", in_doubt=True)
    bodies = () if parsed.cut else parsed.objects
    body = next(
        (one for one in bodies if is_error(definition, reply.status, one)), bodies[0] if bodies else {}
    )
    error = refusal_of(provider, token, reply.status, parsed, body)
    wait = retry_after(reply.retry_after, now=reply.asked_at)
    later = Unavailable(
        code=error.code,
        message=error.message,
        retry_after=wait,
        in_doubt=reply.status >= 500,
        throttled=asks_to_slow_down(reply.status, error.words),
        cause=cause_of(reply.status, error.name, error.words, body=body, page=parsed.is_page),
    )
    if (sign := shown(definition.unavailable, reply.status, body)) is not None:
        return _temporary(later, sign)
    if (sign := shown(definition.misconfigured, reply.status, body)) is not None:
        return Misconfigured(code=error.code, message=error.message, concerns=_CONCERNS[sign.reach])
    if reply.status == _GONE and definition.retires and definition.retires <= reply.asked_at.date():
        message = (
            f"{definition.title} was to retire on {definition.retires}: remove the provider, or set token_url"
        )
        return Misconfigured(code="retired", message=message, concerns=Concern.PROVIDER)
    if 300 <= reply.status < 400:
        return _moved(provider, token, reply)
    if _is_verdict(definition, reply, body, error) and not _contradicts(definition, bodies, error):
        if (mixed := contradiction(definition, bodies)) is not None:
            return _doubtful(later, mixed)
        return Rejected(code=error.code, message=error.message, used_before=says_used_before(error.words))
    return _by_standard(reply, parsed, body, error, later)


def _by_standard(
    reply: Reply, parsed: Parsed, body: Body, error: Refusal, later: Unavailable
) -> Misconfigured | Unavailable:
    """Return the meaning of a reply that has no sign of the definition and isn't a verdict: a wrong client, or
    a temporary failure.
    """
    if error.name in _REACH:
        return Misconfigured(code=error.code, message=error.message, concerns=_REACH[error.name])
    if error.name in _DEAD and reply.status not in _VERDICTS:
        note = f" (with HTTP {reply.status} this counts as a rejection only if the definition lists it)"
        return replace(later, message=later.message[: 300 - len(note)] + note)
    if not 200 <= reply.status < 300 or body.get("error") or error.name:
        return later
    return _no_grant(reply, parsed, body, later)


def _doubtful(later: Unavailable, mixed: Mixed) -> Unavailable:
    """Return the answer for a verdict that its own body contradicts."""
    note = " (its body also describes a temporary failure, so it does not count as a rejection)"
    return replace(
        later,
        message=later.message[: 300 - len(note)] + note,
        in_doubt=later.in_doubt or mixed is Mixed.BROKEN,
        cause=Cause.OUTAGE,
    )


def _temporary(later: Unavailable, sign: ErrorPattern) -> Unavailable:
    """Return a failure that the definition lists as temporary. If the definition gives a wait, it is a
    throttle.
    """
    waits = [wait for wait in (sign.wait, later.retry_after) if wait]
    return replace(
        later,
        in_doubt=later.in_doubt or sign.doubt,
        retry_after=max(waits, default=None),
        throttled=later.throttled or sign.wait is not None,
        cause=Cause.OUTAGE,
    )


def _is_verdict(definition: Definition, reply: Reply, body: Body, error: Refusal) -> bool:
    """Return whether the grant is dead: according to the definition, or to the standard with a status that
    the standard requires (RFC 6749 §5.2). Neither counts if the reply mentions waiting.
    """
    sign = shown(definition.rejected, reply.status, body)
    if sign is not None and not sign.field and (not body or error.name in _OTHERS):
        sign = (
            None  # a page with that status comes from a server in between, and a name says more than a status
        )
    if sign is None and not (error.name in _DEAD and reply.status in _VERDICTS):
        return False
    if sign is not None and reply.status in sign.status:
        return not says_not_dead(error.words)
    fails = reply.status == 429 or reply.status >= 500 or reply.retry_after is not None
    return not fails and not says_not_dead(error.words)


def _contradicts(definition: Definition, bodies: Sequence[Body], verdict: Refusal) -> bool:
    """Return whether another object of the reply names another error than `verdict`. Which one counts is unknown then."""
    return any(code_of(definition, one) not in ("", verdict.name) for one in bodies)


def _no_grant(reply: Reply, parsed: Parsed, body: Body, later: Unavailable) -> Unavailable:
    """Return the meaning of a success without a grant. An object is an error. Anything else is a page, and
    the provider behind it may have processed the request.
    """
    if body:
        return replace(later, rest=REFUSAL_WAIT)
    words = f": {later.message}" if later.message != _status(reply) else ""
    message = f"{_status(reply)} with {_kind(parsed)} instead of tokens{words}"[:300]
    return Unavailable(
        code="page", message=message, retry_after=later.retry_after, in_doubt=True, cause=Cause.PAGE
    )


def _kind(parsed: Parsed) -> str:
    if parsed.text is None:
        return "binary data"
    return "a page" if parsed.is_page else "a text" if parsed.text else "an empty body"


def _withheld(provider: Provider, token: Token, reply: Reply, parsed: Parsed) -> Unparsed | None:
    """Return the answer for a reply that isn't a grant but may contain the only copy of a token."""
    presented = spellings(
        secret.reveal() for secret in (token.refresh_token, token.access_token) if secret is not None
    )
    success = 200 <= reply.status < 300
    rotates = provider.definition.grant_of(token.grant) is Grant.REFRESH_TOKEN
    if rotates and brings_refresh_token(parsed, presented):
        code = "no_grant" if success else "error_with_token"
        content = "no grant that refreshd can parse" if success else "an error"
        return Unparsed(
            code=code,
            message=f"{_status(reply)}: {content}, and a refresh token that differs from the old one",
        )
    named = any(is_error(provider.definition, reply.status, body) for body in parsed.objects)
    if not success or named:
        return None
    if may_be_a_grant(parsed, presented, content_type=reply.content_type, size=len(reply.body)):
        return Unparsed(
            code="no_grant", message=f"{_status(reply)} that may contain a token but can't be parsed"
        )
    return None


def _moved(provider: Provider, token: Token, reply: Reply) -> Misconfigured:
    """Return the answer for a redirect. It is not followed: a refresh token is sent only to the URL of the
    definition.
    """
    where = redirect_target(provider, token.vars, reply.location)
    message = f"{_status(reply)}, without the new address of the token endpoint"
    if where is not None:
        place = masked(where.place, hidden(provider, token))
        whose = "" if where.is_known else ", which is not a host of this provider's definition"
        message = f"the token endpoint has moved to {place}{whose}: set token_url"
    return Misconfigured(code="moved", message=message, concerns=Concern.PROVIDER)


def _status(reply: Reply) -> str:
    return f"HTTP {reply.status}"


def _grant(
    definition: Definition, body: Body, *, access: str, refresh: str, rotates: bool, asked_at: datetime
) -> Granted | Unparsed:
    """Return the grant in a body that has these tokens. `rotates`: a refresh token was presented. Otherwise nothing
    else is replaced, and `refresh` means nothing.
    """
    shape = definition.reply
    granted = Granted(
        access_token=Secret(access),
        refresh_token=Secret(refresh) if rotates and refresh else None,
        token_type=first_text(body, shape.token_type) or None,
        scope=scope(first(body, shape.scope)),
        expires_at=access_end(definition, body, access=access, asked_at=asked_at),
        refresh_expires_at=refresh_end(definition, body, asked_at=asked_at) if rotates else None,
        consent_ends_at=consent_end(definition, body, asked_at=asked_at) if rotates else None,
        extra=kept(definition, body),
        fields=tuple(body) if len(body) <= _MOST_FIELDS else (),
    )
    if is_sender_constrained(granted.token_type):
        return Unparsed(
            code="sender_constrained",
            message=f"the new tokens are bound to a key (token_type {granted.token_type}), and refreshd can't prove possession of it",
            granted=granted,
        )
    if refresh or not rotates:
        return granted
    if holds_refresh_token_elsewhere(body):
        return Unparsed(
            code="refresh_token_elsewhere",
            message="the reply contains a refresh token in a field that the definition does not read",
            granted=granted,
        )
    if definition.rotation is Rotation.ALWAYS:
        return Unparsed(
            code="no_refresh_token",
            message="the reply contains no refresh token, although this provider always replaces it",
            granted=granted,
        )
    return granted
