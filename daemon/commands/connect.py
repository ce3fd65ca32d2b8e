"""`refreshd connect`: an owner's consent in a browser, which the daemon exchanges for a token."""

import asyncio
import os
import secrets
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import uuid4

import typer

from daemon.adapters.mongo.admin.tokens import NoSuchToken
from daemon.adapters.mongo.consents import MongoConsents
from daemon.commands.support.access import (
    Access,
    configured_provider,
    open_store,
    read_settings,
    refuse_to_store,
    stored_id,
)
from daemon.commands.support.arguments import Yes, confirmation, provider_names
from daemon.commands.support.code_handover import follow_device, hand_over
from daemon.commands.support.command import Audited
from daemon.commands.support.device_consent import ask_for_code, question, show_code
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.loopback import DEFAULT_PORT, listening, redirect_uri
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.pairs import read_pairs
from daemon.commands.support.provider_requests import push
from daemon.commands.support.stdin_lines import Lines
from daemon.domain.authorization import (
    SECRET_BYTES,
    Authorization,
    Code,
    Denied,
    NotThisConsent,
    authorization_fields,
    authorization_url,
    new_authorization,
    query_of,
    read_callback,
    state_hash,
)
from daemon.domain.consent_request import WAITS_FOR, ConsentKind, ConsentRequest, ConsentResult, identified
from daemon.domain.provider import Provider
from daemon.domain.subject import fault_of_subject
from daemon.domain.token import token_id
from daemon.domain.token_url import NotSendable, token_url
from daemon.domain.visible import typed
from daemon.runtime.config.secret_places import STORE_ONLY, Use
from daemon.runtime.config.settings import Settings

_ASKING = STORE_ONLY | {
    Use.CLIENTS,
    Use.REQUESTS,
}  # where this process itself sends a request to the provider
_TRIES = 5  # wrong addresses in a row

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """The consent that is asked for, from the command line."""

    id: str
    provider: Provider
    scopes: tuple[str, ...]
    variables: Mapping[str, str]
    meta: Mapping[str, str]
    subject: str | None
    replace: bool
    port: int
    paste: bool
    device: bool
    asks: bool  # whether a device's owner was the right one


@app.command(cls=Audited, epilog="refreshd connect google anna@example.com --scope https://mail.google.com/")
def connect(
    ctx: typer.Context,
    *,
    provider: Annotated[
        str,
        typer.Argument(metavar="PROVIDER", autocompletion=provider_names, help="A configured provider."),
    ],
    account: Annotated[
        str,
        typer.Argument(
            metavar="ACCOUNT", help="Your name for the account. The token's ID is PROVIDER:ACCOUNT."
        ),
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE", help="A scope to ask for. Repeatable. Default: those of the definition."
        ),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A variable of the provider's URLs. Repeatable."),
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A note that is stored for your application. Repeatable."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The user or customer to whom the token belongs, as your application names them.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Allow another account at the provider than the one connected before."
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=1, max=65_535, help="The port of the callback, on this machine."),
    ] = DEFAULT_PORT,
    paste: Annotated[
        bool,
        typer.Option(
            "--paste",
            help="Read the address on which the browser ended from standard input, in place of a callback.",
        ),
    ] = False,
    device: Annotated[
        bool,
        typer.Option(
            "--device",
            help="Show a code that the owner enters at the provider, in any browser. No callback and no redirect URI are"
            " needed. You are asked whether the right account was connected.",
        ),
    ] = False,
    yes: Yes = False,
) -> int:
    """Connect an account: its owner consents in a browser, and the daemon stores the token.

    The provider sends the browser to http://127.0.0.1:8917/callback, which has to be registered there as a redirect URI.
    The token's ID is printed.
    """
    options = given(ctx)
    if device and paste:
        raise Failed("--device and --paste exclude each other. Give one of them", Exit.USAGE)
    asks = device and confirmation(yes=yes) is not None
    settings = read_settings(options, _ASKING if device else STORE_ONLY)
    configured = configured_provider(settings, provider)
    if configured.definition.par_url is not None and not device:
        settings = read_settings(options, _ASKING)
        configured = configured_provider(settings, provider)
    try:
        name = token_id(provider, account)
    except ValueError as why:
        raise Failed(str(why), Exit.USAGE) from None
    _refuse_impossible(configured, device=device)
    variables = read_pairs(var or [], "--var")
    for unknown in variables.keys() - configured.definition.variables.keys():
        fitting = ", ".join(configured.definition.variables) or "none"
        raise Failed(
            f"--var {unknown}: {provider} has no such variable. Its variables: {fitting}", Exit.USAGE
        )
    if subject is not None and (fault := fault_of_subject(typed(subject))):
        raise Failed(f"--subject: the value {fault}", Exit.USAGE)
    wish = _Wish(
        id=name,
        provider=configured,
        scopes=tuple(scope or ()),
        variables=variables,
        meta=read_pairs(meta or [], "--meta"),
        subject=typed(subject) if subject is not None else None,
        replace=replace,
        port=port,
        paste=paste,
        device=device,
        asks=asks,
    )
    asyncio.run(_connect(settings, options, wish))
    return Exit.DONE


