"""`refreshd journal list`, `reveal` and `discard`: the replies that MongoDB has not confirmed."""

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from daemon.adapters.journal.inspection import Listed, discard, listed, revealed
from daemon.adapters.journal.journal import JournalDamaged
from daemon.adapters.keyring import DecryptionError
from daemon.adapters.state_files import JOURNAL
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.arguments import Yes, confirmation
from daemon.commands.support.column import Column
from daemon.commands.support.command import Audited, Command, Group
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.journal_replay import replay
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output
from daemon.commands.support.state_directory import without_daemon
from daemon.domain.reply import Reply
from daemon.runtime.bootstrap import key_ring
from daemon.runtime.config.settings import Settings

_LAST = 2**63 - 1  # the largest number of an entry (SQLite's rowid)
_COLUMNS = (
    Column("Entry"),
    Column("Token"),
    Column("State", width=10),
    Column("Asked"),
    Column("Status"),
    Column("Bytes"),
)

app = typer.Typer(
    name="journal",
    cls=Group,
    help="Inspect provider replies that MongoDB has not confirmed yet.",
    epilog="refreshd journal list",
    no_args_is_help=True,
)


# ---------------------------------------------------------------- list


@app.command("list", cls=Command, epilog="refreshd journal list --json")
def list_entries(ctx: typer.Context) -> int:
    """List the entries of this instance's journal, without their replies.

    This works while the daemon runs, too. With --json, each line is one object.
    """
    options = given(ctx)
    settings, output = read_settings(options), Output(as_json=options.json)
    entries = _entries(settings)
    if output.as_json:
        for entry in entries:
            output.record(_record(entry))
    elif entries:
        output.table(_COLUMNS, [_row(entry) for entry in entries])
    else:
        output.note("The journal is empty: every reply is stored.")
    return Exit.DONE


def _journal(settings: Settings) -> Path:
    return settings.state_dir / JOURNAL


def _existing(settings: Settings) -> Path:
    path = _journal(settings)
    if not path.exists():
        raise Failed(f"{path}: this file does not exist. Check state.dir: the journal is in that directory")
    return path


def _entries(settings: Settings) -> Sequence[Listed]:
    try:
        return listed(_existing(settings), key_ring(settings))
    except JournalDamaged as why:
        raise Failed(str(why)) from None


def _record(entry: Listed) -> dict[str, object]:
    fields = asdict(entry)
    return {"entry": fields.pop("key"), **fields}


def _row(entry: Listed) -> list[str]:
    status = "(sealed)" if entry.status is None else str(entry.status)
    return [
        str(entry.key),
        entry.token,
        entry.state,
        entry.asked_at,
        status,
        str(entry.bytes),
    ]


# ---------------------------------------------------------------- replay


@app.command("replay", cls=Audited, epilog="refreshd journal replay /mnt/lost-disk/journal.db")
def replay_entries(
    ctx: typer.Context,
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="A copy of the other instance's journal.db."
        ),
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Also replay entries in state unparsed or superseded.")
    ] = False,
    old_entries: Annotated[
        bool,
        typer.Option(
            "--old-entries",
            help="Also replay entries of earlier versions. refreshd can't detect changes to them.",
        ),
    ] = False,
) -> int:
    """Store the replies from a copy of another instance's journal, unless a newer consent is stored.

    Copy journal.db-wal too: it holds the newest entries. refreshd changes neither file, and sends nothing to a
    provider. The exit code is 1 if a reply could not be used.
    """
    return replay(given(ctx), file=file, everything=everything, old_entries=old_entries)


# ---------------------------------------------------------------- reveal


@app.command(cls=Audited, epilog="refreshd journal reveal 17 --reason 'ticket 4711'")
def reveal(
    ctx: typer.Context,
    *,
    entry: Annotated[
        int, typer.Argument(metavar="ENTRY", max=_LAST, help="The entry's number in `refreshd journal list`.")
    ],
) -> int:
    """Print one reply with the secrets in it. This is recorded in the audit.

    Use it to rescue a grant whose reply refreshd can't parse. Invisible characters are printed as escapes. With
    --json, the output also has the exact bytes in base64.
    """
    options = given(ctx)
    settings, output = read_settings(options), Output(as_json=options.json)
    path = _existing(settings)
    try:
        found = revealed(path, entry, key_ring(settings))
    except JournalDamaged as why:
        raise Failed(str(why)) from None
    except DecryptionError as why:
        raise Failed(f"entry {entry} can't be opened: {why}") from None
    if found is None:
        raise _unknown(entry)
    about, reply = found
    asyncio.run(_note(settings, options, "reveal_reply", [about]))
    output.note("refreshd: this reply may hold live tokens: keep it out of logs and shell histories")
    output.result(_whole(about, reply), _as_received(about, reply), keep="\n")
    return Exit.DONE


