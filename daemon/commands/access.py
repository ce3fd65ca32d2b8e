"""`refreshd access`: the keys by which applications use `refreshd serve`. Each change is audited."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import typer

from daemon.adapters.mongo.admin.access_keys import AccessKeys, Issued, KeyRefused, NoSuchKey
from daemon.adapters.mongo.serving.access_keys import IllFormed
from daemon.commands.support.access import (
    known_providers,
    open_store,
    read_settings,
    refuse_misplaced,
    unknown_provider,
)
from daemon.commands.support.access_rights import Rights, Typed, read_rights
from daemon.commands.support.arguments import TokenId
from daemon.commands.support.column import Column
from daemon.commands.support.command import Audited, Command, Group
from daemon.commands.support.durations import read_duration
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given, say_unused
from daemon.commands.support.output import Output, moment, span
from daemon.domain.access_key import ANY, AccessKey, Verb
from daemon.domain.handle import handle_of
from daemon.domain.provider import Rate
from daemon.domain.token import token_id
from daemon.domain.visible import typed
from daemon.runtime.config.fields import format_duration
from daemon.runtime.config.settings import Settings

Result = TypeVar("Result")
OVERLAP = "1h"
_COLUMNS = (
    Column("Name"),
    Column("ID"),
    Column("State", width=8),
    Column("Ends", width=8),
    Column("Used", width=8),
    Column("Allows"),
)

app = typer.Typer(
    name="access",
    cls=Group,
    help="Create, list, rotate and revoke the keys by which applications get tokens.",
    epilog="refreshd access create billing --tokens 'xero:*' --can read",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the key.")]


# ---------------------------------------------------------------- create


@app.command(cls=Audited, epilog="refreshd access create billing --tokens 'xero:*' --can read --expires 90d")
def create(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Your name for the key and its successors.")],
    tokens: Annotated[
        list[str],
        typer.Option(
            metavar="ID|PROVIDER:*",
            help="The tokens that the key is for: IDs, or beginnings of IDs with a final *. Comma list, or repeatable.",
        ),
    ],
    can: Annotated[
        list[str],
        typer.Option(
            metavar="VERB",
            help=f"What the key allows: {', '.join(Verb)}. Comma list, or repeatable.",
        ),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=TEXT",
            help="Allow only tokens whose meta.NAME or subject is this text. Repeatable: all conditions must hold.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="The lifetime of the key, like 90d. Default: until it is revoked."
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="N/TIME",
            help="The highest number of requests in a time, like 60/1m. Default: access.rate.",
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="NETWORK",
            help="Allow only callers from this network, like 10.0.0.0/8. Comma list, or repeatable. Default: any network.",
        ),
    ] = None,
) -> int:
    """Create an access key, and print it once.

    Only a hash of the key is stored. What the options don't allow is denied.
    """
    options = given(ctx)
    rights = read_rights(
        Typed(
            name=name,
            tokens=tokens,
            can=can,
            where=where or (),
            networks=networks or (),
            rate=rate,
            expires=expires,
        )
    )
    output = Output(as_json=options.json)
    if rights.faults:
        for fault in rights.faults:
            output.failed(fault, Exit.USAGE)
        return Exit.USAGE
    settings = read_settings(options)
    for selector in rights.tokens:
        _check_provider(selector, settings)
    issued = asyncio.run(_create(settings, options, name, rights))
    _print(output, issued)
    if not output.as_json:
        output.note(f"{name} allows {_allowed(issued.key)}. It {_until(issued.key)}, and is not shown again.")
    return Exit.DONE


def _check_provider(selector: str, settings: Settings) -> None:
    """Refuse a misspelt provider. Raises Failed."""
    provider = selector.partition(":")[0]
    if selector != ANY and provider not in known_providers(settings):
        raise unknown_provider(provider, settings)


async def _create(settings: Settings, options: Options, name: str, rights: Rights) -> Issued:
    async with open_store(settings, reason=options.reason) as access:
        await refuse_misplaced(access)
        try:
            return await AccessKeys(access.mongo, access.audit).create(
                name,
                tokens=rights.tokens,
                can=rights.can,
                where=rights.where,
                networks=rights.networks,
                rate=rights.rate,
                lifetime=rights.lifetime,
            )
        except KeyRefused as why:
            raise Failed(str(why)) from None


# ---------------------------------------------------------------- list


@app.command("list", cls=Command, epilog="refreshd access list")
def list_keys(ctx: typer.Context) -> int:
    """List the access keys, including revoked and expired ones. No key is shown again.

    With --json, each line is one object.
    """
    options = given(ctx)
    asyncio.run(_list(read_settings(options), Output(as_json=options.json)))
    return Exit.DONE


async def _list(settings: Settings, output: Output) -> None:
    async with open_store(settings) as access:
        now = access.clock.now()
        found = [key async for key in AccessKeys(access.mongo, access.audit).all()]
    if output.as_json:
        for key in found:
            output.record(_listed(key, now))
    elif found:
        output.table(_COLUMNS, [_row(key, now) for key in found])
    else:
        output.note("No access key is stored here. `refreshd access create` creates one.")


def _listed(key: AccessKey | IllFormed, now: datetime) -> dict[str, object]:
    if isinstance(key, IllFormed):
        return {"id": key.id, "name": key.name, "state": _state(key, now), "why": key.why}
    return {
        **_record(key),
        "state": _state(key, now),
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "disabled_at": key.disabled_at,
    }


def _row(key: AccessKey | IllFormed, now: datetime) -> list[str]:
    if isinstance(key, IllFormed):
        return [key.name or "-", key.id, _state(key, now), "-", "-", f"nothing: {key.why}"]
    return [
        key.name,
        key.id,
        _state(key, now),
        moment(key.expires_at, now=now),
        moment(key.last_used_at, now=now),
        _allowed(key),
    ]


def _state(key: AccessKey | IllFormed, now: datetime) -> str:
    if isinstance(key, IllFormed):
        return "invalid"
    if key.revoked_at is not None:
        return "revoked"
    if key.disabled_at is not None:
        return "disabled"
    return "active" if key.is_valid(now) else "expired"


# ---------------------------------------------------------------- rotate, revoke, enable


@app.command(cls=Audited, epilog="refreshd access rotate billing --overlap 1d")
def rotate(
    ctx: typer.Context,
    *,
    name: Name,
    overlap: Annotated[
        Any,
        typer.Option(
            parser=read_duration,
            metavar="DURATION",
            show_default=False,
            help="How long the present key stays valid beside the new one. Default: 1h. 0s ends it immediately.",
        ),
    ] = OVERLAP,
) -> int:
    """Create a second key with the same rights and lifetime, print it, and end the present one after an overlap."""
    options = given(ctx)
    issued, ends_at = asyncio.run(_done(options, name, lambda keys: keys.rotate(name, overlap=overlap)))
    output = Output(as_json=options.json)
    _print(output, issued)
    if not output.as_json:
        now = issued.key.created_at or ends_at
        ends = f"ends within {span(ends_at - now)}" if ends_at > now else "has ended"
        output.note(
            f"{name}: the former key {ends}. The new key {_until(issued.key)}, and is not shown again."
        )
    return Exit.DONE


@app.command(cls=Audited, epilog="refreshd access revoke billing --reason 'found in a log'")
def revoke(ctx: typer.Context, *, name: Name) -> int:
    """Revoke all keys of a name, for good, including rotated ones whose overlap has not ended."""
    options = given(ctx)
    count = asyncio.run(_done(options, name, lambda keys: keys.revoke(name)))
    record = {"name": name, "action": "revoked", "keys": count}
    done = f"{count} key{'s' * (count != 1)} revoked" if count else "was revoked already"
    Output(as_json=options.json).result(record, f"{name}: {done}")
    return Exit.DONE


@app.command(cls=Audited, epilog="refreshd access enable billing")
def enable(ctx: typer.Context, *, name: Name) -> int:
    """Enable the keys of a name that a restored backup has brought back."""
    options = given(ctx)
    count = asyncio.run(_done(options, name, lambda keys: keys.enable(name)))
    record = {"name": name, "action": "enabled", "keys": count}
    done = f"{count} key{'s' * (count != 1)} enabled" if count else "was not disabled"
    Output(as_json=options.json).result(record, f"{name}: {done}")
    return Exit.DONE


async def _done(options: Options, name: str, deed: Callable[[AccessKeys], Awaitable[Result]]) -> Result:
    """Return the result of `deed` for an existing name. Raises Failed."""
    async with open_store(read_settings(options), reason=options.reason) as access:
        keys = AccessKeys(access.mongo, access.audit)
        try:
            return await deed(keys)
        except NoSuchKey:
            close = get_close_matches(name, await keys.names(), n=1)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise Failed(
                f"{name}: no access key has this name. {hint}`refreshd access list` shows them", Exit.USAGE
            ) from None
        except KeyRefused as why:
            raise Failed(str(why)) from None


# ---------------------------------------------------------------- handle


@app.command(cls=Command, epilog="refreshd access handle xero:company-7")
def handle(ctx: typer.Context, *, token: TokenId) -> int:
    """Print the handle of a token. OAuth libraries present it in place of the refresh token.

    A handle is the ID in another spelling. It is not a secret, and useless without an access key.
    """
    say_unused(ctx, "config", "env_file")
    provider, _, account = typed(token).partition(":")
    try:
        name = token_id(provider, account)
    except ValueError as why:
        raise Failed(
            f"{token} can't be a token's ID: {why}. Copy the ID from `refreshd list`", Exit.USAGE
        ) from None
    found = handle_of(name)
    Output(as_json=given(ctx).json).exact({"id": name, "handle": found}, found)
    return Exit.DONE


# ---------------------------------------------------------------- texts


def _print(output: Output, issued: Issued) -> None:
    text = issued.text.reveal()
    record = _record(issued.key)
    output.exact({"id": record["id"], "key": text, **record}, text)


def _record(key: AccessKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "tokens": list(key.tokens),
        "can": sorted(key.can),
        "where": dict(key.where),
        "expires_at": key.expires_at,
        "rate": _rate(key.rate) if key.rate else None,
        "from": [str(network) for network in key.networks],
    }


def _rate(rate: Rate) -> str:
    return f"{rate.count}/{format_duration(rate.per)}"


def _allowed(key: AccessKey) -> str:
    """Return what the key allows, in one line."""
    limits = (
        f" where {' and '.join(f'{name}={text}' for name, text in key.where.items())}" if key.where else "",
        f" from {', '.join(map(str, key.networks))}" if key.networks else "",
        f", at most {key.rate.count} times in {span(key.rate.per)}" if key.rate else "",
    )
    return f"{', '.join(sorted(key.can))} on {', '.join(key.tokens)}{''.join(limits)}"


def _until(key: AccessKey) -> str:
    if key.expires_at is None or key.created_at is None:
        return "never ends"
    return f"ends {moment(key.expires_at, now=key.created_at)}"
