"""Where a command's audit records go beside the database: to the system's log, as sudo's do.

That log is out of reach of a person who may write to the database, and mostly also of the user refreshd. Without one,
as in a container, the line goes to standard error, unless that is a terminal: nothing collects what stands there.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from daemon.commands.support.output import plain
from daemon.commands.support.terminal import say

SYSLOG = Path("/dev/log")
_AUTHPRIV_INFO = 10 * 8 + 6  # RFC 5424 §6.2.1
_LIMIT = 1.0  # seconds; a log that is stuck holds nothing up


class AuditLog:
    """Writes each record as one line of JSON to the syslog socket `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, record: Mapping[str, object]) -> None:
        line = json.dumps(
            {"event": "audit.recorded", **{name: plain(value) for name, value in record.items()}}
        )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
                log.settimeout(_LIMIT)
                log.connect(str(self._path))
                log.send(f"<{_AUTHPRIV_INFO}>refreshd[{os.getpid()}]: {line}".encode())
        except OSError:
            if not sys.stderr.isatty():
                say(f"refreshd: audit: {line}")
