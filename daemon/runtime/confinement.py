"""Protection of a process that holds keys: no core dump, and no access by other processes."""

import ctypes
import resource
import sys

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