def _whole(about: Listed, reply: Reply) -> dict[str, object]:
    try:
        body = reply.body.decode()
    except UnicodeDecodeError:
        body = None
    return {
        **_record(about),
        "content_type": reply.content_type,
        "retry_after": reply.retry_after,
        "location": reply.location,
        "whole": reply.whole,
        "body": body,
        "body_base64": b64encode(reply.body).decode(),
    }


def _as_received(about: Listed, reply: Reply) -> str:
    headers = {
        "Content-Type": reply.content_type,
        "Retry-After": reply.retry_after,
        "Location": reply.location,
    }
    ended = "" if reply.whole else ", and ended before its end"
    return "\n".join(
        [
            f"Entry {about.key}: {about.state} reply for {about.token}, asked at {about.asked_at}",
            f"HTTP {reply.status}, with a body of {len(reply.body)} bytes{ended}",
            *(f"{name}: {value}" for name, value in headers.items() if value),
            "",
            reply.body.decode(errors="backslashreplace"),
        ]
    )


# ---------------------------------------------------------------- discard


@app.command("discard", cls=Audited, epilog="refreshd journal discard 17 18")
def discard_entries(
    ctx: typer.Context,
    *,
    entries: Annotated[
        list[int] | None,
        typer.Argument(metavar="ENTRY", max=_LAST, help="The entries' numbers in `refreshd journal list`."),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Delete the entries of this provider. Can be combined with --state."
        ),
    ] = None,
    state: Annotated[
        Literal["waiting", "unparsed", "superseded", "unusable"] | None,
        typer.Option(help="Delete the entries in this state. Can be combined with --provider."),
    ] = None,
    yes: Yes = False,
) -> int:
    """Delete journal entries for good.

    They may hold the only copies of refresh tokens. The daemon must be stopped.
    """
    options, confirm = given(ctx), confirmation(yes=yes)
    settings, output = read_settings(options), Output(as_json=options.json)
    if bool(entries) == bool(provider or state):
        raise Failed(
            "which entries to delete is not clear. Give their numbers, or --provider, --state or both",
            Exit.USAGE,
        )
    with without_daemon(settings.state_dir):
        found = _chosen(_entries(settings), entries or [], provider=provider, state=state)
        if not found:
            output.note("The journal has no matching entry.")
        elif confirm is not None and not confirm(_question(found)):
            raise Failed("the confirmation was declined, so nothing was discarded")
        else:
            asyncio.run(_discard(settings, options, found))
    for entry in found:
        output.result(
            {**_record(entry), "action": "discarded"}, f"entry {entry.key} discarded: {_described(entry)}"
        )
    return Exit.DONE


def _chosen(
    entries_found: Sequence[Listed], keys: Collection[int], *, provider: str | None, state: str | None
) -> Sequence[Listed]:
    """Raises Failed for a key that is not there."""
    if missing := sorted(set(keys) - {entry.key for entry in entries_found}):
        raise _unknown(missing[0])
    if keys:
        return [entry for entry in entries_found if entry.key in keys]
    return [
        entry
        for entry in entries_found
        if provider in (None, entry.provider) and state in (None, entry.state)
    ]


def _unknown(entry: int) -> Failed:
    return Failed(f"the journal has no entry {entry}. `refreshd journal list` shows its entries")


def _described(entry: Listed) -> str:
    return f"{entry.state} reply for {entry.token}, asked at {entry.asked_at}"


def _question(found: Sequence[Listed]) -> str:
    if len(found) == 1:
        return f"Delete the {_described(found[0])}? It may hold the only copy of a refresh token."
    counts = Counter((entry.provider, entry.state) for entry in found)
    each = ", ".join(f"{count} {state} of {provider}" for (provider, state), count in sorted(counts.items()))
    return f"Delete {len(found)} replies ({each})? They may hold the only copies of refresh tokens."


async def _discard(settings: Settings, options: Options, found: Sequence[Listed]) -> None:
    await _note(settings, options, "discard", found)
    try:
        discard(_journal(settings), [entry.key for entry in found])
    except JournalDamaged as why:
        raise Failed(str(why)) from None


async def _note(settings: Settings, options: Options, action: str, entries: Sequence[Listed]) -> None:
    """Write to the audit what will be done to these entries. Raises StoreLost."""
    async with open_store(settings, reason=options.reason) as access:
        for entry in entries:
            await access.audit.note(action, entry.token)
