"""The state directory as commands see it: whether a daemon works in it, whose it is, and a moment without one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemon.adapters.state_files import LOCK
from daemon.commands.support.failure import Exit, Failed
from daemon.runtime.state.instance import StateHeld, id_on_disk, lock_file


def living_instance(directory: Path) -> str | None:
    """The id of the daemon that runs in `directory` now; None: none does."""
    try:
        with without_daemon(directory):
            return None
    except Failed:
        return id_on_disk(directory)


@contextmanager
def without_daemon(directory: Path) -> Iterator[None]:
    """Hold the daemon's lock, so that no daemon can start. Raises Failed, naming the process that has it."""
    path = directory / LOCK
    if not path.exists():  # no daemon ever ran here
        yield
        return
    try:
        descriptor = lock_file(path)
    except StateHeld as why:
        raise Failed(str(why), Exit.HELD) from None
    except OSError as why:
        raise Failed(
            f"{path} can't be opened ({why.strerror}). Run the command as the daemon's user"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)
