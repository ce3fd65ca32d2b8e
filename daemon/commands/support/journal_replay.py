"""`refreshd journal replay`: salvage of another instance's journal, through the daemon's own path into the store."""

import asyncio
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from daemon.adapters.journal.inspection import copied
from daemon.adapters.journal.journal import JournalDamaged, SqliteJournal
from daemon.commands.support.access import open_store, read_settings
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.commands.support.output import Output
from daemon.domain.claim import Unusable
from daemon.domain.journal_entry import Entry, ReplayResult
from daemon.domain.secret import masked
from daemon.runtime.bootstrap import key_ring, salvager
from daemon.runtime.config.secret_places import STORE_ONLY, Use
from daemon.runtime.config.settings import Settings

_LOST = (
    ReplayResult.UNPARSED,
    ReplayResult.UNUSABLE,
)  # what the reply holds is not stored, or only a part of it
_UNPARSED = "the provider's definition can't parse the reply. Correct the definition and replay again"


def replay(options: Options, *, file: Path, everything: bool, old_entries: bool) -> int:
    """Record what the replies in `file`, another instance's journal, still can bring. The file stays as it is.

    `old_entries`: also those of earlier versions, whose rows prove nothing. A daemon takes them from its own file, since
    an upgrade must not lose what waits there. Who has written to a file from elsewhere is for an operator to know.
    """
    settings, output = read_settings(options, STORE_ONLY | {Use.CLIENTS}), Output(as_json=options.json)
    with TemporaryDirectory(prefix="refreshd-") as directory:
        try:
            copy = copied(file, Path(directory), everything=everything)
            tally = asyncio.run(_replay(settings, options, copy, old_entries=old_entries))
        except JournalDamaged as why:
            raise Failed(str(why)) from None
    counts = {result.value: tally[result] for result in ReplayResult}
    text = ", ".join(f"{count} {result}" for result, count in counts.items())
    output.result({"file": str(file), **counts}, text)
    return Exit.FAILED if any(tally[result] for result in _LOST) else Exit.DONE


async def _replay(
    settings: Settings, options: Options, copy: Path, *, old_entries: bool
) -> Counter[ReplayResult]:
    output, tally = Output(as_json=options.json), Counter[ReplayResult]()
    ring = key_ring(settings)
    journal = SqliteJournal(copy, keyring=lambda: ring, unbound=old_entries)

    def report(entry: Entry, result: ReplayResult | Exception) -> None:
        if isinstance(result, Exception):
            output.failed(f"entry {entry.key}, {entry.token}: {_why(result)}")
        elif result is ReplayResult.UNPARSED:
            output.failed(f"entry {entry.key}, {entry.token}: {_UNPARSED}")
        tally[ReplayResult.UNUSABLE if isinstance(result, Exception) else result] += 1

    await journal.open()
    try:
        async with open_store(settings, reason=options.reason) as access:

            async def audited(entry: Entry) -> None:
                await access.audit.note("replay", entry.token)

            salvage = salvager(
                settings,
                access.mongo,
                journal,
                keys=ring,
                clock=access.clock,
                audit=access.audit,
                before=audited,
                report=report,
            )
            entries = journal.entries()
            for entry in entries:
                if entry.provider not in settings.providers:
                    report(entry, Unusable(f"provider {entry.provider} is not configured"))
            await salvage.replay(entry for entry in entries if entry.provider in settings.providers)
    finally:
        await journal.close()
    for why, count in Counter(locked.why for locked in journal.locked).items():
        output.failed(f"{count} of the entries can't be opened: {why}")
        tally[ReplayResult.UNUSABLE] += count
    return tally


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, Unusable) else f"{type(error).__name__}: {masked(str(error))}"
