"""`refreshd journal`: the replies that MongoDB has not confirmed. Looking, throwing away, and salvage of another's."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from daemon.adapters.audit import Audit
from daemon.adapters.journal import JournalDamaged, SqliteJournal
from daemon.adapters.journal_file import Listed, copied, discard, listed
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo_store import MongoStore
from daemon.commands.access import Access, actor, open_store, read_settings
from daemon.commands.failure import Exit, Failed
from daemon.commands.options import Options
from daemon.commands.output import Column, Output
from daemon.commands.state_directory import without_daemon
from daemon.domain.claim import Entry, StoreLost, Unusable
from daemon.domain.dialect import NoReply, Reply
from daemon.domain.due import Timing
from daemon.domain.request import Request
from daemon.domain.secret import masked
from daemon.refreshing.refresher import Refresher
from daemon.runtime.bootstrap import key_ring
from daemon.runtime.settings import Settings
from daemon.runtime.store_access import ignore

_COLUMNS = (
    Column("Entry", width=8),
    Column("Token", ratio=3),
    Column("Provider", ratio=1),
    Column("State", width=12),
    Column("Asked", width=32),
    Column("Status", width=8),
)
_AT_ONCE = 256
_RESULTS = ("recorded", "superseded", "unread", "unusable")
_SALVAGE = "salvage"  # claims nothing, so it owns nothing


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


def _entries(settings: Settings) -> Sequence[Listed]:
    path = _journal(settings)
    if not path.exists():
        raise Failed(f"{path}: there is no journal. state.dir names where it would be")
    try:
        return listed(path, key_ring(settings))
    except JournalDamaged as why:
        raise Failed(str(why)) from None


def _record(entry: Listed) -> dict[str, object]:
    fields = asdict(entry)
    return {"entry": fields.pop("key"), **fields}


def _row(entry: Listed) -> list[str]:
    status = "(sealed)" if entry.status is None else str(entry.status)
    return [str(entry.key), entry.token, entry.provider, entry.state, entry.asked_at, status]


# ---------------------------------------------------------------- discard


def discard_entry(options: Options, *, entry: int, confirm: Callable[[str], bool] | None) -> int:
    """Delete one entry for good, when `confirm` (None: not asked) agrees, and no daemon uses the journal."""
    settings = read_settings(options)
    with without_daemon(settings.state_dir):
        found = next((one for one in _entries(settings) if one.key == entry), None)
        if found is None:
            raise Failed(f"the journal has no entry {entry}. `refreshd journal list` shows what it has")
        told = f"{found.state} reply for {found.token}, asked at {found.asked_at}"
        if confirm is not None and not confirm(
            f"Delete the {told}? It may hold the only copy of a refresh token."
        ):
            raise Failed("nothing was discarded")
        asyncio.run(_discard(settings, found))
    Output(as_json=options.json).result(
        {**_record(found), "action": "discarded"}, f"entry {entry} discarded: {told}"
    )
    return Exit.DONE


async def _discard(settings: Settings, entry: Listed) -> None:
    async with open_store(settings) as access:
        await Audit(access.mongo, actor=actor()).note("discard", entry.token, None)
    try:
        discard(_journal(settings), entry.key)
    except JournalDamaged as why:
        raise Failed(str(why)) from None


# ---------------------------------------------------------------- replay


def replay(options: Options, *, file: Path, everything: bool) -> int:
    """Record what the replies in `file`, another instance's journal, still can bring. The file stays as it is."""
    settings, output = read_settings(options), Output(as_json=options.json)
    with TemporaryDirectory(prefix="refreshd-") as directory:
        try:
            copy = copied(file, Path(directory), everything=everything)
            tally = asyncio.run(_replay(settings, output, copy))
        except JournalDamaged as why:
            raise Failed(str(why)) from None
    counts = {result: tally[result] for result in _RESULTS}
    told = ", ".join(f"{count} {result}" for result, count in counts.items())
    output.result({"file": str(file), **counts}, told)
    return Exit.FAILED if counts["unusable"] else Exit.DONE


async def _replay(settings: Settings, output: Output, copy: Path) -> Counter[str]:
    ring = key_ring(settings)
    journal = SqliteJournal(copy, keyring=lambda: ring)
    locked = await journal.open()
    try:
        async with open_store(settings) as access:
            salvage = _Salvage(settings, access, ring, journal, output)
            tally = await salvage.all(await journal.entries())
    finally:
        await journal.close()
    if locked:
        output.note(
            f"refreshd: entries that no key in [keys.ring] opens: {locked}. Add the key they were sealed with"
        )
        tally["unusable"] += locked
    return tally


class _NoEndpoint:
    """Fits `refreshing.ports.Endpoint`: a salvage asks nobody."""

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        raise AssertionError(f"a salvage presents nothing: {request!r}, {deadline}")


class _Salvage:
    """Entries of another's journal on their way into the store, through the daemon's own path."""

    def __init__(
        self, settings: Settings, access: Access, ring: KeyRing, journal: SqliteJournal, output: Output
    ) -> None:
        refresh = settings.refresh
        self._output = output
        self._journal = journal
        self._providers = dict(settings.providers)
        self._store = MongoStore(
            access.mongo,
            owner=_SALVAGE,
            keyring=lambda: ring,
            lease=refresh.lease,
            hold=lambda _provider: refresh.adopt_after,
        )
        self._refresher = Refresher(
            providers=self._providers,
            store=self._store,
            journal=journal,
            endpoint=_NoEndpoint(),
            clock=access.clock,
            chance=random.random,
            timing=Timing(window=refresh.window, jitter=refresh.jitter),
            observe=ignore,
        )

    async def all(self, entries: Sequence[Entry]) -> Counter[str]:
        """The results, counted. Raises StoreLost; doing it again does no harm."""
        tokens: dict[str, list[Entry]] = {}
        for entry in entries:
            tokens.setdefault(entry.token, []).append(entry)
        tally: Counter[str] = Counter()
        chains = list(tokens.values())
        for start in range(0, len(chains), _AT_ONCE):
            some = chains[start : start + _AT_ONCE]
            # All of them end before the first loss is raised: none goes on with a store that is being closed.
            for ends in await asyncio.gather(*map(self._chain, some), return_exceptions=True):
                if isinstance(ends, BaseException):
                    raise ends
                tally.update(ends)
        return tally

    async def _chain(self, entries: Sequence[Entry]) -> list[str]:
        """One token's, oldest first: each may have spent what the one before it brought."""
        return [await self._one(entry) for entry in entries]

    async def _one(self, entry: Entry) -> str:
        if entry.provider not in self._providers:
            return self._unusable(entry, f"provider {entry.provider} is not configured")
        try:
            claim = await self._store.recall(entry)
            if claim is None:
                return "superseded"  # the token was removed
            return (await self._refresher.conclude(claim, entry)).conclusion
        except StoreLost:
            raise
        except Unusable as why:
            return self._unusable(entry, str(why))
        except Exception as error:  # noqa: BLE001  one reply that can't be used must not hold up the others
            return self._unusable(entry, f"{type(error).__name__}: {masked(str(error))}")

    def _unusable(self, entry: Entry, why: str) -> str:
        self._output.note(f"refreshd: entry {entry.key}, {entry.token}: {why}")
        return "unusable"
