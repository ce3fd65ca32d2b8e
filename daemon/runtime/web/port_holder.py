"""Finds the process that holds a port, so that an operator reads "in use by pid 123 (node)"."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def port_holder(port: int) -> str | None:
    """Return the process that listens on `port` ("pid 123 (name)"), if the kernel shows it: this user's
    processes, or all for root.
    """
    sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(port, table)}
    for process in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if any(target in sockets for target in _open_files(process)):
                return f"pid {process.name} ({_name(process)})"
    return None


def _name(process: Path) -> str:
    """Return the process's own name: any bytes."""
    return (process / "comm").read_text(errors="backslashreplace").removesuffix("\n")


def _open_files(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):  # closed by now
            yield str(descriptor.readlink())


def _listening(port: int, table: str) -> list[str]:
    """Return the inodes of the sockets that listen on `port` (proc(5): local address, state 0A, inode)."""
    try:
        lines = (_PROC / "net" / table).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port]
