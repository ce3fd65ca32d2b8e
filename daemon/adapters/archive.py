"""Archives: files in the age format (age-encryption.org/v1), or plain ones, in a directory.

A thread encrypts and decrypts. A pipe connects it with the event loop, so the plain text is never on a disk and memory
does not grow with the archive. A file is written under a temporary name and renamed once it is whole and durable.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pyrage

from daemon.adapters.durable import sync_directory
from daemon.adapters.trusted_files import Untrusted, read_trusted
from daemon.domain.backup import ArchiveInvalid

ENCRYPTED, PLAIN = ".age", ".jsonl"
_AGE = b"age-encryption.org/v1\n"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"([A-Za-z0-9_.-]+)-(\d{8}T\d{6}Z)\.(age|jsonl)")
_PARTIAL = re.compile(r"\.[A-Za-z0-9_.-]+-\d{8}T\d{6}Z\.(age|jsonl)\.[0-9a-f]{8}\.partial")
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]")
_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105  how an identity begins
_KEY_FILE = 1 << 16  # bytes
_CHUNK = 1 << 18  # bytes
_F_SETPIPE_SZ = 1031
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Recipients = Sequence["pyrage.x25519.Recipient"]
Identities = Sequence["pyrage.x25519.Identity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An archive of a directory, by its name alone."""

    path: Path
    store: str
    created_at: datetime
    bytes: int
    encrypted: bool


# ---------------------------------------------------------------- keys


class KeyInvalid(ValueError):
    """A recipient or a key file can't be used. The text is a sentence for operators and contains no secret."""


def new_key() -> tuple[str, str]:
    """Return a new identity and its recipient."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def recipients(texts: Sequence[str], key_files: Sequence[Path]) -> Recipients:
    """Return the recipients that are named, and those of the identities in the files. Raises KeyInvalid."""
    found = []
    for text in texts:
        try:
            found.append(pyrage.x25519.Recipient.from_str(text))
        except pyrage.RecipientError:
            raise KeyInvalid(f"{text!r} is not an age recipient. Write one that begins with age1") from None
    return [*found, *(one.to_public() for path in key_files for one in identities(path))]


def identities(path: Path) -> Identities:
    """Return the identities in a file as `age-keygen` writes it. Raises KeyInvalid."""
    try:
        text = read_trusted(path, limit=_KEY_FILE).data.decode()
    except Untrusted as why:
        raise KeyInvalid(str(why)) from None
    except OSError as why:
        raise KeyInvalid(f"{path} can't be read ({why.strerror}). Name a file of age identities") from None
    except ValueError:
        text = ""
    lines = [line.strip() for line in text.splitlines()]
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith(_SECRET)]
    except pyrage.IdentityError:
        raise KeyInvalid(f"{path} contains a damaged age identity. Restore the file from its copy") from None
    if not found:
        raise KeyInvalid(
            f"{path} contains no age identity. `refreshd backup key` and `age-keygen` make such a file"
        )
    return found


# ---------------------------------------------------------------- a directory


def name_of(database: str, collection: str, created_at: datetime, *, encrypted: bool) -> str:
    at = created_at.astimezone(UTC).strftime(_TIME)
    return f"{store_name(database, collection)}-{at}{ENCRYPTED if encrypted else PLAIN}"


def store_name(database: str, collection: str) -> str:
    """Return how archives of this store begin."""
    return _UNUSUAL.sub("_", f"{database}.{collection}")


def archives(directory: Path) -> list[Listed]:
    """Return the archives of a directory, the oldest first. Raises ArchiveInvalid."""
    found = []
    with _sentences(directory, "read"):
        for path in directory.iterdir():
            if (form := _NAME.fullmatch(path.name)) is None or not path.is_file():
                continue
            try:
                at = datetime.strptime(form[2], _TIME).replace(tzinfo=UTC)
            except ValueError:  # of digits, but no date
                continue
            size = path.stat().st_size
            found.append(
                Listed(path=path, store=form[1], created_at=at, bytes=size, encrypted=form[3] == "age")
            )
    return sorted(found, key=lambda one: (one.created_at, one.path.name))


def remove(directory: Path, paths: Sequence[Path]) -> None:
    """Delete archives. Raises ArchiveInvalid."""
    with _sentences(directory, "written"):
        for path in paths:
            path.unlink(missing_ok=True)
        sync_directory(directory)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a small file atomically. Raises ArchiveInvalid."""
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    with _sentences(path.parent, "written"):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(descriptor, mode)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_directory(path.parent)


@contextmanager
def _sentences(directory: Path, what: str) -> Iterator[None]:
    """Turn an OSError into a sentence."""
    try:
        yield
    except OSError as why:
        raise _failed(directory, why, what) from None


def _failed(directory: Path, why: OSError, what: str = "written") -> ArchiveInvalid:
    if why.errno in _NO_SPACE:
        return ArchiveInvalid(
            f"{directory}: the disk is full, so nothing was written. Free some space, then try again"
        )
    return ArchiveInvalid(
        f"{directory} can't be {what} ({why.strerror}). Name a directory that this user may use"
    )


def _forget_partial(directory: Path) -> None:
    """Delete what a killed process left behind. One that still writes holds a lock."""
    for path in directory.iterdir():
        if not _PARTIAL.fullmatch(path.name):
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


# ---------------------------------------------------------------- writing


class _Stopped(Exception):
    """The thread at the other end of a pipe has ended. Its own error is the reason."""


