"""Files of tokens: what an application does to them while they are read and written, and what stays as it was."""

import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.foreign import atomic_file
from daemon.adapters.foreign.atomic_file import NotWritten, replace_file, signature
from daemon.adapters.foreign.files import CHANGED, GONE, THERE, TWICE, TokenFiles
from daemon.domain.foreign import BadRow, Replacement, SourceLost
from daemon.domain.layout import FILE, NAME, Layout, Row, SourceKind
from tests.faults.small_disk import small_disk

LAYOUT = Layout(
    name="files",
    title="",
    source=SourceKind.JSON,
    provider=(FILE,),
    account=(NAME,),
    access_token=("access",),
    refresh_token=("refresh",),
)
FIXED = replace(LAYOUT, provider=(), provider_name="xero")
LINES = replace(FIXED, source=SourceKind.JSONL, account=("account",))
LIST = replace(FIXED, account=("account",))
TWO = {name: {"access": f"at-{name}", "refresh": f"rt-{name}"} for name in ("a", "b")}
NOBODY = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another user")


async def rows_of(place: TokenFiles) -> list[Row | BadRow]:
    return [row async for row in place.rows()]


def changed(row: Row | BadRow, key: str, access: str = "new") -> Replacement:
    assert isinstance(row, Row)
    return Replacement(key=key, before=row, after=replace(row, cells={**row.cells, "access": access}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps(TWO))
    return file


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("layout", "content", "said"),
    [
        (FIXED, b'{"a": {"access": "canary', "is not complete JSON"),
        (FIXED, b"", "is not complete JSON"),
        (FIXED, b"[" * 100_000, "is not complete JSON"),
        (FIXED, b"canary " * 1_500_000, "is not complete JSON"),
        (FIXED, b'{"a": "\xff canary"}', "is not UTF-8"),
        (FIXED, b"\x00\x9f" * 5_000_000, "is not UTF-8"),
        (FIXED, b'{"a": {}, "a": {}}', "the name 'a' stands twice in one object"),
        (FIXED, b'{"a": {"access": "canary", "access": "x"}}', "the name 'access' stands twice"),
        (FIXED, b"[]", "is not an object of entries by account"),
        (LIST, b"{}", "is not a list of entries"),
        (replace(LIST, rows="data.rows"), b'{"data": 7}', "at 'data.rows' it is not a list of entries"),
        (FIXED, None, "there is no such file"),
    ],
    ids=[
        "cut off",
        "empty",
        "without end",
        "words",
        "a byte of Latin-1",
        "ten million bytes",
        "a name twice",
        "a key twice",
        "a list",
        "an object",
        "a number",
        "absent",
    ],  # the contents would be names of several megabytes
)
async def test_what_is_not_a_file_of_tokens_is_one_sentence(
    tmp_path: Path, layout: Layout, content: bytes | None, said: str
) -> None:
    file = tmp_path / "tokens.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SourceLost, match=said) as lost:
        await rows_of(TokenFiles(layout, file))
    assert str(lost.value).startswith(f"{file}: ")
    assert "canary" not in str(lost.value)


