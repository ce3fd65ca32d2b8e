"""A device code for an owner's consent (RFC 8628): asked for by this process, and shown to its operator.

The command needs the client's secret for that one request. The daemon presents the code.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daemon.adapters.mongo.admin.tokens import NoSuchToken
from daemon.commands.support.access import Access
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.output import Output, span
from daemon.commands.support.provider_requests import send
from daemon.commands.support.stdin_lines import Lines
from daemon.domain.device_flow import DeviceCode, NoDeviceCode, device_code_request, read_device_code
from daemon.domain.provider import Provider
from daemon.domain.reply import NoReply
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
    access: Access, output: Output, provider: Provider, name: str, *, consent: str
) -> None:
    """Ask whether the right account was connected, and remove the token unless the operator says so. Raises Failed."""
    _, account = await _consent_of(access, name)
    text = _question(token=name, provider=provider.name, account=account)
    output.note(f"{text} [y/N]")
    try:
        answer = await Lines().next()
    except asyncio.CancelledError:
        await asyncio.shield(_declined(access, provider, name, consent))
        raise
    if answer.strip().lower() not in ("y", "yes"):
        raise await _declined(access, provider, name, consent)


async def _declined(access: Access, provider: Provider, name: str, consent: str) -> Failed:
    """Remove the token of this consent, and return the failure to raise."""
    present, _ = await _consent_of(access, name)
    if present != consent:
        return Failed(
            f"the account was declined, but {name} has a newer consent by now, so nothing was removed"
        )
    await access.admin.remove(name)
    page = provider.definition.manage_url
    where = f", at {page}" if page else ""
    return Failed(
        f"the account was declined, so {name} was removed. Its grant stays valid at {provider.name} until its"
        f" owner withdraws it{where}"
    )


async def _consent_of(access: Access, name: str) -> tuple[object, object]:
    """Return the consent of a token and the provider's name for its account, or nothing if the token is gone."""
    try:
        return await access.admin.consent_of(name)
    except NoSuchToken:
        return None, None


def _question(*, token: str, provider: str, account: object) -> str:
    """Return the question whether the right account was connected."""
    if isinstance(account, str) and account:
        return f"{provider} names the account of {token}: {account}. Is that the account that you want to connect?"
    return (
        f"{provider} doesn't name the account of {token}. Has the right owner confirmed the consent to you?"
    )
