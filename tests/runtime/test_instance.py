"""Who a process is: the same id after a crash, a new one for a copy, and never two under one lock."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.runtime.instance import StateHeld, StateUnusable, take

TAKE = "import sys; from pathlib import Path; from daemon.runtime.instance import take; i = take(Path(sys.argv[1])); print(i.id, i.returned, flush=True); input()"


@pytest.fixture
def another():
    """Takes a directory in another process; yields (id, returned, pid), and kills what is left."""
    running = []

    def start(directory: Path) -> tuple[str, str, subprocess.Popen]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        name, returned = process.stdout.readline().split()
        return name, returned, process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_an_instance_that_crashed_comes_back_as_itself(tmp_path, another):
    """After SIGKILL the kernel has let go of the lock: the next process has the same id, and knows that it returned."""
    name, returned, process = another(tmp_path / "state")
    assert returned == "False"
    process.kill()
    process.wait()
    assert another(tmp_path / "state")[:2] == (name, "True")


def test_a_directory_that_is_in_use_is_refused_by_the_name_of_its_holder(tmp_path, another):
    """Two processes can't be one instance."""
    _, _, process = another(tmp_path / "state")
    with pytest.raises(StateHeld, match=f"process {process.pid}:"):
        take(tmp_path / "state")


def test_a_copied_directory_is_another_instance(tmp_path, another):
    """The id is bound to the file it stands in, so a copy beside the original does not match."""
    name, _, _ = another(tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "copy", copy_function=shutil.copy2)
    copied, returned, _ = another(tmp_path / "copy")
    assert copied != name
    assert returned == "False"


def test_an_instance_of_an_earlier_boot_is_another_one(tmp_path, another):
    """After a reboot of this machine, or in a clone of it, the boot id differs: a new id, old claims keep their hold."""
    name, _, process = another(tmp_path / "state")
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
    assert another(tmp_path)[1] == "False"


def test_what_can_not_be_a_directory_is_refused_with_advice(tmp_path):
    """A file where the directory should be: one sentence that names the key."""
    (tmp_path / "file").touch()
    with pytest.raises(StateUnusable, match=r"state\.dir .*file/state.*writ"):
        take(tmp_path / "file" / "state")
