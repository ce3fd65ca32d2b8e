"""`refreshd connect`: an owner's consent in a browser, which the daemon exchanges for a token."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import uuid4

import typer

from daemon.adapters.mongo.connecting.consents import MongoConsents
from daemon.commands.support.access import (
    Access,
    configured_provider,
    open_store,
    read_settings,
    refuse_to_store,
    stored_id,
)
from daemon.commands.support.account import (
    AccountName,
    AccountNotes,
    Meta,
    ProviderName,
    Subject,
    Variables,
    read_account,
    stored_variables,
)
from daemon.commands.support.arguments import Yes, confirmation
from daemon.commands.support.browser_consent import owners_answer
from daemon.commands.support.code_handover import follow_device, hand_over
from daemon.commands.support.command import Audited
from daemon.commands.support.device_consent import ask_for_code, confirm_account, show_code
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.loopback import DEFAULT_PORT, redirect_uri
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.provider_requests import push
from daemon.domain.authorization import (
    SECRET_BYTES,
    Authorization,
    Code,
    Denied,
    authorization_fields,
    authorization_url,
    code_challenge,
    new_authorization,
    state_hash,
)
from daemon.domain.consent_request import (
    WAITS_FOR,
    ConsentKind,
    ConsentProgress,
    ConsentRequest,
    ConsentResult,
    identified,
)
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof, hashed
from daemon.domain.token_url import NotSendable, token_url
from daemon.runtime.config.secret_places import STORE_ONLY, Use
from daemon.runtime.config.settings import Settings

_ASKING = STORE_ONLY | {
    Use.CLIENTS,
    Use.REQUESTS,
}  # where this process itself sends a request to the provider

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ConnectArguments:
    """The consent that is asked for, from the command line."""

    notes: AccountNotes
    provider: Provider
    scopes: tuple[str, ...]
    replace: bool
    port: int
    paste: bool
    device: bool
    asks: bool  # whether a device's owner was the right one


@app.command(cls=Audited, epilog="refreshd connect google anna@example.com --scope https://mail.google.com/")
def connect(
    ctx: typer.Context,
    *,
    provider: ProviderName,
    account: AccountName,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE", help="A scope to ask for. Repeatable. Default: those of the definition."
        ),
    ] = None,
    var: Variables = None,
    meta: Meta = None,
    subject: Subject = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Accept another account at the provider than the one connected before."
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
            help="Read the address that the browser has reached from standard input, instead of waiting for a callback.",
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

    The provider sends the browser to http://127.0.0.1:8917/callback. Register that address there as a redirect URI.
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
    _refuse_impossible(configured, device=device)
    arguments = _ConnectArguments(
        notes=read_account(configured, account, variables=var, meta=meta, subject=subject),
        provider=configured,
        scopes=tuple(scope or ()),
        replace=replace,
        port=port,
        paste=paste,
        device=device,
        asks=asks,
    )
    asyncio.run(_connect(settings, options, arguments))
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


async def _connect(settings: Settings, options: Options, arguments: _ConnectArguments) -> None:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        name = await stored_id(access, arguments.notes.id)
        await refuse_to_store(access)
        variables = {**await stored_variables(access, name), **arguments.notes.variables}
        connected = _by_device if arguments.device else _by_browser
        result = await connected(settings, access, arguments, _Asked(output, name, variables))
        _print(output, name, result)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What both ways to a consent need. `name`: the token's id."""

    output: Output
    name: str
    variables: Mapping[str, str]


async def _by_browser(
    settings: Settings, access: Access, arguments: _ConnectArguments, asked: _Asked
) -> ConsentResult:
    """Ask for the consent in a browser, and hand the code over. Raises Failed."""
    authorization = _begun(arguments, asked.variables)
    # Before the owner is asked: without this record, the consent would be in vain.
    await access.audit.note("connect", asked.name)
    pushed = await push(settings, access, arguments.provider, authorization, asked.variables)
    url = authorization_url(arguments.provider, authorization, asked.variables, request_uri=pushed)
    answer = _consented(
        asked.name,
        await owners_answer(authorization, url, asked.output, port=arguments.port, paste=arguments.paste),
    )
    variables = {**asked.variables, **answer.variables}
    _check_url(arguments.provider, variables)
    request = replace(
        _request(access, arguments, asked),
        code=answer.code,
        vars=variables,
        code_verifier=authorization.code_verifier,
        nonce=authorization.nonce,
        issuer=authorization.issuer,
        redirect_uri=authorization.redirect_uri,
        scopes=authorization.scopes,
    )
    state = state_hash(authorization.state.reveal())
    return await hand_over(_consents(access), identified(request), state_hash=state)


async def _by_device(
    settings: Settings, access: Access, arguments: _ConnectArguments, asked: _Asked
) -> ConsentResult:
    """Show a device code, let the daemon poll for its tokens, and ask whether they are the right account's before they are
    stored. Raises Failed.
    """
    await access.audit.note("connect", asked.name)
    found = await ask_for_code(
        settings, access, arguments.provider, scopes=arguments.scopes, variables=asked.variables
    )
    show_code(asked.output, found.code, token=asked.name, provider=arguments.provider.name)
    request = replace(
        _request(access, arguments, asked),
        kind=ConsentKind.DEVICE,
        code=found.code.device_code,
        interval=found.code.interval,
        scopes=found.scopes,
        expires_at=access.clock.now() + found.code.life,
    )
    unused = state_hash(secrets.token_urlsafe(SECRET_BYTES))  # no callback belongs to this request
    consents, life = _consents(access), found.code.life
    if not arguments.asks:
        return await follow_device(consents, identified(request), state_hash=unused, life=life)
    connect_code, verifier = (Secret(secrets.token_urlsafe(SECRET_BYTES)) for _ in range(2))
    proof = Proof(connect_code=connect_code, code_verifier=verifier)
    bound = identified(
        replace(
            request,
            code_challenge=code_challenge(proof.code_verifier),
            connect_code_hash=hashed(proof.connect_code),
        )
    )
    page = arguments.provider.definition.manage_url

    async def confirm(held: ConsentProgress) -> None:
        await confirm_account(
            access, consents, asked.output, bound, proof=proof, account=held.account, page=page
        )

    return await follow_device(consents, bound, state_hash=unused, life=life, confirm=confirm)


def _request(access: Access, arguments: _ConnectArguments, asked: _Asked) -> ConsentRequest:
    """Return a request without any code. Its id is the beginning of the stored one."""
    return ConsentRequest(
        id=uuid4().hex,
        provider=arguments.provider.name,
        account=asked.name.partition(":")[2],
        redirect_uri="",
        vars=asked.variables,
        subject=arguments.notes.subject,
        meta=arguments.notes.meta,
        replace=arguments.replace,
        expires_at=access.clock.now() + WAITS_FOR,
    )


def _consents(access: Access) -> MongoConsents:
    return MongoConsents(access.mongo, owner="command", keyring=lambda: access.ring)


def _begun(arguments: _ConnectArguments, variables: Mapping[str, str]) -> Authorization:
    """Return a new authorization request, all of whose URLs can be completed. Raises Failed."""
    try:
        token_url(arguments.provider, variables)
        authorization = new_authorization(
            arguments.provider,
            random=secrets.token_bytes(3 * SECRET_BYTES),
            redirect_uri=redirect_uri(arguments.port),
            scopes=arguments.scopes,
        )
        # Whether it is pushed or not, the same addresses and values have to be sendable.
        authorization_url(arguments.provider, authorization, variables, request_uri="urn:none")
        authorization_fields(arguments.provider, authorization, variables)
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