@pytest.mark.parametrize(("layout", "content"), [(FIXED, "{}"), (LIST, "[]"), (LINES, ""), (LINES, "\n\n")])
async def test_a_file_may_hold_no_rows(tmp_path: Path, layout: Layout, content: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(content)
    assert await rows_of(TokenFiles(layout, file)) == []


async def test_rows_beside_ten_megabytes_of_other_data_are_read(tmp_path: Path) -> None:
    """Also if one of the entries is as large: it is refused, and the others are read."""
    file = tmp_path / "state.json"
    layout = replace(FIXED, rows="tokens")
    file.write_text(
        json.dumps({"log": ["x" * 1000] * 10_000, "tokens": {**TWO, "huge": {"x": "y" * 65_600}, "no": 7}})
    )
    first, second, huge, number = await rows_of(TokenFiles(layout, file))
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert huge == BadRow(label="huge", why="it is larger than 64 KB")
    assert number == BadRow(label="no", why="it is not an object")


async def test_a_line_that_is_no_row_does_not_hide_the_others(tmp_path: Path) -> None:
    file = tmp_path / "tokens.jsonl"
    file.write_text('{"account": "a"}\nnonsense\n[]\n{"account": "b", "account": "c"}\n{"account": "d"}')
    rows = await rows_of(TokenFiles(LINES, file))
    assert [row.label if isinstance(row, BadRow) else row.cells["account"] for row in rows] == [
        "a",
        "line 2",
        "line 3",
        "line 4",
        "d",
    ]


@pytest.mark.parametrize("layout", [FIXED, LINES])
async def test_a_half_written_file_is_read_again(tmp_path: Path, layout: Layout) -> None:
    """As a program that writes in place leaves it for a moment: in the middle of a character, even."""
    file = tmp_path / "tokens"
    whole = b'{"account": {"access": "\xc3\xa9"}}\n'
    file.write_bytes(whole[:25])
    timer = threading.Timer(0.08, file.write_bytes, [whole])
    timer.start()
    (row,) = await rows_of(TokenFiles(layout, file))
    timer.join()
    assert isinstance(row, Row)


async def test_a_file_that_never_rests_is_one_sentence(file: Path) -> None:
    """Neither is it read without end, nor are halves of two versions taken for one text. Its size makes a reading long
    enough for a change to fall into it.
    """
    os.truncate(file, 64 << 20)
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            os.utime(file, ns=(number, number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with pytest.raises(SourceLost, match="changes again and again"):
            await rows_of(TokenFiles(FIXED, file))
    finally:
        over.set()
        thread.join()


async def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceLost, match="is not a file"):
        await rows_of(TokenFiles(FIXED, tmp_path / "pipe"))


async def test_a_directory_has_a_file_for_each_provider(tmp_path: Path) -> None:
    for name in ("xero", "google"):
        (tmp_path / f"{name}.json").write_text(json.dumps(TWO))
    (tmp_path / ".xero.json.refreshd-1").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    rows = await rows_of(TokenFiles(LAYOUT, tmp_path))
    assert [(row.file, row.name) for row in rows if isinstance(row, Row)] == [
        ("google", "a"),
        ("google", "b"),
        ("xero", "a"),
        ("xero", "b"),
    ]


async def test_a_directory_without_files_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceLost, match=r"contains no \*\.json file"):
        await rows_of(TokenFiles(LAYOUT, tmp_path))
    assert [row async for row in TokenFiles(LAYOUT, tmp_path).rows(new=True)] == []


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    "dump",
    [
        json.dumps,
        lambda whole: json.dumps(whole, separators=(",", ":")),
        lambda whole: json.dumps(whole, indent=2) + "\n",
        lambda whole: json.dumps(whole, indent=4, ensure_ascii=False),
        lambda whole: json.dumps(whole, indent="\t") + "\n",
        lambda whole: json.dumps(whole, indent=2).replace("\n", "\r\n") + "\r\n",
        lambda whole: "\ufeff" + json.dumps(whole, indent=2),
    ],
)
async def test_a_file_keeps_its_spelling(file: Path, dump: Callable[[object], str]) -> None:
    """Indentation, spaces, ends of lines, a mark in front: a comparison shows the changed tokens only."""
    whole = {**TWO, "c": {"access": "é", "number": 1.0, "large": 2**70, "list": [None, {}]}}
    file.write_bytes(dump(whole).encode())
    place = TokenFiles(FIXED, file)
    first, *_ = await rows_of(place)
    assert await place.replace([changed(first, "a")]) == {}
    assert file.read_bytes() == dump({**whole, "a": {**TWO["a"], "access": "new"}}).encode()


async def test_lines_that_did_not_change_stay_to_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "tokens.jsonl"
    odd = '{"account" :  "b",  "number": 1e3}'
    file.write_text(f'{{"account": "a", "access": "x"}}\n{odd}\nnonsense\n')
    place = TokenFiles(LINES, file)
    first, *_ = await rows_of(place)
    assert await place.replace([changed(first, "a")]) == {}
    assert file.read_text() == f'{{"account":"a","access":"new"}}\n{odd}\nnonsense\n'


async def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    for layout, name in (
        (FIXED, "one.json"),
        (LINES, "two.jsonl"),
        (replace(LIST, rows="a.b"), "three.json"),
    ):
        file = tmp_path / name
        row = Row(cells={"account": "a", "access": "x"}, name="a" if layout is FIXED else None)
        assert await TokenFiles(layout, file).replace([Replacement(key="a", before=None, after=row)]) == {}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert await rows_of(TokenFiles(layout, file)) == [replace(row, file=file.stem)]


async def test_entries_are_removed_from_a_directory_too(tmp_path: Path) -> None:
    """There a key has the file's name in front."""
    file = tmp_path / "xero.json"
    file.write_text(json.dumps(TWO))
    place = TokenFiles(LAYOUT, tmp_path)
    first, second = await rows_of(place)
    assert isinstance(first, Row)
    assert (
        await place.replace([Replacement(key="xero:a", before=first, after=None), changed(second, "xero:b")])
        == {}
    )
    assert json.loads(file.read_text()) == {"b": {**TWO["b"], "access": "new"}}


