"""`refreshd journal list`, `reveal` and `discard`: the replies that MongoDB has not confirmed."""

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from daemon.adapters.journal.inspection import Listed, discard, listed, revealed
from daemon.adapters.journal.journal import JournalDamaged
from daemon.adapters.keyring import DecryptionError
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Column, Output
from daemon.commands.support.state_directory import without_daemon
from daemon.domain.reply import Reply
from daemon.runtime.bootstrap import key_ring
from daemon.runtime.config.settings import Settings

_COLUMNS = (
    Column("Entry"),
    Column("Token"),
    Column("State", width=10),
    Column("Asked"),
    Column("Status"),
    Column("Bytes"),
)


# ---------------------------------------------------------------- list


def list_entries(options: Options) -> int:
    """What this instance's journal holds; never a reply."""
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
    return settings.state_dir / "journal.db"


def _existing(settings: Settings) -> Path:
    path = _journal(settings)
    if not path.exists():
        raise Failed(f"{path}: there is no journal. state.dir names where it would be")
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


# ---------------------------------------------------------------- reveal


def reveal(options: Options, *, entry: int) -> int:
    """Print one kept reply as it came, with its secrets, once the audit of it is written."""
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
    output.note("refreshd: this reply may hold live tokens: keep it from logs and shells' histories")
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


def discard_entries(
    options: Options,
    *,
    entries: Sequence[int],
    provider: str | None,
    state: str | None,
    confirm: Callable[[str], bool] | None,
) -> int:
    """Delete entries for good, when `confirm` (None: not asked) agrees, and no daemon uses the journal: these, or all of
    a provider, a state, or both.
    """
    settings, output = read_settings(options), Output(as_json=options.json)
    if bool(entries) == bool(provider or state):
        raise Failed("name entries, or choose them by --provider, --state or both", Exit.USAGE)
    with without_daemon(settings.state_dir):
        found = _chosen(_entries(settings), entries, provider=provider, state=state)
        if not found:
            output.note("The journal has no such entry.")
        elif confirm is not None and not confirm(_question(found)):
            raise Failed("nothing was discarded")
        else:
            asyncio.run(_discard(settings, options, found))
    for entry in found:
        output.result(
            {**_record(entry), "action": "discarded"}, f"entry {entry.key} discarded: {_told(entry)}"
        )
    return Exit.DONE


def _chosen(
    known: Sequence[Listed], keys: Collection[int], *, provider: str | None, state: str | None
) -> Sequence[Listed]:
    """Raises Failed for a key that is not there."""
    if missing := sorted(set(keys) - {entry.key for entry in known}):
        raise _unknown(missing[0])
    if keys:
        return [entry for entry in known if entry.key in keys]
    return [entry for entry in known if provider in (None, entry.provider) and state in (None, entry.state)]


def _unknown(entry: int) -> Failed:
    return Failed(f"the journal has no entry {entry}. `refreshd journal list` shows what it has")


def _told(entry: Listed) -> str:
    return f"{entry.state} reply for {entry.token}, asked at {entry.asked_at}"


def _question(found: Sequence[Listed]) -> str:
    if len(found) == 1:
        return f"Delete the {_told(found[0])}? It may hold the only copy of a refresh token."
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
