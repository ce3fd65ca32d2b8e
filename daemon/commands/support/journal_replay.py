"""`refreshd journal replay`: salvage of another instance's journal, through the daemon's own path into the store."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from daemon.adapters.journal.inspection import copied
from daemon.adapters.journal.journal import JournalDamaged, SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.store import MongoStore
from daemon.commands.support.access import Access, open_store, read_settings
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.open_mongo import ignore
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.domain.claim import StoreLost, Unusable
from daemon.domain.due import Timing
from daemon.domain.journal_entry import Entry
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import masked
from daemon.refreshing.refresher import Refresher
from daemon.runtime.bootstrap import key_ring
from daemon.runtime.config.settings import Settings

_AT_ONCE = 256
_RESULTS = ("recorded", "superseded", "unparsed", "unusable")
_SALVAGE = "salvage"  # claims nothing, so it owns nothing


def replay(options: Options, *, file: Path, everything: bool, old_entries: bool) -> int:
    """Record what the replies in `file`, another instance's journal, still can bring. The file stays as it is.

    `old_entries`: also those of earlier versions, whose rows prove nothing. A daemon takes them from its own file, since
    an upgrade must not lose what waits there. Who has written to a file from elsewhere is for an operator to know.
    """
    settings, output = read_settings(options), Output(as_json=options.json)
    with TemporaryDirectory(prefix="refreshd-") as directory:
        try:
            copy = copied(file, Path(directory), everything=everything)
            tally = asyncio.run(_replay(settings, options, copy, old_entries=old_entries))
        except JournalDamaged as why:
            raise Failed(str(why)) from None
    counts = {result: tally[result] for result in _RESULTS}
    text = ", ".join(f"{count} {result}" for result, count in counts.items())
    output.result({"file": str(file), **counts}, text)
    return Exit.FAILED if counts["unusable"] else Exit.DONE


async def _replay(settings: Settings, options: Options, copy: Path, *, old_entries: bool) -> Counter[str]:
    output = Output(as_json=options.json)
    ring = key_ring(settings)
    journal = SqliteJournal(copy, keyring=lambda: ring, unbound=old_entries)
    await journal.open()
    try:
        async with open_store(settings, reason=options.reason) as access:
            salvage = _Salvage(settings, access, ring, journal, output)
            tally = await salvage.all(await journal.entries())
    finally:
        await journal.close()
    for why, count in Counter(locked.why for locked in journal.locked).items():
        output.failed(f"{count} of the entries can't be opened: {why}")
        tally["unusable"] += count
    return tally


class _NoEndpoint:
    """Fits `refreshing.ports.Endpoint`: a salvage sends nothing."""

    async def send(self, request: Request, *, deadline: timedelta) -> Reply | NoReply:
        raise AssertionError(f"a salvage presents nothing: {request!r}, {deadline}")


class _Salvage:
    """Entries of another's journal on their way into the store, through the daemon's own path."""

    def __init__(
        self, settings: Settings, access: Access, ring: KeyRing, journal: SqliteJournal, output: Output
    ) -> None:
        refresh = settings.refresh
        self._output = output
        self._audit = access.audit
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
            await self._audit.note("replay", entry.token)
            return (await self._refresher.conclude(claim, entry)).journal_result
        except StoreLost:
            raise
        except Unusable as why:
            return self._unusable(entry, str(why))
        except Exception as error:  # noqa: BLE001  one reply that can't be used must not hold up the others
            return self._unusable(entry, f"{type(error).__name__}: {masked(str(error))}")

    def _unusable(self, entry: Entry, why: str) -> str:
        self._output.failed(f"entry {entry.key}, {entry.token}: {why}")
        return "unusable"