async def test_entries_of_lists_in_a_directory_are_changed_where_they_are(tmp_path: Path) -> None:
    layout = replace(LAYOUT, account=("account",))
    file = tmp_path / "xero.json"
    file.write_text(json.dumps([{"account": "a", "access": "x"}, {"account": "b", "access": "y"}]))
    place = TokenFiles(layout, tmp_path)
    first, _ = await rows_of(place)
    assert await place.replace([changed(first, "xero:a")]) == {}
    assert json.loads(file.read_text()) == [
        {"account": "a", "access": "new"},
        {"account": "b", "access": "y"},
    ]


async def test_a_token_without_a_file_has_no_place_in_a_directory(tmp_path: Path) -> None:
    row = Row(cells={"account": "a"})
    with pytest.raises(SourceLost, match="does not say in which file"):
        await TokenFiles(LINES, tmp_path).replace([Replacement(key="a", before=None, after=row)])


async def test_an_entry_of_another_provider_is_not_overwritten(tmp_path: Path) -> None:
    """Nor one that can't be read as a row."""
    file = tmp_path / "xero.json"
    file.write_text(json.dumps({**TWO, "c": "theirs"}))
    place = TokenFiles(LAYOUT, file)
    changes = [
        Replacement(key=f"google:{name}", before=None, after=Row(cells={}, name=name, file="google"))
        for name in "ac"
    ]
    assert await place.replace(changes) == {"google:a": THERE, "google:c": THERE}
    assert json.loads(file.read_text()) == {**TWO, "c": "theirs"}


async def test_two_entries_with_one_key_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "tokens.jsonl"
    file.write_text('{"account": "a", "access": "1"}\n{"account": "a", "access": "2"}\n')
    place = TokenFiles(LINES, file)
    first, second = await rows_of(place)
    assert await place.replace([changed(first, "a")]) == {"a": TWICE}
    assert await place.replace([changed(second, "a")]) == {"a": TWICE}


async def test_a_change_of_the_application_is_never_overwritten(file: Path) -> None:
    """Whether it changes the same entry or another one, and whether it does so before or during the write."""
    place = TokenFiles(FIXED, file)
    first, second = await rows_of(place)
    theirs = {**TWO, "b": {"access": "theirs"}}
    file.write_text(json.dumps(theirs))
    assert await place.replace([changed(first, "a"), changed(second, "b")]) == {"b": CHANGED}
    assert json.loads(file.read_text()) == {"a": {**TWO["a"], "access": "new"}, "b": {"access": "theirs"}}
    before = signature(file)
    file.write_text("theirs again")
    assert replace_file(file, b"ours", expected=before, keep=5) is False
    assert file.read_text() == "theirs again"
    file.unlink()
    assert replace_file(file, b"ours", expected=before, keep=5) is False
    assert not file.exists()
    file.write_text("{}")
    assert replace_file(file, b"ours", expected=None, keep=5) is False
    assert file.read_text() == "{}"
    assert await place.replace([changed(first, "a")]) == {"a": GONE}


async def test_the_last_versions_are_kept_where_no_application_looks(file: Path) -> None:
    file.chmod(0o640)
    place = TokenFiles(FIXED, file, keep=3)
    for number in range(5):
        first, _ = await rows_of(place)
        assert await place.replace([changed(first, "a", f"at-{number}")]) == {}
    kept = sorted(path.name for path in file.parent.iterdir())
    assert kept == [f".tokens.json.refreshd-{number}" for number in (1, 2, 3)] + ["tokens.json"]
    versions = [file.with_name(name) for name in kept[:3]]
    assert [json.loads(one.read_text())["a"]["access"] for one in versions] == ["at-3", "at-2", "at-1"]
    assert {stat.S_IMODE(one.stat().st_mode) for one in versions} == {0o600}
    assert list(file.parent.glob("*.json")) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


async def test_a_removed_token_leaves_the_former_versions_too(file: Path) -> None:
    place = TokenFiles(FIXED, file)
    first, _ = await rows_of(place)
    assert await place.replace([changed(first, "a")]) == {}
    first, _ = await rows_of(place)
    assert isinstance(first, Row)
    assert await place.replace([Replacement(key="a", before=first, after=None)]) == {}
    assert [path.name for path in file.parent.iterdir()] == ["tokens.json"]


@root_only
def test_owner_group_and_mode_stay(file: Path) -> None:
    """Also in a directory that gives its group to new files."""
    os.chown(file.parent, 0, 7)
    file.parent.chmod(0o2770)
    for owner, group, mode in ((NOBODY, 5, 0o640), (0, 0, 0o604)):
        os.chown(file, owner, group)
        file.chmod(mode)
        assert replace_file(file, b"{}", expected=signature(file), keep=1, owner="nobody")
        found = file.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (owner, group, mode)


