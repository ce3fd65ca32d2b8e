"""The reply to an authorization code: the grant in it, or the reason that nothing is stored.

A code is presented once, so a reply that can't be read is kept for operators and never asked for again.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from daemon.domain.consent import Consent, ConsentInvalid, read_consent
from daemon.domain.consent_ends import read_ends
from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind, ConsentRequest
from daemon.domain.held_grant import DiscardedGrant
from daemon.domain.provider import Definition, Grant, Provider
from daemon.domain.refusal import is_error, refusal_of
from daemon.domain.reply import NoReply, Reply
from daemon.domain.reply_body import Body, Parsed, parse
from daemon.domain.secret import Secret
from daemon.domain.sign import any_shown
from daemon.domain.token import State, Token
from daemon.domain.token_response import at_path, first_text, first_token, text

ID_TOKEN = "id_token"  # noqa: S105  a name
LONGEST_ACCOUNT = 512  # characters of a provider's name for an account
_OF_CLIENT = frozenset({"invalid_client", "unauthorized_client"})  # RFC 6749 §5.2
_CHECK_CLIENT = "The provider refuses this client: check its ID, its secret and its allowed flows"
_LONGEST_ID_TOKEN = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeGrant:
    """The grant to which a code has led. `account`: the provider's name for the owner's account, if the definition
    names its place.
    """

    consent: Consent
    account: str | None
    missing_scopes: tuple[str, ...]


def read_code_reply(
    provider: Provider,
    request: ConsentRequest,
    reply: Reply | NoReply,
    *,
    now: datetime,
) -> CodeGrant | ConsentFailure:
    """Return the grant in `reply`, or why there is none that can be stored. Total, as `dialect.read` is."""
    if isinstance(reply, NoReply):
        message = f"{reply.message}. {_start_again(reply)}"
        return _failed(ConsentFailureKind.UNAVAILABLE, message, code=reply.code)
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    found = _grants(provider.definition, reply, parsed)
    if len(found) > 1 or (found and parsed.cut):
        why = "is not complete" if parsed.cut else f"contains {len(found)} different grants"
        return _failed(ConsentFailureKind.UNPARSED, f"HTTP {reply.status}: the reply {why}")
    if not found:
        return _refused(provider, request, reply, parsed)
    return _bound(provider.definition, request, found[0], reply, now=now)


def grant_in(provider: Provider, reply: Reply | NoReply) -> DiscardedGrant | None:
    """Return the tokens in `reply`, whether or not they can be stored, or None if there are none or several grants."""
    if isinstance(reply, NoReply):
        return None
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    found = _grants(provider.definition, reply, parsed)
    if len(found) != 1 or parsed.cut:
        return None
    body, shape = found[0], provider.definition.reply
    refresh, access = first_token(body, shape.refresh_token), first_token(body, shape.access_token)
    return DiscardedGrant(
        access_token=Secret(access),
        refresh_token=Secret(refresh) if refresh else None,
        account=account_of(provider.definition, body, _claims_of(first_text(body, (ID_TOKEN,)))),
        expires_at=read_ends(
            provider.definition, body, access_token=access, received_at=reply.asked_at
        ).access,
    )


def _grants(definition: Definition, reply: Reply, parsed: Parsed) -> list[Body]:
    """Return the different grants in a reply. None if the definition recognizes an error in it."""
    if any(any_shown(definition, reply.status, body) for body in parsed.objects):
        return []
    shape = definition.reply
    found = {
        (access, first_token(body, shape.refresh_token)): body
        for body in parsed.objects
        if (access := first_token(body, shape.access_token))
    }
    return list(found.values())


def _refused(provider: Provider, request: ConsentRequest, reply: Reply, parsed: Parsed) -> ConsentFailure:
    bodies = () if parsed.cut else parsed.objects
    errors = [one for one in bodies if is_error(provider.definition, reply.status, one)]
    body = (errors or list(bodies) or [{}])[0]
    refusal = refusal_of(provider, _presented(provider, request), reply.status, parsed, body)
    success = 200 <= reply.status < 300
    kind = ConsentFailureKind.UNPARSED if success and not errors else ConsentFailureKind.REFUSED
    message = f"{refusal.message[:200]}. {_CHECK_CLIENT}" if refusal.name in _OF_CLIENT else refusal.message
    return _failed(kind, message, code=refusal.code)


def _presented(provider: Provider, request: ConsentRequest) -> Token:
    """Return a token with the secrets that were sent, which a refusal may repeat and which are masked in it."""
    return Token(
        id=request.token,
        provider=provider.name,
        account=request.account,
        state=State.ACTIVE,
        refresh_token=request.code,
        access_token=request.code_verifier,
    )


def _bound(
    definition: Definition, request: ConsentRequest, body: Body, reply: Reply, *, now: datetime
) -> CodeGrant | ConsentFailure:
    """Return the grant in `body`, checked against the request."""
    claims = _claims_of(first_text(body, (ID_TOKEN,)))
    if claims is not None and request.nonce is not None and claims.get("nonce") != request.nonce:
        message = "the ID token answers another request: start again"
        return _failed(ConsentFailureKind.NONCE, message)
    try:
        consent = read_consent(definition, body, received_at=min(reply.asked_at, now), now=now)
    except ConsentInvalid as why:
        return _failed(ConsentFailureKind.UNUSABLE, str(why))
    if consent.refresh_token is None and _expects_refresh_token(definition, consent):
        return _failed(ConsentFailureKind.NO_REFRESH_TOKEN, _no_refresh_token(definition))
    return CodeGrant(
        consent=consent,
        account=account_of(definition, body, claims),
        missing_scopes=missing_scopes(definition, request.scopes, consent.scope),
    )


def _expects_refresh_token(definition: Definition, consent: Consent) -> bool:
    """Return whether a grant without a refresh token is useless: its access token ends, and nothing renews it."""
    if definition.grant is not Grant.REFRESH_TOKEN:
        return False
    return consent.expires_at is not None or definition.access_lifetime is not None


def account_of(definition: Definition, body: Body, claims: Mapping[str, object] | None) -> str | None:
    """Return the provider's name for the account of a grant, or None if it is unknown."""
    path = definition.account_from
    if path is None:
        return None
    inside, _, claim = path.partition(".")
    value = at_path(claims or {}, claim) if inside == ID_TOKEN and claim else at_path(body, path)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return text(value)[:LONGEST_ACCOUNT] or None


