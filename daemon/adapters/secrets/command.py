"""Secrets from the standard output of a program.

The program is trusted as the configuration is: another user who could change it could run code as this one. It
gets no shell, no input, and none of this process's environment. When it ends, or its time is over, every process
of its group is ended.
"""

import asyncio
import os
import pwd
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.adapters.trusted_files import Untrusted, trust
from daemon.domain.secret_reference import Command

LARGEST = 64 * 1024  # bytes
_TOO_LONG = LARGEST + 2  # with a newline of Windows
MISSING = 66  # EX_NOINPUT of sysexits.h: the exit code that says "does not exist"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def read(reference: Command) -> str:
    """Return what the program prints, without one newline at its end.

    Raises SecretMissing, SecretAway, SecretUnusable.
    """
    program = reference.argv[0]
    try:
        check_program(program)
    except Untrusted as distrust:
        raise SecretAway(f"{distrust.what}; {distrust.do}") from None
    except OSError as error:
        raise SecretAway(f"{program} can't be started: {error.strerror}") from None
    output, code = await _run(reference)
    if code == MISSING:
        raise SecretMissing(f"{program} says that the secret does not exist (exit code {MISSING})")
    if code < 0:
        raise SecretAway(f"{program} was ended by signal {-code}")
    if code:
        raise SecretAway(f"{program} ended with exit code {code}; what it printed is not shown")
    return _text(program, output)


def check_program(path: str) -> None:
    """Raise OSError or Untrusted unless `path` is a program that no other user can change."""
    program = Path(path)
    trust(program)
    if not stat.S_ISREG(program.stat().st_mode):
        raise OSError(0, "it is not a file", path)
    if not os.access(program, os.X_OK):
        raise OSError(0, "it is not executable by this user", path)


def _text(program: str, output: bytes) -> str:
    try:
        text = output.decode()
    except UnicodeDecodeError:
        raise SecretUnusable(f"{program} printed bytes that are not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SecretUnusable(f"{program} printed nothing")
    if "\0" in text:
        raise SecretUnusable(f"{program} printed a NUL character, so its output is not text")
    return text


async def _run(reference: Command) -> tuple[bytes, int]:
    """Return the output and the exit code. Raises SecretAway, SecretUnusable.

    The output is complete when the program itself has ended. Its descendants may hold the pipe open for longer, so the
    end of the pipe is not awaited (asyncio's own `wait` does that).
    """
    program = reference.argv[0]
    try:
        process = subprocess.Popen(  # noqa: S603, ASYNC220  no shell; it starts within milliseconds
            reference.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "an argument holds a NUL character"
        raise SecretAway(f"{program} can't be started: {why}") from None
    assert process.stdout is not None  # noqa: S101  for mypy: it is a pipe
    output, pipe = bytearray(), process.stdout.fileno()
    os.set_blocking(pipe, False)
    try:
        async with asyncio.timeout(reference.timeout.total_seconds()):
            await _ended(process.pid, pipe, output)
    except TimeoutError:
        limit = reference.timeout.total_seconds()
        raise SecretAway(f"{program} did not end within {limit:g} s, and was ended") from None
    finally:
        # Before the program is reaped, its number can't belong to another group.
        _end_group(process.pid)
        process.wait()
        while len(output) <= _TOO_LONG and (chunk := _available(pipe)):
            output += chunk
        process.stdout.close()
    if len(output.removesuffix(b"\n").removesuffix(b"\r")) > LARGEST:
        raise SecretUnusable(f"{program} printed more than {LARGEST // 1024} KB")
    return bytes(output), process.returncode


async def _ended(pid: int, pipe: int, output: bytearray) -> None:
    """Collect the output until the program has ended, or has printed too much."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def take() -> None:
        chunk = _available(pipe)
        if chunk == b"":
            loop.remove_reader(pipe)
        output.extend(chunk or b"")
        if len(output) > _TOO_LONG:
            ended.set()

    handle = os.pidfd_open(pid)
    loop.add_reader(handle, ended.set)
    loop.add_reader(pipe, take)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pipe)
        loop.remove_reader(handle)
        os.close(handle)


def _available(pipe: int) -> bytes | None:
    """Return what can be read now: None if nothing has come, empty at the end."""
    try:
        return os.read(pipe, LARGEST)
    except BlockingIOError:
        return None


def _end_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _environment() -> dict[str, str]:
    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # containers give numbers without names
        home = "/"
    return {"PATH": _PATH, "HOME": home, "LANG": "C.UTF-8"}
