"""Writing a backup: every collection of the store, as it is, with sealed texts sealed."""

from collections.abc import Sequence

from daemon.domain.backup import Manifest
from daemon.migrating.archive_text import Header, Writer
from daemon.migrating.backup_ports import BackupSource, Sink


async def back_up(source: BackupSource, sink: Sink, header: Header) -> Manifest:
    """Write all documents of `source`. Raises StoreLost, SnapshotLost, ArchiveInvalid."""
    writer = Writer(header)
    await sink.write(writer.start())
    for suffix in await source.suffixes():
        await sink.write(writer.section(suffix))
        async for lines in source.documents(suffix):
            await sink.write(writer.documents(suffix, lines))
    line, manifest = writer.end()
    await sink.write(line)
    return manifest


def outdated(names: Sequence[str], *, keep: int) -> Sequence[str]:
    """Return the names of all but the newest `keep` archives. A name ends in the time of its archive."""
    return sorted(names)[: max(len(names) - keep, 0)]
