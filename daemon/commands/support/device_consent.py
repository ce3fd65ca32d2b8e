"""A device code for an owner's consent (RFC 8628): asked for by this process, and shown to its operator.

The command needs the client's secret for that one request. The daemon presents the code.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.adapters.mongo.connecting.unfinished_consents import UnfinishedConsents
from daemon.commands.support.access import Access
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.output import Output, span
from daemon.commands.support.provider_requests import send
from daemon.commands.support.stdin_lines import Lines
from daemon.domain.consent_request import Completion, ConsentRequest
from daemon.domain.device_flow import DeviceCode, NoDeviceCode, device_code_request, read_device_code
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply
from daemon.domain.session_proof import Proof
from daemon.domain.token_url import NotSendable
from daemon.runtime.config.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthorization:
    """A device code, and the scopes that were asked for with it."""

    code: DeviceCode
    scopes: tuple[str, ...]


async def ask_for_code(
    settings: Settings,
    access: Access,
    provider: Provider,
    *,
    scopes: Sequence[str],
    variables: Mapping[str, str],
) -> DeviceAuthorization:
    """Ask `provider` for a device code. Raises Failed."""
    try:
        request, chosen = device_code_request(
            provider, scopes=scopes, variables=variables, now=access.clock.now()
        )
    except NotSendable as why:
        raise Failed(f"{why}. Correct --scope, --var or the definition", Exit.USAGE) from None
    reply = await send(settings, access, request)
    found = read_device_code(provider, reply)
    if isinstance(found, NoDeviceCode):
        raise Failed(
            f"{provider.name} has issued no device code ({found.code}): {found.message}. Check that its client may use the"
            " device flow",
            Exit.UNAVAILABLE if isinstance(reply, NoReply) else Exit.FAILED,
        )
    return DeviceAuthorization(code=found, scopes=chosen)


def show_code(output: Output, code: DeviceCode, *, token: str, provider: str) -> None:
    """Show the code, and which account its owner is to choose."""
    output.note(
        f"This consent becomes the token {token}. Let the owner of that account at {provider} open this page:",
        code.page,
        "and enter this code there:",
        code.user_code,
    )
    if code.complete_page is not None:
        output.note("The same page with the code filled in:", code.complete_page)
    output.note(
        f"The code is valid for {span(code.life)}. The person who enters it connects their own account: send it to the owner only."
    )


async def confirm_account(
    access: Access,
    consents: MongoConsents,
    output: Output,
    request: ConsentRequest,
    *,
    proof: Proof,
    account: str | None,
    page: str | None,
) -> None:
    """Ask whether the right account was connected, and complete the consent if the operator says so. Otherwise its grant is
    given up. `account`: the provider's name for it. `page`: where its owner can end the grant. Raises Failed.
    """
    text = _question(token=request.token, provider=request.provider, account=account)
    output.note(f"{text} [y/N]")
    unfinished = UnfinishedConsents(access.mongo)
    try:
        answer = await Lines().next()
    except asyncio.CancelledError:
        await asyncio.shield(unfinished.end([request.id]))
        raise
    if answer.strip().lower() not in ("y", "yes"):
        await unfinished.end([request.id])
        where = f" at {page}" if page else ""
        raise Failed(
            f"the account was declined, so nothing was stored, and {request.token} is as it was. The daemon revokes the new"
            f" grant at {request.provider}, unless that could end a stored one. Its owner can withdraw it too{where}"
        )
    if await consents.complete(request.id, key=None, proof=proof) is not Completion.TAKEN:
        raise Failed("the answer came too late: the grant is held for ten minutes. Start again")


def _question(*, token: str, provider: str, account: str | None) -> str:
    """Return the question whether the right account was connected."""
    if account:
        return f"{provider} names the account of {token}: {account}. Is that the account that you want to connect?"
    return (
        f"{provider} doesn't name the account of {token}. Has the right owner confirmed the consent to you?"
    )