def missing_scopes(definition: Definition, asked: tuple[str, ...], granted: str | None) -> tuple[str, ...]:
    """Return those of the scopes `asked` that were not granted. A response without a scope grants all
    (RFC 6749 §5.1).
    """
    if granted is None:
        return ()
    separator = definition.scope_separator
    held = set(granted.split()) | set(granted.split(separator)) | set(granted.replace(",", " ").split())
    return tuple(scope for scope in asked if scope not in held)


def _claims_of(id_token: str) -> Mapping[str, object] | None:
    """Return the claims of an ID token that came from the token endpoint itself. TLS stands for its signature
    (OpenID Connect Core §3.1.3.7).
    """
    parts = id_token.split(".")
    if len(parts) != 3 or len(id_token) > _LONGEST_ID_TOKEN:
        return None
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _failed(kind: ConsentFailureKind, message: str, *, code: str = "") -> ConsentFailure:
    return ConsentFailure(kind=kind, message=message[:300], code=code)


def _no_refresh_token(definition: Definition) -> str:
    """Return what to change, in the definition's words if it has any, and where the owner withdraws a former consent."""
    hint = definition.consent_hint or "Ask for offline access."
    page = f" ({definition.manage_url})" if definition.manage_url else ""
    return f"the provider has sent no refresh token. {hint} Withdraw a former consent there{page}, and start again"


def _start_again(reply: NoReply) -> str:
    return (
        "The code may have been used, so it is not presented again: start again"
        if reply.sent
        else "Nothing was sent: start again"
    )
