"""`refreshd add`: store an owner's consent. Secrets come in by standard input only."""

import asyncio
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

import typer

from daemon.adapters.mongo.admin.consents import Added, Refused
from daemon.adapters.mongo.index_build import index_grants
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
from daemon.commands.support.command import Audited
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output, moment
from daemon.commands.support.terminal import say
from daemon.domain.assertion import stated_claims
from daemon.domain.consent import Consent, ConsentInvalid, read_consent
from daemon.domain.due import Moment, Timing
from daemon.domain.expiry import end_of
from daemon.domain.new_token import new_token
from daemon.domain.provider import Grant, Provider
from daemon.domain.token import Token
from daemon.domain.token_url import NotSendable, token_url
from daemon.runtime.config.settings import Settings

LARGEST_INPUT = 1 << 20  # bytes; a token response has some thousand
_EXAMPLE = 'like {"access_token": "...", "refresh_token": "...", "expires_in": 3600}'

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class _AddRequest:
    """The token to add, from the command line and standard input."""

    notes: AccountNotes
    provider: Provider
    body: Mapping[str, object] = field(repr=False)
    received_at: str | None


@app.command(cls=Audited, epilog="refreshd add xero company-7 < response.json")
def add(
    ctx: typer.Context,
    *,
    provider: ProviderName,
    account: AccountName,
    received_at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The time at which the provider sent the response, like 2026-01-31T12:00:00Z. Default: now.",
        ),
    ] = None,
    var: Variables = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The expiry of a key that can't be renewed, like 2026-12-31T12:00:00Z. Default: as the response says.",
        ),
    ] = None,
    meta: Meta = None,
    subject: Subject = None,
) -> int:
    """Store the token response on standard input as an account's token.

    The response is the provider's JSON. The token's ID is printed. If the provider's tokens can't be renewed, it may
    also be the bare API key.

    If the ID is already stored, the response replaces its token, which becomes active again. A refresh token that is
    stored under another ID is refused.
    """
    options = given(ctx)
    settings = read_settings(options)
    configured = configured_provider(settings, provider)
    notes = read_account(configured, account, variables=var, meta=meta, subject=subject)
    request = _AddRequest(
        notes=notes,
        provider=configured,
        received_at=received_at,
        body=_with_end(_standard_input(configured), expires, configured),
    )
    asyncio.run(_add(settings, options, request))
    return Exit.DONE


async def _add(settings: Settings, options: Options, request: _AddRequest) -> None:
    async with open_store(settings, reason=options.reason) as access:
        name = await stored_id(access, request.notes.id)
        await _check_variables(access, name, request)
        await refuse_to_store(access)
        await index_grants(access.mongo)
        now = access.clock.now()
        received_at = _received(request.received_at, now)
        try:
            consent = read_consent(
                request.provider.definition, request.body, received_at=received_at, now=now
            )
        except ConsentInvalid as why:
            raise Failed(f"standard input: {why}") from None
        timing = Timing(window=settings.refresh.window, jitter=settings.refresh.jitter)
        token = new_token(
            name,
            request.provider,
            consent,
            variables=request.notes.variables,
            moment=Moment(now, random.random(), timing),
        )
        try:
            added = await access.admin.add(
                token, extra=consent.extra, meta=request.notes.meta, subject=request.notes.subject
            )
        except Refused as why:
            raise Failed(str(why)) from None
        _print(Output(as_json=options.json), added, token, consent, now=now)


async def _check_variables(access: Access, name: str, request: _AddRequest) -> None:
    """Check that the token URL is complete. At a re-consent, the stored variables are used too. Raises Failed."""
    try:
        complete = {**await stored_variables(access, name), **request.notes.variables}
        url = token_url(request.provider, complete)
        if request.provider.definition.assertion is not None:
            stated_claims(request.provider, complete, audience=url)
    except NotSendable as why:
        raise Failed(f"{why}. Give it with --var NAME=VALUE", Exit.USAGE) from None


def _print(output: Output, added: Added, token: Token, consent: Consent, *, now: datetime) -> None:
    """Print the ID to standard output, for programs, and the rest to standard error."""
    record = {
        "id": added.id,
        "replaced": added.replaced,
        "revision": added.revision,
        "expires_at": token.expires_at,
        "due_at": token.due_at,
        "not_understood": list(consent.unclear),
    }
    output.exact(record, added.id)
    done = "Replaced what was stored; it is active again" if added.replaced else "Added"
    for name in consent.unclear:
        output.note(f"refreshd: the response's {name!r} has an unknown form, so it is ignored")
    if token.due_at is None:
        why = "It has no refresh token, so it" if token.refresh_token is None else "It"
        output.note(f"{done}. {why} can't be renewed and is only watched.")
    elif not output.as_json:
        output.note(f"{done}. {_when(token, now=now)}")


def _when(token: Token, *, now: datetime) -> str:
    if token.due_at is not None and token.due_at > now:
        return f"It is renewed {moment(token.due_at, now=now)}."
    if token.access_token is None:
        return "It is renewed now."
    if token.expires_at is not None and token.expires_at <= now:
        return f"Its access token ended {moment(token.expires_at, now=now)}, so it is renewed now."
    return "The response doesn't say clearly when its access token ends, so it is renewed now."


def _received(text: str | None, now: datetime) -> datetime:
    if text is None:
        return now
    at = end_of(text, asked_at=now)
    if at is None:
        raise Failed(
            "--received-at: the value is not an instant. Write one like 2026-01-31T12:00:00Z, or seconds since 1970",
            Exit.USAGE,
        )
    return at


def _with_end(body: Mapping[str, object], expires: str | None, provider: Provider) -> Mapping[str, object]:
    """Return the response with the end that the operator states."""
    if expires is None:
        return body
    if provider.definition.grant is not Grant.NONE:
        raise Failed(
            f"--expires: {provider.name} renews its tokens, so the response says when they end", Exit.USAGE
        )
    return {**body, "expires_at": expires}


def _standard_input(provider: Provider) -> Mapping[str, object]:
    """The object on standard input. No message quotes any of it."""
    if sys.stdin.isatty():
        say("Paste the provider's token response (JSON), then press Ctrl-D.")
    content = sys.stdin.buffer.read(LARGEST_INPUT + 1)
    if len(content) > LARGEST_INPUT:
        raise Failed(
            "standard input: it has more than a mebibyte, which is too much for a token response. Give one token response"
        )
    if not content.strip():
        raise Failed(f"standard input: it is empty. Give the provider's token response, {_EXAMPLE}")
    if provider.definition.grant is Grant.NONE and (key := _bare_key(content)) is not None:
        return {"access_token": key}
    try:
        body = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Failed(
            f"standard input: it is not JSON. Give the provider's token response, {_EXAMPLE}"
        ) from None
    if not isinstance(body, dict):
        raise Failed(f"standard input: it is not a JSON object. Give one token response, {_EXAMPLE}")
    return body


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return the object of `pairs`. Raises Failed if a name has two values, since either may be the current one."""
    found: dict[str, object] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise Failed(
                "standard input: it gives a name twice, with different values. Give the provider's response as it came"
            )
    return found


def _bare_key(content: bytes) -> str | None:
    """Return the key if it is on standard input alone: one word that isn't JSON."""
    try:
        key = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None
    return None if key.startswith(("{", "[", '"')) or len(key.split()) != 1 else key
