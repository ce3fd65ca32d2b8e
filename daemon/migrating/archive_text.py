"""The plain text of an archive: one JSON object a line.

    {"refreshd": "backup", "format": 1, "created_at": …, "version": …, "database": …, "collection": …, "snapshot": …}
    {"refreshd": "collection", "name": "tokens_providers"}
    {"_id": …}                    a document, as canonical extended JSON
    {"refreshd": "manifest", "counts": {…}, "sha256": {…}, "key_ids": […]}

A document's first field is its `_id`, so that no document looks like one of the other lines. The manifest comes last,
because it counts what precedes it. A SHA-256 is that of the collection's lines, each with its line end.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.domain.backup import FORMAT, ArchiveInvalid, Manifest

_MARK = b'{"refreshd":'
_LONGEST_LINE = 64 << 20  # bytes; MongoDB's documents have at most 16 MiB, and extended JSON is longer
_SEALED = re.compile(rb'"[vw]1\.([A-Za-z0-9_-]{1,64})\.[A-Za-z0-9_-]{38,}"')
_PROOFS = "_keys"  # its check values prove keys, and no restore needs those


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line."""

    created_at: datetime
    version: str
    database: str
    collection: str
    snapshot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Some documents of one collection. `suffix`: its name without that of the tokens' collection."""

    suffix: str
    lines: Sequence[bytes]


class Writer:
    """Composes the text, and the manifest of what it has composed."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._tally = _Tally()

    def start(self) -> bytes:
        header = self._header
        at = header.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return _line(
            "backup",
            format=FORMAT,
            created_at=at,
            version=header.version,
            database=header.database,
            collection=header.collection,
            snapshot=header.snapshot,
        )

    def section(self, suffix: str) -> bytes:
        name = f"{self._header.collection}{suffix}"
        self._tally.begin(name)
        return _line("collection", name=name)

    def documents(self, suffix: str, lines: Sequence[bytes]) -> bytes:
        text = b"".join(line + b"\n" for line in lines)
        self._tally.add(f"{self._header.collection}{suffix}", len(lines), text)
        if suffix != _PROOFS:
            self._tally.key_ids.update(key.decode() for key in _SEALED.findall(text))
        return text

    def end(self) -> tuple[bytes, Manifest]:
        manifest = self._tally.manifest(self._header)
        line = _line(
            "manifest",
            counts=dict(manifest.counts),
            sha256=dict(manifest.sha256),
            key_ids=list(manifest.key_ids),
        )
        return line, manifest


class Reader:
    """Takes the text apart, and compares it with its manifest. `whole`: the manifest, once it was read."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tally = _Tally()
        self._suffix: str | None = None
        self.header: Header | None = None
        self.whole: Manifest | None = None

    async def read(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[Lines]:
        """Yield the documents. Raises ArchiveInvalid; at the end of the text too, if it is not what its manifest says."""
        left = b""
        async for chunk in chunks:
            *lines, left = (left + chunk).split(b"\n")
            if len(left) > _LONGEST_LINE:
                raise self._damaged("it has a line of more than 64 MiB")
            for some in self._parts(lines):
                yield some
        if left or self.whole is None:
            raise self._damaged("its end is missing")

    def _parts(self, lines: Sequence[bytes]) -> Iterable[Lines]:
        """Yield the documents among `lines`, in runs of one collection."""
        start = 0
        for place, line in enumerate(lines):
            if line.startswith(_MARK):
                yield from self._run(lines[start:place])
                self._marked(line)
                start = place + 1
        yield from self._run(lines[start:])

    def _run(self, lines: Sequence[bytes]) -> Iterable[Lines]:
        if not lines:
            return
        if self.header is None:
            raise ArchiveInvalid(
                f"{self._name} is not a backup of refreshd. Name a file that `backup create` wrote"
            )
        if self._suffix is None or self.whole is not None:
            raise self._damaged("documents stand where none belong")
        text = b"".join(line + b"\n" for line in lines)
        self._tally.add(f"{self.header.collection}{self._suffix}", len(lines), text)
        if self._suffix != _PROOFS:
            self._tally.key_ids.update(key.decode() for key in _SEALED.findall(text))
        yield Lines(suffix=self._suffix, lines=lines)

    def _marked(self, line: bytes) -> None:
        try:
            mark = json.loads(line)
            kind = mark["refreshd"]
            if kind == "backup" and self.header is None:
                self.header = self._header_of(mark)
            elif kind == "collection" and self.header is not None and self.whole is None:
                self._suffix = self._suffix_of(str(mark["name"]), self.header)
            elif kind == "manifest" and self.header is not None and self.whole is None:
                self.whole = self._compared(mark, self.header)
            else:
                raise self._damaged("its parts are not in their order")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._damaged("a line of it has an unknown form") from None

    def _header_of(self, mark: Mapping[str, object]) -> Header:
        if mark["format"] != FORMAT:
            raise ArchiveInvalid(
                f"{self._name} has format {mark['format']!r}, and this version of refreshd reads format {FORMAT}."
                f" Use the version that wrote it: {mark.get('version')}"
            )
        return Header(
            created_at=datetime.fromisoformat(str(mark["created_at"])),
            version=str(mark["version"]),
            database=str(mark["database"]),
            collection=str(mark["collection"]),
            snapshot=mark["snapshot"] is True,
        )

    def _suffix_of(self, name: str, header: Header) -> str:
        suffix = name.removeprefix(header.collection)
        if not name.startswith(header.collection) or (suffix and not suffix.startswith("_")):
            raise self._damaged(f"it contains the collection {name!r}, which is none of refreshd's")
        self._tally.begin(name)
        return suffix

    def _compared(self, mark: Mapping[str, object], header: Header) -> Manifest:
        manifest = self._tally.manifest(header)
        stated = (mark["counts"], mark["sha256"], mark["key_ids"])
        if stated != (manifest.counts, manifest.sha256, list(manifest.key_ids)):
            raise self._damaged("it does not contain what its manifest says")
        return manifest

    def _damaged(self, why: str) -> ArchiveInvalid:
        return ArchiveInvalid(f"{self._name} is damaged: {why}. Use another backup")


class _Tally:
    """Counts and hashes, by collection."""

    def __init__(self) -> None:
        self.key_ids: set[str] = set()
        self._counts: dict[str, int] = {}
        self._hashes: dict[str, hashlib._Hash] = {}

    def begin(self, name: str) -> None:
        self._counts.setdefault(name, 0)
        self._hashes.setdefault(name, hashlib.sha256())

    def add(self, name: str, count: int, text: bytes) -> None:
        self._counts[name] += count
        self._hashes[name].update(text)

    def manifest(self, header: Header) -> Manifest:
        return Manifest(
            created_at=header.created_at,
            version=header.version,
            database=header.database,
            collection=header.collection,
            snapshot=header.snapshot,
            counts=dict(self._counts),
            sha256={name: one.hexdigest() for name, one in self._hashes.items()},
            key_ids=tuple(sorted(self.key_ids)),
        )


def _line(kind: str, **fields: object) -> bytes:
    return json.dumps({"refreshd": kind, **fields}).encode() + b"\n"
