"""The sealed copy of what an import read: durable, closed to others, and readable again."""

import resource
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from daemon.adapters.keyring import KeyRing
from daemon.adapters.row_copy import CopyInvalid, RowCopyFile, is_copy, read_header, read_rows
from daemon.domain.moving import CopyFailed, KeptRow

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
RING = KeyRing({"one": b"1" * 32}, active="one")
ROWS = [KeptRow(name=str(number), file=None, cells=f'{{"secret": "canary-{number}"}}') for number in range(5)]


@pytest.fixture
def copy(tmp_path):
    made = RowCopyFile(tmp_path / "imports", RING, layout="token-files", source="/srv/tokens.json", at=AT)
    yield made
    made.close()


@contextmanager
def file_limit(size):
    """No file of this process may grow beyond `size`: a write beyond it fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_the_rows_come_back(copy):
    """In their order, with names; the header says where they came from."""
    await copy.add(ROWS[:3])
    await copy.add(ROWS[3:])
    await copy.finish()
    assert list(read_rows(copy.path, RING)) == ROWS
    header = read_header(copy.path)
    assert (header.layout, header.source, header.at) == ("token-files", "/srv/tokens.json", AT.isoformat())
    assert is_copy(copy.path)


async def test_it_is_private_sealed_and_named_at_the_end(copy):
    """Until then its name ends in `.part`."""
    await copy.add(ROWS)
    (part,) = copy.path.parent.iterdir()
    assert part.name == f"{copy.path.name}.part"
    await copy.finish()
    assert list(copy.path.parent.iterdir()) == [copy.path]
    assert copy.path.stat().st_mode & 0o777 == 0o600
    assert copy.path.parent.stat().st_mode & 0o777 == 0o700
    assert b"canary" not in copy.path.read_bytes()


async def test_a_killed_run_leaves_rows_that_can_be_read(copy):
    """A line that was cut off belongs to no stored row."""
    await copy.add(ROWS)
    (part,) = copy.path.parent.iterdir()
    with part.open("ab") as file:
        file.write(b"v1.one.half")
    assert list(read_rows(part, RING)) == ROWS


async def test_a_full_disk_is_one_sentence_and_the_copy_stays_whole(copy):
    """What it held before can still be read, and rows can be added when there is room again."""
    await copy.add(ROWS[:2])
    (part,) = copy.path.parent.iterdir()
    size = part.stat().st_size
    with (
        file_limit(size + 50),
        pytest.raises(CopyFailed, match=r"can't be written to .* and run the import again"),
    ):
        await copy.add(ROWS[2:])
    assert part.stat().st_size == size
    await copy.add(ROWS[2:])
    await copy.finish()
    assert list(read_rows(copy.path, RING)) == ROWS


async def test_a_directory_that_can_not_be_made_is_one_sentence(tmp_path):
    """A file is in its place."""
    (tmp_path / "imports").write_text("")
    copy = RowCopyFile(tmp_path / "imports", RING, layout="jsonl", source="x", at=AT)
    with pytest.raises(CopyFailed, match="File exists"):
        await copy.add(ROWS)


async def test_a_copy_without_use_is_removed(copy):
    """Nothing was stored, so nothing has to be brought back."""
    await copy.add(ROWS)
    copy.discard()
    assert list(copy.path.parent.iterdir()) == []
    RowCopyFile(copy.path.parent, RING, layout="jsonl", source="x", at=AT).discard()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda lines: [*lines[:2], *lines[3:]], "line 3: .*altered or moved"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: .*altered or moved"),
        (lambda lines: [*lines[:5], lines[-1]], "rows are missing"),
        (lambda lines: [*lines[:-1], "end v1.one.AAAA\n"], "rows are missing"),
        (lambda lines: ['{"refreshd_rows": 1}\n', *lines[1:]], "first line is damaged"),
        (lambda lines: [lines[0].replace(": 1,", ": 2,", 1), *lines[1:]], "version 2"),
    ],
)
async def test_an_altered_copy_is_refused(copy, damage, why):
    """A row that is missing, moved or cut, another end, another header."""
    await copy.add(ROWS)
    await copy.finish()
    copy.path.write_text("".join(damage(copy.path.read_text().splitlines(keepends=True))))
    with pytest.raises(CopyInvalid, match=why):
        list(read_rows(copy.path, RING))


async def test_another_key_ring_opens_nothing(copy):
    """The sentence names the key that is missing."""
    await copy.add(ROWS)
    await copy.finish()
    with pytest.raises(CopyInvalid, match="key 'one', which is not on the key ring"):
        list(read_rows(copy.path, KeyRing({"two": b"2" * 32}, active="two")))


def test_other_files_are_no_copies(tmp_path):
    """Nor is a missing one, which is read as an empty source elsewhere."""
    path = tmp_path / "tokens.json"
    path.write_text('{"7": {}}')
    assert not is_copy(path)
    assert not is_copy(tmp_path / "missing")
    with pytest.raises(CopyInvalid, match="can't be read"):
        read_header(tmp_path / "missing")
