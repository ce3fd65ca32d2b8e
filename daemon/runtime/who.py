"""The author of a command, for the audit: the user of the process, and the person behind that user."""

import os
import pwd
import socket
from collections.abc import Mapping
from pathlib import Path

from daemon.adapters.mongo.audit import Who

_LOGIN = Path("/proc/self/loginuid")
_NO_LOGIN = 2**32 - 1  # the kernel's value for a process that no login has started


def who(env: Mapping[str, str], *, reason: str | None = None, login: Path = _LOGIN) -> Who:
    """Return the author.

    The user is read by number, since $LOGNAME is any text. The person is the login user, whose number the
    kernel keeps through sudo and su. A process that the service manager started has none. There the wrapper
    deploy/systemd/refreshd.sh, which root runs, passes the person in SUDO_UID.
    """
    uid = _login_uid(login)
    stated = uid is None
    if stated:
        number = env.get("SUDO_UID", "")
        uid = (
            int(number)
            if number.isascii() and number.isdecimal() and len(number) <= len(str(_NO_LOGIN))
            else None
        )
    name = None if uid is None else _name(uid) or (stated and env.get("SUDO_USER")) or str(uid)
    actor = f"{_name(os.getuid()) or os.getuid()}@{socket.gethostname()}"
    return Who(actor=actor, person=name, uid=uid, reason=reason)


def _login_uid(login: Path) -> int | None:
    try:
        uid = int(login.read_text())
    except (OSError, ValueError):
        return None
    return None if uid == _NO_LOGIN else uid


def _name(uid: int) -> str | None:
    """Return the user's name, or None, since containers use numbers without names."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None
