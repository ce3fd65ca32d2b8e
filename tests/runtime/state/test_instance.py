"""Who a process is: the same id after a crash, a new one for a copy, and never two under one lock."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.runtime.state.instance import StateHeld, StateUnusable, take
from tests.faults.small_disk import small_disk

TAKE = "import sys; from pathlib import Path; from daemon.runtime.state.instance import take; i = take(Path(sys.argv[1])); print(i.id, flush=True); input()"


@pytest.fixture
def another():
    """Takes a directory in another process; returns its id and the process, and kills what is left."""
    running = []

    def start(directory: Path) -> tuple[str, subprocess.Popen]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process.stdout.readline().strip(), process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_an_instance_that_crashed_comes_back_as_itself(tmp_path, another):
    """After SIGKILL the kernel has let go of the lock: the next process has the same id."""
    name, process = another(tmp_path / "state")
    process.kill()
    process.wait()
    assert another(tmp_path / "state")[0] == name


def test_a_directory_that_is_in_use_is_refused_by_the_name_of_its_holder(tmp_path, another):
    """Two processes can't be one instance."""
    _, process = another(tmp_path / "state")
    with pytest.raises(StateHeld, match=f"process {process.pid}:"):
        take(tmp_path / "state")


def test_a_removed_lock_file_lets_nobody_in(tmp_path, another):
    """Somebody tidied up: the identity is held as well, and two live processes never share one."""
    another(tmp_path / "state")
    (tmp_path / "state" / "lock").unlink()
    with pytest.raises(StateHeld, match="lock file is missing"):
        take(tmp_path / "state")


def test_a_copied_directory_is_another_instance(tmp_path, another):
    """The id is bound to the file it stands in, so a copy beside the original does not match."""
    name, _ = another(tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "copy", copy_function=shutil.copy2)
    copied, _ = another(tmp_path / "copy")
    assert copied != name


def test_a_directory_on_a_copied_disk_is_another_instance(tmp_path, another):
    """Two new disks number their files alike: the inode is the same, and the id is bound to the disk as well."""
    with (
        small_disk(tmp_path / "disk", mebibytes=1) as disk,
        small_disk(tmp_path / "twin", mebibytes=1) as twin,
    ):
        name, _ = another(disk.directory)
        original, copy = disk.directory / "instance.json", twin.directory / "instance.json"
        while not copy.exists() or copy.stat().st_ino < original.stat().st_ino:
            copy.unlink(missing_ok=True)
            shutil.copyfile(original, copy)
        assert copy.stat().st_ino == original.stat().st_ino
        copied, _ = another(twin.directory)
    assert copied != name


def test_an_instance_of_an_earlier_boot_is_another_one(tmp_path, another):
    """After a reboot of this machine, or in a clone of it, the boot id differs: a new id, old claims keep their hold."""
    name, process = another(tmp_path / "state")
    process.kill()
    process.wait()
    identity = tmp_path / "state" / "instance.json"
    text = identity.read_text()
    with identity.open("r+") as file:  # the same inode
        file.write(text.replace(text.split('"')[7][:8], "00000000"))
    assert another(tmp_path / "state")[0] != name


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"id": 1}'])
def test_a_damaged_identity_is_replaced(tmp_path, another, damage):
    """An id that can't be read belongs to nobody; a new one is made."""
    (tmp_path / "instance.json").write_text(damage)
    name, _ = another(tmp_path)
    assert json.loads((tmp_path / "instance.json").read_text())["id"] == name


@pytest.mark.operations
@pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (Debian: apt-get install strace)"
)
def test_an_identity_is_on_the_disk_before_it_has_its_name(tmp_path):
    """Else a crash of the machine can leave an empty file by that name. The kernel's own words: synced, then renamed."""
    traced = tmp_path / "traced"
    calls = ("strace", "--trace=fsync,fdatasync,rename", "--decode-fds=path", f"--output={traced}")
    command = (*calls, sys.executable, "-c", TAKE, str(tmp_path / "state"))
    subprocess.run(command, input="\n", text=True, check=True, timeout=60, capture_output=True)
    seen = [line for line in traced.read_text().splitlines() if "instance." in line]
    assert [line.partition("(")[0] for line in seen] == ["fsync", "rename"]
    assert "instance.new" in seen[0]
    assert seen[1].index("instance.new") < seen[1].index("instance.json")


def test_what_can_not_be_a_directory_is_refused_with_advice(tmp_path):
    """A file where the directory should be: one sentence that names the key."""
    (tmp_path / "file").touch()
    with pytest.raises(StateUnusable, match=r"state\.dir .*file/state.*writ"):
        take(tmp_path / "file" / "state")


@pytest.mark.parametrize("filesystem", ["nfs4", "cifs", "fuse.sshfs", "ceph"])
def test_a_network_file_system_is_refused_before_anything_is_written_to_it(tmp_path, filesystem):
    """Its locks and fsyncs can't be relied on: named, with what to do, and no lock file is left there."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path} rw - {filesystem} far:/ rw\n"
    )
    with pytest.raises(StateUnusable, match=rf"state\.dir .*network.*{filesystem}.*disk of this machine"):
        take(tmp_path / "state", mountinfo=mountinfo)
    assert list((tmp_path / "state").iterdir()) == []


def test_a_link_onto_a_network_file_system_is_refused_too(tmp_path):
    """What counts is where the files are, not what the path is called."""
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path}/far rw - nfs filer:/ rw\n")
    with pytest.raises(StateUnusable, match="network"):
        take(tmp_path / "near" / "state", mountinfo=mountinfo)


@pytest.mark.parametrize("filesystem", ["ext4", "tmpfs", "overlay"])
def test_any_other_is_taken_and_named(tmp_path, filesystem):
    """A container's layer and memory too: that is for a warning."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 0:1 / / rw - {filesystem} none rw\n")
    assert take(tmp_path / "state", mountinfo=mountinfo).filesystem == filesystem


def test_without_a_list_of_mounts_nothing_is_refused(tmp_path):
    """Not every system has one."""
    assert take(tmp_path / "state", mountinfo=tmp_path / "missing").filesystem is None


def test_a_full_disk_does_not_keep_a_known_instance_out(tmp_path, another):
    """Its lock file has a page already: taking the directory again needs no room."""
    with small_disk(tmp_path / "disk", mebibytes=1) as disk:
        name, process = another(disk.directory)
        process.kill()
        process.wait()
        disk.fill()
        assert another(disk.directory)[0] == name


def test_a_directory_that_others_can_enter_is_closed_and_one_of_theirs_is_refused(tmp_path):
    """Else whoever writes there first gives the daemon its keys."""
    (state := tmp_path / "state").mkdir()
    state.chmod(0o777)
    assert take(state).former_mode == 0o777
    assert state.stat().st_mode & 0o777 == 0o700
    (way := tmp_path / "way").mkdir()
    way.chmod(0o757)
    with pytest.raises(
        StateUnusable, match=f"state.dir: {way} belongs to .* every local user can change it.*chmod o-w"
    ):
        take(way / "state")
