"""Whose files are obeyed: what others can change is refused, wherever on its way they could; the usual is not."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters import trusted_files
from daemon.adapters.trusted_files import (
    Untrusted,
    make_private,
    open_mode,
    read_own,
    read_trusted,
    require_file,
    trust,
)

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file as it should be, two directories deep."""
    way = tmp_path / "outer" / "inner"
    way.mkdir(parents=True)
    for directory in (way, way.parent):
        directory.chmod(0o755)
    (made := way / "config.toml").write_text("secret")
    made.chmod(0o600)
    return made


LOOSE: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "the file": (lambda file: file, 0o622, "chmod o-w"),
    "the file, but for reading": (lambda file: file, 0o602, "chmod o-w"),
    "its directory": (lambda file: file.parent, 0o777, "chmod o-w"),
    "a directory above": (lambda file: file.parents[1], 0o757, "chmod o-w"),
    "its directory, for some other group": (lambda file: file.parent, 0o775, "chmod g-w"),
}


@pytest.mark.parametrize(("step", "mode", "cure"), LOOSE.values(), ids=LOOSE)
def test_what_others_may_write_is_not_obeyed(file, step, mode, cure, monkeypatch):
    """The file or whatever lies on its way: the sentence names it, its owner, its mode and the cure."""
    monkeypatch.setattr(trusted_files, "_is_own_group", lambda _: False)
    step(file).chmod(mode)
    with pytest.raises(Untrusted) as refused:
        read_trusted(file)
    owner = trusted_files._user(os.geteuid())
    assert f"{step(file)} belongs to {owner} (mode {mode:04o})" in refused.value.what
    assert refused.value.do == f"{cure} {step(file)}"


@needs_root
@pytest.mark.parametrize("above", [0, 1, 2])
def test_what_belongs_to_another_user_is_not_obeyed(file, above):
    """He can change it whenever he likes, whatever its mode is now."""
    step = (file, *file.parents)[above]
    os.chown(step, NOBODY, -1)
    with pytest.raises(
        Untrusted, match=f"^{step} belongs to nobody .*who can change files that root acts on"
    ) as refused:
        trust(file)
    assert refused.value.do == f"chown root {step}, or run refreshd as nobody."


def test_a_sticky_directory_may_lie_on_the_way(file):
    """As /tmp does: nobody can replace what is ours there. A directory that is itself obeyed may not be one."""
    file.parent.chmod(0o1777)
    assert read_trusted(file).data == b"secret"
    with pytest.raises(Untrusted, match="every local user can change it"):
        trust(file.parent)


@needs_root
def test_in_a_sticky_directory_others_lay_nothing_for_us(file):
    """Neither a file, nor a link to one of ours."""
    file.parent.chmod(0o1777)
    planted, link = file.with_name("planted"), file.with_name("link")
    planted.write_text("theirs")
    os.chown(planted, NOBODY, NOBODY)
    link.symlink_to(file)
    trust(link)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    for path in (planted, link):
        with pytest.raises(Untrusted, match=f"^{path} belongs to nobody"):
            read_trusted(path)


def test_links_are_followed_and_what_they_lead_to_is_judged(file, tmp_path):
    """As Kubernetes mounts secrets: a link to a file in a directory that is a link. Both ways must be safe."""
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "data").symlink_to("../outer/inner")
    (loose / "config.toml").symlink_to("data/config.toml")
    (loose / "up").symlink_to(file.parent / ".." / "inner" / "config.toml")
    for name in ("config.toml", "up"):
        assert read_trusted(loose / name).data == b"secret"
    loose.chmod(0o757)
    with pytest.raises(Untrusted, match=f"^{loose} "):
        trust(loose / "config.toml")
    loose.chmod(0o755)
    file.parent.chmod(0o757)
    with pytest.raises(Untrusted, match=f"^{file.parent} "):
        trust(loose / "up")


