"""A secret from a program's output: what it may print, how long it may take, and what is left of it afterwards."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters.secrets.command import LARGEST, read
from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.domain.secret_reference import Command
from tests.support.waiting import until

CANARY = "cAnArY-41f0-must-never-be-printed"
Program = Callable[..., Command]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def make(body: str, *arguments: str, timeout: timedelta = timedelta(seconds=10)) -> Command:
        file = tmp_path / f"program-{len(list(tmp_path.iterdir()))}"
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o700)
        return Command(argv=(str(file), *arguments), timeout=timeout)

    return make


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("printf 's3cret'", "s3cret"),
        ("echo s3cret", "s3cret"),
        ("printf 's3cret\\r\\n'", "s3cret"),
        ("printf 'two\\nlines\\n\\n'", "two\nlines\n"),
        ("printf ' s3cret '", " s3cret "),
        ("echo s3cret; echo noise >&2", "s3cret"),
    ],
    ids=["bare", "a newline", "a newline of Windows", "one newline of two", "blanks", "noise beside it"],
)
async def test_the_output_is_the_secret_without_one_newline(program: Program, body: str, expected: str):
    """Only the newline that programs append is dropped, and what goes to standard error is no part of it."""
    assert await read(program(body)) == expected


FAILURES = {
    "exit code": (f"echo {CANARY}; echo {CANARY} >&2; exit 3", SecretAway, "exit code 3"),
    "does not exist": ("exit 66", SecretMissing, "does not exist"),
    "killed": (f"echo {CANARY}; kill -9 $$", SecretAway, "signal 9"),
    "nothing": ("exit 0", SecretUnusable, "nothing"),
    "blanks": ("echo '  '", SecretUnusable, "nothing"),
    "binary": ("printf '\\377\\376\\001'", SecretUnusable, "UTF-8"),
    "a NUL": (f"printf '{CANARY}\\000x'", SecretUnusable, "NUL"),
    "too long": (f"head -c {LARGEST + 1} /dev/zero | tr '\\0' a", SecretUnusable, "64 KB"),
    "without an end": (f"yes {CANARY}", SecretUnusable, "64 KB"),
}


@pytest.mark.parametrize("case", FAILURES.values(), ids=FAILURES)
async def test_another_end_is_one_sentence_without_the_output(
    program: Program, case: tuple[str, type[Exception], str]
):
    """Whatever goes wrong, the sentence names the program and the cause, and nothing that it has printed."""
    body, kind, words = case
    command = program(body)
    with pytest.raises(kind) as raised:
        await read(command)
    assert words in str(raised.value)
    assert command.argv[0] in str(raised.value)
    assert CANARY not in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_the_longest_output_is_taken(program: Program):
    """64 KB may come, and one newline after them."""
    found = await read(program(f"head -c {LARGEST} /dev/zero | tr '\\0' a; echo"))
    assert len(found) == LARGEST


async def test_a_program_that_runs_for_ever_is_ended_with_its_children(program: Program, tmp_path: Path):
    """At the limit no process of its group is left, also if it ignores SIGTERM."""
    pids = tmp_path / "pids"
    command = program(
        f"trap '' TERM HUP; sleep 100 & echo $! > {pids}; echo $$ >> {pids}; sleep 100; wait",
        timeout=timedelta(seconds=1.5),  # time to begin, on a busy machine
    )
    begun = time.monotonic()
    with pytest.raises(SecretAway, match=r"did not end within 1\.5 s"):
        await read(command)
    assert time.monotonic() - begun < 10
    started = [int(pid) for pid in pids.read_text().split()]
    await until(
        lambda: not any(map(_runs, started)), every=timedelta(milliseconds=10), within=timedelta(seconds=5)
    )


async def test_a_child_that_holds_the_output_open_delays_nothing(program: Program):
    """The program has ended, so its output is complete. What it left in its group is ended."""
    begun = time.monotonic()
    assert await read(program("sleep 100 & echo s3cret")) == "s3cret"
    assert time.monotonic() - begun < 5


async def test_a_descendant_outside_the_group_delays_nothing(program: Program, tmp_path: Path):
    """A process that has left the group, like an agent, is not ended, and its hold of the output is no matter."""
    pid = tmp_path / "pid"
    command = program(
        f'{sys.executable} -c \'import os, time\nos.setsid()\nopen("{pid}", "w").write(str(os.getpid()))'
        "\ntime.sleep(60)' & while [ ! -s " + str(pid) + " ]; do sleep 0.05; done; echo s3cret",
        timeout=timedelta(seconds=3),
    )
    begun = time.monotonic()
    try:
        assert await read(command) == "s3cret"
        assert time.monotonic() - begun < 3
    finally:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


async def test_it_gets_no_environment_and_no_shell(program: Program, monkeypatch: pytest.MonkeyPatch):
    """The daemon's environment holds other secrets. Arguments reach the program as they are."""
    monkeypatch.setenv("REFRESHD_CANARY", CANARY)
    monkeypatch.setenv("LD_PRELOAD", "")
    environment = await read(program("env"))
    assert CANARY not in environment
    assert {line.partition("=")[0] for line in environment.splitlines()} <= {"PATH", "HOME", "LANG", "PWD", "_", "SHLVL", "OLDPWD"}  # fmt: skip
    assert await read(program('printf "%s|%s" "$1" "$2"', "$(id); a  b", "*")) == "$(id); a  b|*"
    assert await read(program("cat; pwd")) == "/"


BAD_PROGRAMS = {
    "writable by others": (0o702, "every local user can change it"),
    "not executable": (0o600, "not executable"),
}


@pytest.mark.parametrize("case", BAD_PROGRAMS.values(), ids=BAD_PROGRAMS)
async def test_a_program_that_changed_its_mode_is_not_started(program: Program, case: tuple[int, str]):
    """Trust is checked before each start, not only with the configuration."""
    mode, words = case
    command = program("echo s3cret")
    Path(command.argv[0]).chmod(mode)
    with pytest.raises(SecretAway, match=words):
        await read(command)


async def test_a_program_under_a_directory_of_others_is_not_started(program: Program, tmp_path: Path):
    """Whoever can write to a directory on the way can put another program there."""
    command = program("echo s3cret")
    tmp_path.chmod(0o777)
    with pytest.raises(SecretAway, match="every local user can change it"):
        await read(command)


async def test_what_is_no_program_is_a_sentence(tmp_path: Path):
    """A missing file, a directory and a file without an interpreter."""
    broken = tmp_path / "broken"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o700)
    for path in (tmp_path / "missing", tmp_path, broken):
        with pytest.raises(SecretAway, match="can't be started"):
            await read(Command(argv=(str(path),)))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