def _refuse_impossible(provider: Provider, *, device: bool) -> None:
    """Refuse a provider at which no consent can be asked for. Raises Failed."""
    definition, key = provider.definition, "device_url" if device else "authorize_url"
    if getattr(definition, key) is None:
        other = device and definition.authorize_url is not None
        remedy = "Leave out --device" if other else "Store a token response with `refreshd add`"
        raise Failed(
            f"the definition of {provider.name} has no {key}, so refreshd can't ask for a consent there"
            f"{' with a device code' if device else ''}. {remedy}",
            Exit.CONFIG,
        )
    if not provider.client_id:
        raise Failed(
            f"{provider.name} has no client_id. Its renewals need none, but a consent does. Set"
            f" providers.{provider.name}.client_id",
            Exit.CONFIG,
        )


async def _connect(settings: Settings, options: Options, wish: _Wish) -> None:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        name = await stored_id(access, wish.id)
        await refuse_to_store(access)
        variables = {**await _stored_variables(access, name), **wish.variables}
        connected = _by_device if wish.device else _by_browser
        result = await connected(settings, access, wish, _Asked(output, name, variables))
        _print(output, name, result)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What both ways to a consent need. `name`: the token's id."""

    output: Output
    name: str
    variables: Mapping[str, str]


async def _by_browser(settings: Settings, access: Access, wish: _Wish, asked: _Asked) -> ConsentResult:
    """Ask for the consent in a browser, and hand the code over. Raises Failed."""
    authorization = _begun(wish, asked.variables)
    # Before the owner is asked: without this record, the consent would be in vain.
    await access.audit.note("connect", asked.name)
    pushed = await push(settings, access, wish.provider, authorization, asked.variables)
    url = authorization_url(wish.provider, authorization, asked.variables, request_uri=pushed)
    answer = _consented(asked.name, await _answer(wish, authorization, url, asked.output))
    variables = {**asked.variables, **answer.variables}
    _check_url(wish.provider, variables)
    request = replace(
        _request(access, wish, asked),
        code=answer.code,
        vars=variables,
        code_verifier=authorization.code_verifier,
        nonce=authorization.nonce,
        issuer=authorization.issuer,
        redirect_uri=authorization.redirect_uri,
        scopes=authorization.scopes,
    )
    hashed = state_hash(authorization.state.reveal())
    return await hand_over(_consents(access), identified(request), state_hash=hashed)


async def _by_device(settings: Settings, access: Access, wish: _Wish, asked: _Asked) -> ConsentResult:
    """Show a device code, let the daemon poll for its tokens, and ask whether they are the right account's. Raises
    Failed.
    """
    await access.audit.note("connect", asked.name)
    found = await ask_for_code(settings, access, wish.provider, scopes=wish.scopes, variables=asked.variables)
    show_code(asked.output, found.code, token=asked.name, provider=wish.provider.name)
    request = replace(
        _request(access, wish, asked),
        kind=ConsentKind.DEVICE,
        code=found.code.device_code,
        interval=found.code.interval,
        scopes=found.scopes,
        expires_at=access.clock.now() + found.code.life,
    )
    unused = state_hash(secrets.token_urlsafe(SECRET_BYTES))  # no callback belongs to this request
    stored = identified(request)
    result = await follow_device(_consents(access), stored, state_hash=unused, life=found.code.life)
    await _confirmed(access, wish, asked, stored.id)
    return result


async def _confirmed(access: Access, wish: _Wish, asked: _Asked, consent: str) -> None:
    """Ask whether the right account was connected, and remove the token unless the operator says so. Raises Failed."""
    if not wish.asks:
        return
    _, account = await _consent_of(access, asked.name)
    text = question(token=asked.name, provider=wish.provider.name, account=account)
    asked.output.note(f"{text} [y/N]")
    try:
        answer = await Lines().next()
    except asyncio.CancelledError:
        await asyncio.shield(_declined(access, wish, asked, consent))
        raise
    if answer.strip().lower() not in ("y", "yes"):
        raise await _declined(access, wish, asked, consent)


async def _declined(access: Access, wish: _Wish, asked: _Asked, consent: str) -> Failed:
    """Remove the token of this consent, and return the failure to raise."""
    present, _ = await _consent_of(access, asked.name)
    if present != consent:
        return Failed(
            f"the account was declined, but {asked.name} has a newer consent by now, so nothing was removed"
        )
    await access.admin.remove(asked.name)
    page = wish.provider.definition.manage_url
    where = f", at {page}" if page else ""
    return Failed(
        f"the account was declined, so {asked.name} was removed. Its grant stays valid at {wish.provider.name} until its"
        f" owner withdraws it{where}"
    )


async def _consent_of(access: Access, name: str) -> tuple[object, object]:
    """Return the consent of a token and the provider's name for its account, or nothing if the token is gone."""
    try:
        return await access.admin.consent_of(name)
    except NoSuchToken:
        return None, None


