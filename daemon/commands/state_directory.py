"""The state directory as commands see it: whose it is, whether a daemon works in it, and a moment without one."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.commands.failure import Exit, Failed


def living_instance(directory: Path) -> str | None:
    """The id of the daemon that runs in `directory` now; None: none does."""
    try:
        with without_daemon(directory):
            return None
    except Failed:
        pass
    try:
        return str(json.loads((directory / "instance.json").read_text())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def without_daemon(directory: Path) -> Iterator[None]:
    """Hold the daemon's lock, so that none starts meanwhile. Raises Failed, naming the process that has it."""
    path = directory / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # no daemon ever ran here
        yield
        return
    except OSError as why:
        raise Failed(f"{path} can't be opened ({why.strerror}). Use the daemon's user") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise Failed(
                f"state.dir {directory} is in use by process {holder}: stop that first", Exit.HELD
            ) from None
        yield
    finally:
        os.close(descriptor)