class ArchiveWriter:
    """An archive that is being written. `sha256` is that of the file, once it is whole."""

    def __init__(self, path: Path, pipe: IO[bytes]) -> None:
        self.path = path
        self.sha256 = ""
        self._pipe = pipe

    async def write(self, text: bytes) -> None:
        """Write some more of the plain text."""
        try:
            await asyncio.to_thread(self._pipe.write, text)
        except BrokenPipeError:
            raise _Stopped from None


class _Output:
    """The file under its temporary name: hashes what is written, and keeps the error that pyrage hides."""

    def __init__(self, file: IO[bytes]) -> None:
        self.error: OSError | None = None
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            self._file.write(data)
        except OSError as why:
            self.error = why
            raise
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Keep the buffer. It is flushed once, before fsync."""


@asynccontextmanager
async def writing(directory: Path, name: str, to: Recipients) -> AsyncIterator[ArchiveWriter]:
    """Write the archive `name`, encrypted for `to`, or as plain text if that is empty.

    If anything fails, in the body too, no file is left. Raises ArchiveInvalid.
    """
    path, partial = directory / name, directory / f".{name}.{os.urandom(4).hex()}.partial"
    with _sentences(directory, "written"):
        _forget_partial(directory)
        if path.exists():
            raise ArchiveInvalid(f"{path} exists already, so nothing was written. Run the command again")
        file = os.fdopen(os.open(partial, _NEW, 0o600), "wb")
    try:
        with _sentences(directory, "written"), file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            output = _Output(file)
            async with _written_by_thread(file, output, to) as pipe:
                writer = ArchiveWriter(path, pipe)
                yield writer
            writer.sha256 = output.digest.hexdigest()
            partial.rename(path)
            sync_directory(directory)
    finally:
        partial.unlink(missing_ok=True)


@asynccontextmanager
async def _written_by_thread(file: IO[bytes], output: _Output, to: Recipients) -> AsyncIterator[IO[bytes]]:
    """Give the pipe of a thread that encrypts, and wait until all of it is durable. Raises OSError."""
    source, pipe = _pipe()

    def work() -> None:
        with source:
            if to:
                pyrage.encrypt_io(source, output, list(to))
            else:
                shutil.copyfileobj(source, output, _CHUNK)
        file.flush()
        os.fsync(file.fileno())

    thread = asyncio.create_task(asyncio.to_thread(work))
    try:
        with suppress(_Stopped):
            yield pipe
    finally:
        with suppress(BrokenPipeError):
            pipe.close()
        try:
            await thread
        except pyrage.EncryptError as why:
            raise output.error or OSError(errno.EIO, str(why)) from None


# ---------------------------------------------------------------- reading


class ArchiveFile:
    """An archive that can be read several times. `encrypted`: whether an identity is needed."""

    def __init__(self, path: Path, file: IO[bytes], identities: Identities) -> None:
        self.name = str(path)
        self._file = file
        self._identities = list(identities)
        self.encrypted = file.read(len(_AGE)) == _AGE
        self._first = _state_of(file)

    @asynccontextmanager
    async def chunks(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read the plain text from its start. Raises ArchiveInvalid."""
        self._file.seek(0)
        pipe, target = _pipe()
        thread = asyncio.create_task(asyncio.to_thread(self._work, target))
        try:
            yield self._read(pipe, thread)
        finally:
            pipe.close()  # so that the thread ends, if the text was not read to its end
            with suppress(Exception):
                await thread

    async def _read(self, pipe: IO[bytes], thread: Awaitable[None]) -> AsyncIterator[bytes]:
        while chunk := await asyncio.to_thread(pipe.read, _CHUNK):
            yield chunk
        try:
            await thread
        except pyrage.DecryptError as why:
            raise ArchiveInvalid(self._unopened(str(why))) from None
        except OSError:
            self.check_unchanged()
            raise ArchiveInvalid(
                f"{self.name} is damaged: it was altered, or its end is missing. Use another backup"
            ) from None
        self.check_unchanged()

    def _work(self, target: IO[bytes]) -> None:
        with target:
            if self.encrypted:
                pyrage.decrypt_io(self._file, target, self._identities)
            else:
                shutil.copyfileobj(self._file, target, _CHUNK)

    def _unopened(self, why: str) -> str:
        if "matching" in why:
            return f"{self.name} is encrypted for other keys. Name the file of the right age identity with --identity"
        return f"{self.name} is damaged: its header can't be read. Use another backup"

    def check_unchanged(self) -> None:
        """Raise ArchiveInvalid if the file was written to since it was opened."""
        if _state_of(self._file) != self._first:
            raise ArchiveInvalid(f"{self.name} was changed while it was read. Run the command again")


@contextmanager
def opened(path: Path, identities: Identities) -> Iterator[ArchiveFile]:
    """Open an archive. Raises ArchiveInvalid, and KeyInvalid if it is encrypted and there is no identity."""
    try:
        file = path.open("rb")
    except OSError as why:
        raise ArchiveInvalid(
            f"{path} can't be read ({why.strerror}). Name a backup that this user may read"
        ) from None
    with file:
        archive = ArchiveFile(path, file, identities)
        if archive.encrypted and not identities:
            raise KeyInvalid(f"{path} is encrypted. Name the file of its age identity with --identity")
        yield archive


def _state_of(file: IO[bytes]) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # the limit of this user's pipes is reached: a smaller one is slower
        fcntl.fcntl(writing, _F_SETPIPE_SZ, 1 << 20)
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb", _CHUNK)