def _request(access: Access, wish: _Wish, asked: _Asked) -> ConsentRequest:
    """Return a request without any code. Its id is the beginning of the stored one."""
    return ConsentRequest(
        id=uuid4().hex,
        provider=wish.provider.name,
        account=asked.name.partition(":")[2],
        redirect_uri="",
        vars=asked.variables,
        subject=wish.subject,
        meta=wish.meta,
        replace=wish.replace,
        expires_at=access.clock.now() + WAITS_FOR,
    )


def _consents(access: Access) -> MongoConsents:
    return MongoConsents(access.mongo, owner="command", keyring=lambda: access.ring)


async def _stored_variables(access: Access, name: str) -> Mapping[str, str]:
    """Return the variables of the stored token, which a new consent keeps. Raises StoreLost."""
    try:
        stored = (await access.admin.get(name)).get("vars")
    except NoSuchToken:
        return {}
    return {k: v for k, v in stored.items() if isinstance(v, str)} if isinstance(stored, Mapping) else {}


def _begun(wish: _Wish, variables: Mapping[str, str]) -> Authorization:
    """Return a new authorization request, all of whose URLs can be completed. Raises Failed."""
    try:
        token_url(wish.provider, variables)
        authorization = new_authorization(
            wish.provider,
            random=secrets.token_bytes(3 * SECRET_BYTES),
            redirect_uri=redirect_uri(wish.port),
            scopes=wish.scopes,
        )
        # Whether it is pushed or not, the same addresses and values have to be sendable.
        authorization_url(wish.provider, authorization, variables, request_uri="urn:none")
        authorization_fields(wish.provider, authorization, variables)
    except NotSendable as why:
        remedy = (
            "Give it with --var NAME=VALUE" if "variable" in str(why) else "Correct --scope or the definition"
        )
        raise Failed(f"{why}. {remedy}", Exit.USAGE) from None
    else:
        return authorization


def _check_url(provider: Provider, variables: Mapping[str, str]) -> None:
    """Refuse variables of a callback that lead elsewhere. Raises Failed."""
    try:
        token_url(provider, variables)
    except NotSendable as why:
        raise Failed(
            f"the callback's variables can't be used: {why}. Nothing was exchanged. Start again"
        ) from None


async def _answer(wish: _Wish, authorization: Authorization, url: str, output: Output) -> Code | Denied:
    """Return the owner's answer. Raises Failed if there is none in time."""
    try:
        async with asyncio.timeout(WAITS_FOR.total_seconds()):
            if wish.paste:
                return await _pasted(authorization, url, output)
            return await _called_back(wish, authorization, url, output)
    except TimeoutError:
        minutes = WAITS_FOR.total_seconds() / 60
        raise Failed(f"no consent within {minutes:.0f} minutes. Start again") from None


async def _called_back(wish: _Wish, authorization: Authorization, url: str, output: Output) -> Code | Denied:
    async with AsyncExitStack() as closing:
        try:
            listener = await closing.enter_async_context(
                listening(lambda query: read_callback(query, authorization), wish.port)
            )
        except OSError as why:
            raise Failed(
                f"port {wish.port} can't be used ({why.strerror}). Choose another with --port, and register"
                f" {redirect_uri(wish.port)} with that port at the provider",
                Exit.HELD,
            ) from None
        output.note("Open this address in the owner's browser, and consent there:", url)
        await asyncio.to_thread(open_browser, url)
        return await listener.answer


async def _pasted(authorization: Authorization, url: str, output: Output) -> Code | Denied:
    """Read addresses from standard input until one belongs to this consent. Raises Failed."""
    output.note(
        "Open this address in the owner's browser, and consent there:",
        url,
        f"The browser ends on an address that begins with {authorization.redirect_uri} and may show an error. Paste that"
        " address here:",
    )
    lines = Lines()
    for _ in range(_TRIES):
        line = await lines.next()
        if not line:
            raise Failed("standard input ended before the address came. Start again, and paste it")
        try:
            return read_callback(query_of(line, authorization.redirect_uri), authorization)
        except NotThisConsent as why:
            output.note(f"refreshd: {why}. Paste the whole address on which the browser ended:")
    raise Failed("none of the addresses belongs to this consent. Start again")


def open_browser(url: str) -> None:
    """Open the owner's browser if this machine has one with windows. Otherwise the printed address has to do."""
    windows = sys.platform in ("darwin", "win32")
    if windows or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        webbrowser.open(url)


def _consented(name: str, answer: Code | Denied) -> Code:
    """Return the owner's consent. Raises Failed."""
    if isinstance(answer, Code):
        return answer
    words = f": {answer.message}" if answer.message else ""
    raise Failed(f"{name} was not connected ({answer.code}){words}. Start again if the owner agrees")


def _print(output: Output, name: str, result: ConsentResult) -> None:
    record = {
        "id": name,
        "state": "done",
        "scope": result.scope,
        "missing_scopes": list(result.missing_scopes),
        "expires_at": result.expires_at,
    }
    output.exact(record, name)
    if result.missing_scopes:
        output.note(f"refreshd: the owner has not granted {', '.join(result.missing_scopes)}")
    if not output.as_json:
        output.note("Connected.")
