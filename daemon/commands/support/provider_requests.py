"""Requests of `refreshd connect` to a provider before an owner's consent, under the daemon's rules for requests.

They carry the client's secret, which this process has, and no token.
"""

from collections.abc import Mapping
from datetime import timedelta

from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.commands.support.access import Access
from daemon.commands.support.failure import Exit, Failed
from daemon.domain.authorization import Authorization
from daemon.domain.provider import Provider
from daemon.domain.pushed_request import NotPushed, pushed_request, read_pushed
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.token_url import NotSendable
from daemon.runtime.config.settings import Settings

_SLACK = timedelta(seconds=5)  # beyond the time limit of a request, before it is given up


async def send(settings: Settings, access: Access, request: Request) -> Reply | NoReply:
    """Send one request, once."""
    endpoint = TokenEndpoint(
        clock=access.clock,
        timeout=settings.refresh.request_timeout,
        connections=1,
        may_start=lambda: True,
        proxy=settings.refresh.proxy,
    )
    try:
        deadline = access.clock.boot() + settings.refresh.request_timeout + _SLACK
        return await endpoint.send(request, deadline=deadline)
    finally:
        await endpoint.close()


async def push(
    settings: Settings,
    access: Access,
    provider: Provider,
    authorization: Authorization,
    variables: Mapping[str, str],
) -> str | None:
    """Push an authorization request (RFC 9126), and return the URI that stands for it; None if the definition has no
    par_url. Raises Failed.
    """
    if provider.definition.par_url is None:
        return None
    try:
        request = pushed_request(provider, authorization, variables, now=access.clock.now())
    except NotSendable as why:
        raise Failed(f"{why}. Correct --var or the definition", Exit.USAGE) from None
    reply = await send(settings, access, request)
    found = read_pushed(provider, reply)
    if isinstance(found, NotPushed):
        raise Failed(
            f"{provider.name} has not taken the authorization request ({found.code}): {found.message}. Check its client and"
            " the redirect URI",
            Exit.UNAVAILABLE if isinstance(reply, NoReply) else Exit.FAILED,
        )
    return found
