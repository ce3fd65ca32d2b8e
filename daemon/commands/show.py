"""`refreshd show`: one token. Never a secret, but for the one that `--reveal` names, and that is audited."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import typer

from daemon.adapters.keyring import DecryptionError
from daemon.adapters.mongo.admin.consents import Refused
from daemon.adapters.mongo.admin.lookup import SHOWN_FIELDS, NoSuchToken
from daemon.adapters.mongo.pause_author import pause_author
from daemon.commands.support.access import (
    Access,
    known_providers,
    open_store,
    read_settings,
    stored_id,
)
from daemon.commands.support.arguments import TokenId
from daemon.commands.support.command import Audited
from daemon.commands.support.failure import Exit, Failed, no_such_token
from daemon.commands.support.options import Options, given, say_unused
from daemon.commands.support.output import Output, moment, plain
from daemon.commands.support.token_texts import failure_text, record
from daemon.domain.stored_grant import GONE, REMOVED, PausedBy
from daemon.runtime.config.settings import Settings

_REMAINS = {
    True: "a daemon deletes this document soon",
    False: "its tokens are deleted; this document keeps an old copy of them from being stored again",
}

_PAUSED = {
    PausedBy.OPERATOR: "by an operator",
    PausedBy.APPLICATION: "by its application",
    PausedBy.DAEMON: "by refreshd, for the last failure",
    PausedBy.IMPORT: "since its import, until `refreshd import ... --activate` takes it over",
}

app = typer.Typer()


@app.command(cls=Audited, epilog="refreshd show xero:company-7")
def show(
    ctx: typer.Context,
    *,
    name: TokenId,
    reveal: Annotated[
        Literal["access_token", "refresh_token"] | None,
        typer.Option(help="Print this secret instead. This is recorded in the audit."),
    ] = None,
) -> int:
    """Show one token. Secrets stay hidden unless you pass --reveal."""
    options = given(ctx)
    if reveal is None:
        say_unused(ctx, "reason", effect="has no effect without --reveal")
    settings = read_settings(options)
    if ":" not in name:
        like = f"{name}:ACCOUNT" if name in known_providers(settings) else "xero:company-7"
        raise Failed(
            f"{name!r} is not a token's ID. Give the whole ID, PROVIDER:ACCOUNT, like {like}",
            Exit.USAGE,
        )
    asyncio.run(_show(settings, options, name, reveal))
    return Exit.DONE


async def _show(settings: Settings, options: Options, name: str, reveal: str | None) -> None:
    output = Output(as_json=options.json)
    async with open_store(settings, reason=options.reason) as access:
        name = await stored_id(access, name)
        try:
            if reveal is not None:
                secret = await access.admin.reveal(name, reveal)
                output.exact({"id": name, "field": reveal, "value": secret}, secret)
                return
            document = await access.lookup.get(name)
        except NoSuchToken:
            raise no_such_token(name) from None
        except (Refused, DecryptionError) as why:
            raise Failed(f"{name}: {why}") from None
        if output.as_json:
            output.record(record(document, (*SHOWN_FIELDS, "has_refresh_token")))
        else:
            gone = document.get("state") in GONE
            output.pairs(_remains(access, document) if gone else await _details(access, document))


def _remains(access: Access, document: Mapping[str, object]) -> list[tuple[str, str]]:
    """Describe a token that is gone: nothing of it expires or is due any more."""
    now, removed = access.clock.now(), document.get("state") == REMOVED
    rows = [
        ("ID", str(document["_id"])),
        ("State", f"{document.get('state')}: {_REMAINS[removed]}"),
        ("Ended", _when(document.get("removed_at" if removed else "revoked_at"), now, none="")),
        ("Forgotten", _when(document.get("forget_at"), now, none="")),
        ("Revision", str(document.get("revision") or "")),
        ("Subject", str(document.get("subject") or "")),
    ]
    return [(title, value) for title, value in rows if value]


async def _details(access: Access, document: Mapping[str, object]) -> list[tuple[str, str]]:
    now = access.clock.now()
    pauses = await access.pauses.paused()
    reason = pauses.get(str(document.get("provider")))
    rows = [
        ("ID", str(document["_id"])),
        ("State", _state(document) + (f" (its provider is paused: {reason})" if reason else "")),
        ("Access token expires", _when(document.get("expires_at"), now)),
        ("Refresh token", "stored" if document.get("has_refresh_token") else "none: it can't be renewed"),
        ("Refresh token expires", _when(document.get("refresh_expires_at"), now, none="unknown")),
        ("Consent ends", _when(document.get("consent_ends_at"), now, none="")),
        ("Due", _when(document.get("due_at"), now, none="not ever")),
        ("Refreshed", _when(document.get("refreshed_at"), now, none="not yet")),
        ("Last used", _when(document.get("last_used_at"), now, none="")),
        ("Failures in a row", str(document.get("failures") or 0)),
        ("Last failure", failure_text(document.get("last_failure")) or "none"),
        ("Revision", str(document.get("revision"))),
        ("Subject", str(document.get("subject") or "")),
        ("Scope", str(document.get("scope") or "")),
    ]
    for field in ("vars", "extra", "meta"):
        found = document.get(field)
        for name, value in found.items() if isinstance(found, Mapping) else ():
            rows.append((f"{field}.{name}", str(plain(value))))
    for field, title in (("lease", "Claimed"), ("doubt", "In doubt")):
        if isinstance(found := document.get(field), Mapping):
            parts = (f"{name} {plain(value)}" for name, value in found.items() if value is not None)
            rows.append((title, ", ".join(parts)))
    return [(title, value) for title, value in rows if value]


def _state(document: Mapping[str, object]) -> str:
    """Return the state, with the author of a pause: who paused a token decides who resumes it."""
    author = pause_author(document)
    return str(document.get("state")) + (f" {_PAUSED[author]}" if author else "")


def _when(instant: object, now: datetime, *, none: str = "never") -> str:
    text = moment(instant, now=now, none=none)
    return f"{text} ({plain(instant)})" if isinstance(instant, datetime) else text
