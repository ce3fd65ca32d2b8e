"""What a process that holds keys does not let others have: a dump of its memory, or a look into it."""

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def confine() -> None:
    """From now on no crash of this process writes its memory to a file, and no other process of this user may trace it
    or read its /proc/PID/mem and environ (prctl(2), PR_SET_DUMPABLE). Its own view of /proc/self stays the same.
    Programs that it starts are confined in their dumps only.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        zero = ctypes.c_ulong(0)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, zero, zero, zero, zero)
