"""Archive files: whole or absent, and read with little memory."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.adapters.archive import ArchiveFile, identities, new_key, opened, recipients, write_text, writing
from daemon.domain.backup import ArchiveInvalid

NAME = "refreshd.tokens-20261121T120000Z.age"
MUCH = 3 << 20  # bytes; more than pipes and buffers hold


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    """A file with an identity, and its recipient."""
    identity, recipient = new_key()
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(f"# made by a test\n\n{identity}\n")
    return path, recipient


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "archives"
    path.mkdir()
    return path


async def written(directory: Path, text: bytes, *to: str) -> Path:
    async with writing(directory, NAME, recipients(to, [])) as writer:
        await writer.write(text[:7])
        await writer.write(text[7:])
    return writer.path


async def read(archive: ArchiveFile) -> bytes:
    async with archive.chunks() as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("encrypted", [True, False])
async def test_what_was_written_is_read_as_often_as_it_is_wanted(directory: Path, key, encrypted: bool):
    """The temporary name is gone."""
    text = os.urandom(MUCH)
    path = await written(directory, text, *([key[1]] if encrypted else []))
    assert [one.name for one in directory.iterdir()] == [NAME]
    with opened(path, identities(key[0])) as archive:
        assert archive.encrypted is encrypted
        assert [await read(archive) == text for _ in range(2)] == [True, True]


async def test_reading_may_stop_early(directory: Path, key):
    """The archive can be read again."""
    path = await written(directory, os.urandom(MUCH), key[1])
    with opened(path, identities(key[0])) as archive:
        async with archive.chunks() as chunks:
            assert await first(chunks)
        assert len(await read(archive)) == MUCH


async def test_an_error_in_the_body_leaves_no_file(directory: Path, key):
    """Neither does a cancellation."""

    async def fails(error: BaseException) -> None:
        async with writing(directory, NAME, recipients([key[1]], [])) as writer:
            await writer.write(os.urandom(MUCH))
            assert len(list(directory.iterdir())) == 1
            raise error

    with pytest.raises(ZeroDivisionError):
        await fails(ZeroDivisionError())
    with pytest.raises(asyncio.CancelledError):
        await fails(asyncio.CancelledError())
    assert list(directory.iterdir()) == []


async def test_an_archive_is_not_replaced_and_one_being_written_not_removed(directory: Path, key):
    """Two runs at the same moment: the first one to begin is left alone, and the second one fails or writes its own."""
    async with writing(directory, NAME, []) as writer:
        await writer.write(b"first")
        other = NAME.replace("120000", "120001")
        async with writing(directory, other, []) as second:
            await second.write(b"second")
        assert len(list(directory.iterdir())) == 2
    assert sorted(one.name for one in directory.iterdir()) == [NAME, other]
    with pytest.raises(ArchiveInvalid, match="exists already"):
        await written(directory, b"third text")
    assert (directory / NAME).read_bytes() == b"first"


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "metric.prom"
    for text in ("one\n", "two\n"):
        write_text(path, text)
        assert (path.read_text(), [one.name for one in tmp_path.iterdir()]) == (text, ["metric.prom"])
    with pytest.raises(ArchiveInvalid, match="can't be written"):
        write_text(tmp_path / "none" / "metric.prom", "x")


async def first(chunks: AsyncIterator[bytes]) -> bytes:
    async for chunk in chunks:
        return chunk
    return b""