def test_links_in_a_circle_are_an_error_of_the_system(tmp_path):
    """And no endless walk."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        trust(tmp_path / "a")


def test_what_is_not_there_is_judged_as_far_as_it_goes(file):
    """Whoever may make it later decides what it holds."""
    trust(file.parent / "none" / "of" / "these")
    trust(file / "a-file-is-no-directory")
    file.parent.chmod(0o757)
    with pytest.raises(Untrusted):
        trust(file.parent / "none" / "of" / "these")


@needs_root
@pytest.mark.parametrize(
    ("group", "members", "trusted"),
    [
        (0, (), True),
        (4242, (), True),
        (4242, ("root",), True),
        (4242, ("root", "daemon"), False),
        (100, (), False),
    ],
)
def test_a_group_in_which_nobody_else_is_counts_as_ours(file, monkeypatch, group, members, trusted):
    """A user's private group, or a pod's fsGroup; never one that we are not in, or that has other members."""
    monkeypatch.setattr(os, "getgroups", lambda: [0, 4242])
    record = trusted_files.grp.struct_group(("made-up", "x", 4242, list(members)))
    monkeypatch.setattr(trusted_files.grp, "getgrgid", lambda _: record)
    os.chown(file, 0, group)
    file.chmod(0o660)
    if trusted:
        assert read_trusted(file).group is None
    else:
        with pytest.raises(Untrusted, match="the group made-up can change it"):
            trust(file)
        file.chmod(0o640)
        assert read_trusted(file).group == "made-up"


@needs_root
def test_a_group_that_is_another_users_primary_one_is_not_ours(file, monkeypatch):
    """It has no members by name, and yet it has one."""
    user = next(one for one in trusted_files.pwd.getpwall() if one.pw_uid not in (0, NOBODY) and one.pw_gid)
    monkeypatch.setattr(os, "getgroups", lambda: [0, user.pw_gid])
    os.chown(file, 0, user.pw_gid)
    file.chmod(0o620)
    with pytest.raises(Untrusted):
        trust(file)


def test_an_access_list_that_lets_others_write_is_seen(file):
    """Its mask stands where the group's mode does."""
    file.chmod(0o660)
    os.chown(file, -1, os.getegid())
    entries = [
        (0x01, 6, 0xFFFFFFFF),
        (0x02, 6, 1),
        (0x04, 0, 0xFFFFFFFF),
        (0x10, 6, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    ]
    raw = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, rights, who in entries
    )
    try:
        os.setxattr(file, "system.posix_acl_access", raw)
    except OSError:
        pytest.skip("this file system has no access lists")
    with pytest.raises(Untrusted, match="its access list may allow others to change it"):
        read_trusted(file)


def test_who_may_read_is_told_with_the_content(file):
    """A secret's reader decides what that means: credentials have mode 0440."""
    for mode, everybody in ((0o400, False), (0o440, False), (0o444, True)):
        file.chmod(mode)
        assert read_trusted(file).everybody is everybody
    assert read_trusted(file, limit=3).data == b"sec"


def test_a_pipe_of_our_own_is_read():
    """The shell's `--config <(...)`."""
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    try:
        assert read_trusted(Path(f"/dev/fd/{reader}")).data == b"piped"
    finally:
        os.close(reader)
    assert read_trusted(Path("/dev/null")).data == b""


