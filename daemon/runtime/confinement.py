"""Protection of a process that holds keys: no core dump, no access by other processes, no freed memory with secrets."""

import ctypes
import os
import resource
import sys
from collections.abc import Mapping

_PR_SET_DUMPABLE = 4


def confine() -> None:
    """Disable core dumps, and access by other processes of this user, for this process.

    They may not trace it or read its /proc/PID/mem and environ (prctl(2), PR_SET_DUMPABLE). Its own view of
    /proc/self does not change. For programs that it starts, only core dumps are disabled.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        zero = ctypes.c_ulong(0)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, zero, zero, zero, zero)


# Of glibc's malloc: every freed byte is overwritten, and no cache keeps freed memory as it is (mallopt(3), M_PERTURB).
_TUNABLES = "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0"


def forgetting(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment with which this program overwrites the memory that it frees, or None if it is set already.

    Python's own allocator keeps freed memory as it is, so the C library's takes its place. Another C library than glibc
    ignores the setting.
    """
    given = environment.get("GLIBC_TUNABLES", "")
    if _TUNABLES in given and environment.get("PYTHONMALLOC") == "malloc":
        return None
    return {
        **environment,
        "PYTHONMALLOC": "malloc",
        "GLIBC_TUNABLES": f"{given}:{_TUNABLES}" if given else _TUNABLES,
    }


def restart_forgetting() -> None:
    """Start this program again in this process, so that it overwrites the memory that it frees; only once."""
    environment = forgetting(os.environ)
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606  itself