@root_only
@pytest.mark.parametrize("owner", [None, "daemon", "no-such-user"])
def test_a_strangers_file_is_refused_unless_its_owner_is_named(file: Path, owner: str | None) -> None:
    os.chown(file, NOBODY, NOBODY)
    with pytest.raises(NotWritten, match="it belongs to nobody, not to this user"):
        replace_file(file, b"{}", expected=signature(file), keep=1, owner=owner)
    assert json.loads(file.read_text()) == TWO


async def test_a_link_is_read_and_never_written(file: Path) -> None:
    link = file.with_name("link.json")
    link.symlink_to(file)
    place = TokenFiles(FIXED, link)
    first, _ = await rows_of(place)
    with pytest.raises(SourceLost, match="is a symbolic link"):
        await place.replace([changed(first, "a")])
    assert json.loads(file.read_text()) == TWO


async def test_a_directory_that_has_gone_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "tokens.json"
    change = Replacement(key="a", before=None, after=Row(cells={}, name="a"))
    with pytest.raises(SourceLost, match=r"gone: no such file or directory. Correct the path"):
        await TokenFiles(FIXED, file).replace([change])


async def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", mebibytes=1) as disk:
        file = disk.directory / "tokens.json"
        file.write_text(json.dumps(TWO))
        place = TokenFiles(FIXED, file)
        first, _ = await rows_of(place)
        disk.fill()
        with pytest.raises(SourceLost, match=r"no space left on device.*nothing was changed"):
            await place.replace([changed(first, "a", "x" * 10_000)])
        assert json.loads(file.read_text()) == TWO
        assert sorted(path.name for path in disk.directory.iterdir()) == ["hog", "tokens.json"]
        disk.clear()
        assert await place.replace([changed(first, "a")]) == {}


# ---------------------------------------------------------------- crashes, and readers beside


def crash_after(step: str, file: Path) -> None:
    """Leave the directory as a writer does that is killed after `step`."""
    names = atomic_file._Names.of(file)
    names.new.write_text("ours")
    if step == "written":
        return
    os.link(names.new, names.mark)
    if step == "marked":
        return
    atomic_file._swap(names.new, file)
    if step == "exchanged":
        return
    names.new.rename(file.with_name(f".{file.name}.refreshd-1"))


@pytest.mark.parametrize(
    ("step", "versions"),
    [
        ("written", ["theirs"]),
        ("marked", ["theirs"]),
        ("exchanged", ["ours", "theirs"]),
        ("kept", ["ours", "theirs"]),
    ],
)
def test_nothing_is_lost_by_a_crash_in_the_middle(tmp_path: Path, step: str, versions: list[str]) -> None:
    """The next write clears up. What an exchange has taken out becomes a former version: it may be another program's."""
    file = tmp_path / "tokens.json"
    file.write_text("theirs")
    crash_after(step, file)
    assert replace_file(file, b"next", expected=signature(file), keep=5)
    assert file.read_text() == "next"
    found = [file.with_name(f".tokens.json.refreshd-{number}") for number in (1, 2)]
    assert [one.read_text() for one in found if one.exists()] == versions
    assert len(list(tmp_path.iterdir())) == 1 + len(versions)


def test_a_file_system_that_cannot_exchange_files_keeps_the_former_one(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    file.write_text("former")
    names = atomic_file._Names.of(file)
    names.new.write_text("new")
    atomic_file._replace(names)
    assert (file.read_text(), names.new.read_text()) == ("new", "former")
    assert not names.aside.exists()


async def test_a_reader_never_sees_a_part_and_no_change_is_lost(file: Path) -> None:
    """An application that replaces the file itself, one that reads it without a pause, and refreshd."""
    over = threading.Event()
    torn: list[str] = []
    theirs = 0

    def read() -> None:
        while not over.is_set():
            try:
                json.loads(file.read_text())
            except (ValueError, OSError) as error:
                torn.append(repr(error))

    def write() -> None:
        nonlocal theirs
        while not over.is_set():
            theirs += 1
            new = file.with_name("theirs.tmp")
            found: Any = json.loads(file.read_text())
            new.write_text(json.dumps({**found, "b": {"access": f"at-{theirs}"}}))
            new.rename(file)
            over.wait(0.03)

    threads = [threading.Thread(target=read), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    place = TokenFiles(FIXED, file)
    written = 0
    try:
        for number in range(100):
            first = (await place.again([Row(cells={}, name="a")]))["a"]
            with suppress(SourceLost):  # the application was faster, five times in a row
                written += not await place.replace([changed(first, "a", f"at-{number}")])
            await asyncio.sleep(0)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert torn == []
    assert written > 50
    assert json.loads(file.read_text())["b"] == {"access": f"at-{theirs}"}
