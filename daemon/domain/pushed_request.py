"""Pushed authorization requests (RFC 9126), without I/O: the parameters go to the provider directly, and the browser
carries only a reference to them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from daemon.domain.authorization import Authorization, authorization_fields
from daemon.domain.provider import BodyFormat, Provider
from daemon.domain.refusal import refusal_of
from daemon.domain.reply import NoReply, Reply
from daemon.domain.reply_body import parse
from daemon.domain.request import Request, client_request
from daemon.domain.token import State, Token
from daemon.domain.token_response import first_text
from daemon.domain.token_url import NotSendable, completed_url, fills_host, is_allowed

_REQUEST_URI = re.compile(r"[\x21-\x7e]{1,2048}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPushed:
    """The provider has not taken the request. `code` and `message` are for people, masked."""

    code: str
    message: str = field(default="")


def pushed_request(
    provider: Provider, authorization: Authorization, variables: Mapping[str, str], *, now: datetime
) -> Request:
    """Return the request that pushes an authorization request (RFC 9126 §2.1). Raises NotSendable."""
    template = provider.definition.par_url
    if template is None:
        raise NotSendable(f"the definition of {provider.name} has no par_url")
    url = completed_url(provider, template, variables, name="URL of pushed requests")
    outside = fills_host(template) and not is_allowed(provider, url)
    return client_request(
        provider,
        method="POST",
        url=url,
        fields=authorization_fields(provider, authorization, variables),
        more_headers={},
        with_client=True,
        body_format=BodyFormat.FORM,
        public_only=outside and not provider.allow_private,
        variables=variables,
        now=now,
    )


def read_pushed(provider: Provider, reply: Reply | NoReply) -> str | NotPushed:
    """Return the request_uri in `reply` (RFC 9126 §2.2), or why there is none. Total."""
    if isinstance(reply, NoReply):
        return NotPushed(code=reply.code, message=reply.message)
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    body = parsed.objects[0] if len(parsed.objects) == 1 and not parsed.cut else {}
    request_uri = first_text(body, ("request_uri",))
    if 200 <= reply.status < 300 and _REQUEST_URI.fullmatch(request_uri):
        return request_uri
    sent = Token(id="", provider=provider.name, account="", state=State.ACTIVE, refresh_token=None)
    refusal = refusal_of(provider, sent, reply.status, parsed, body)
    return NotPushed(code=refusal.code, message=refusal.message)