def test_a_pipe_whose_writer_comes_later_is_read(tmp_path):
    """The writer of a named pipe waits for its reader."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with subprocess.Popen(["/bin/sh", "-c", 'printf one >"$0"; sleep 0.1', pipe]):
        assert read_trusted(pipe).data == b"one"


@pytest.mark.parametrize("opened", [False, True])
def test_a_pipe_that_nobody_writes_holds_nothing_up(tmp_path, monkeypatch, opened):
    """Neither a start nor a reload: whether nobody has it open, or its writer sleeps."""
    monkeypatch.setattr(trusted_files, "PIPE_PAUSE", timedelta(milliseconds=50))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(pipe, os.O_WRONLY) if opened else None
    if writer is not None:
        os.write(writer, b"half")
    try:
        with pytest.raises(OSError, match="it is a pipe"):
            read_trusted(pipe)
    finally:
        os.close(reader)
        if writer is not None:
            os.close(writer)


# ------------------------------------------------------------------------------------------------ directories of ours


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770, 0o711])
def test_a_directory_of_ours_is_closed(tmp_path, mode):
    """One that is empty, or that a daemon has worked in."""
    (state := tmp_path / "state").mkdir()
    for fill in ([], ["lock"], ["lock", "journal.db", "other"]):
        for name in fill:
            (state / name).touch()
        state.chmod(mode)
        assert open_mode(state) == mode
        assert make_private(state) == mode
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert make_private(state) is None


def test_a_directory_that_is_not_refreshds_is_not_closed(tmp_path):
    """Else `state.dir = "/var/lib"`, and a start as root, would close that to everybody; nor is a sticky one."""
    (home := tmp_path / "lib").mkdir()
    (home / "dpkg").mkdir()
    home.chmod(0o755)
    with pytest.raises(Untrusted, match="other users can enter it") as refused:
        make_private(home)
    assert "name a directory that holds nothing else" in refused.value.do
    (shared := tmp_path / "tmp").mkdir()
    shared.chmod(0o1777)
    with pytest.raises(Untrusted):
        make_private(shared)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (home, shared)] == [0o755, 0o1777]
    assert make_private(shared / "inside") is None


@needs_root
def test_what_others_have_laid_into_a_directory_is_not_taken_for_ours(tmp_path):
    """While it was open to them: a journal, a key file, or a whole directory."""
    (state := tmp_path / "state").mkdir()
    state.chmod(0o777)
    for planted in (state / "journal.db", state / "mongodb", state / "mongodb" / "keyfile"):
        state.joinpath("mongodb").mkdir(exist_ok=True)
        planted.touch() if planted.suffix or planted.name == "keyfile" else planted.mkdir(exist_ok=True)
        os.chown(planted, NOBODY, NOBODY)
        with pytest.raises(Untrusted, match=f"^{planted} belongs to nobody") as refused:
            make_private(state)
        assert f"chown -R root {state}; else remove it" in refused.value.do
        os.chown(planted, 0, 0)
    os.chown(state, NOBODY, 0)
    with pytest.raises(Untrusted, match="belongs to nobody"):
        make_private(state)


@needs_root
def test_a_volume_of_roots_is_not_ours_to_close(tmp_path, monkeypatch):
    """A pod's volume belongs to root and its group: a directory inside it is ours."""
    (volume := tmp_path / "volume").mkdir()
    volume.chmod(0o2775)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    with pytest.raises(Untrusted, match="belongs to root") as refused:
        open_mode(volume)
    assert f"name a directory inside it: {volume}/refreshd" in refused.value.do
    trust(volume / "refreshd", itself=False)


def test_a_device_is_never_waited_for():
    """A start would hang at a terminal until somebody types."""
    master, terminal = os.openpty()
    try:
        with pytest.raises(OSError, match="it is a device with nothing to read"):
            read_trusted(Path(os.ttyname(terminal)))
    finally:
        os.close(master)
        os.close(terminal)


def test_only_a_file_is_given_to_a_library_that_waits(tmp_path):
    """One that is missing is found missing by who opens it."""
    (file := tmp_path / "cert.pem").touch()
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(pipe := tmp_path / "pipe")
    for path in (file, tmp_path / "link", tmp_path / "none", file / "below"):
        require_file(path)
    for path, kind in ((pipe, "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "a directory")):
        with pytest.raises(OSError, match=f"it is.* {kind}.* and not a file"):
            require_file(path)


def test_a_secret_of_our_own_is_closed_and_no_link(tmp_path):
    """What this program made has one owner and one mode."""
    (own := tmp_path / "keyfile").touch(mode=0o600)
    own.write_text("key")
    assert read_own(own) == "key"
    own.chmod(0o640)
    with pytest.raises(Untrusted, match="belongs to another user"):
        read_own(own)
    own.chmod(0o600)
    (link := tmp_path / "link").symlink_to(own)
    with pytest.raises(OSError, match="symbolic links"):
        read_own(link)
    os.mkfifo(pipe := tmp_path / "pipe", 0o600)
    with pytest.raises(Untrusted):
        read_own(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_own(tmp_path / "socket")
