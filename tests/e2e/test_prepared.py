"""The processes that tests start from a copy are what a start of their own would make of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon import __version__
from tests.support import prepared

COMMAND = [sys.executable, "-m", "daemon"]
WAYS = pytest.mark.parametrize("start", [prepared.REAL, subprocess.Popen], ids=["started", "copied"])


pytestmark = pytest.mark.skipif(
    not prepared.POSSIBLE, reason="copies are made on Linux on x86-64, without LD_PRELOAD"
)


def test_the_tests_start_copies():
    """Else all of this would prove nothing."""
    assert subprocess.Popen is not prepared.REAL


@WAYS
@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["--version"], 0, f"refreshd {__version__}\n", ""),
        (["nonsense"], 2, "", "refreshd: No such command 'nonsense'.\nTry 'refreshd --help'.\n"),
        (["check", "--config", "none.toml"], 78, "problem: none.toml: the file does not exist", ""),
    ],
    ids=["done", "wrong usage", "not configured"],
)
def test_a_command_ends_and_writes_alike(
    start: Any, words: list[str], code: int, out: str, err: str, tmp_path: Path
):
    """Its exit code, and both outputs."""
    with start(
        [*COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        said = one.communicate(timeout=60)
    assert (one.returncode, said[0][: len(out)], said[1]) == (code, out, err)


@WAYS
def test_a_process_has_what_it_was_given_and_nothing_else(start: Any, tmp_path: Path):
    """Its descriptors, directory, session and parent; and a signal ends it."""
    kept = os.open(tmp_path, os.O_RDONLY)
    one = start(
        [*COMMAND, "sandbox"],
        cwd=tmp_path,
        env={**os.environ, "OF_ITS_OWN": "x"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert b"token_url" in one.stdout.readline()
        home = Path(f"/proc/{one.pid}")
        opened = [str(file.readlink()) for file in (home / "fd").iterdir()]
        assert (home / "cwd").readlink() == tmp_path
        assert str(tmp_path) not in opened
        assert len([name for name in opened if name.startswith("pipe:")]) == 1
        assert opened.count("/dev/null") == 1
        assert len([name for name in opened if name.startswith("socket:")]) <= 4
        assert os.getsid(one.pid) == one.pid
        assert f"PPid:\t{os.getpid()}\n" in (home / "status").read_text()
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) == 0
    finally:
        one.kill()
        one.wait()
        one.stdout.close()
        os.close(kept)


def test_what_the_interpreter_reads_at_its_start_gets_a_start():
    """A copy could not take it from its environment."""
    ran = subprocess.run(
        [*COMMAND, "--version"], env={**os.environ, "PYTHONVERBOSE": "1"}, capture_output=True, check=True
    )
    assert b"import 'daemon.commands.app'" in ran.stderr
