"""Telling the service manager how we are: systemd by sd_notify(3), PM2 by its channel for ready messages."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class ServiceManager:
    """Speaks to whoever started us; to nobody where nobody listens. Never raises: it must not stop the daemon."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._notify_socket = env.get("NOTIFY_SOCKET", "")
        self._pm2_channel = env.get("NODE_CHANNEL_FD", "")

    def ready(self, status: str) -> None:
        """Configuration valid, journal open, port listening."""
        self._systemd(f"READY=1\nSTATUS={status}")
        if self._pm2_channel.isdigit():
            with suppress(OSError):
                os.write(int(self._pm2_channel), b'"ready"\n')

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._systemd(f"STATUS={text}")

    def stopping(self) -> None:
        self._systemd("STOPPING=1\nSTATUS=draining")

    def _systemd(self, message: str) -> None:
        if not self._notify_socket:
            return
        address = (
            "\0" + self._notify_socket[1:] if self._notify_socket.startswith("@") else self._notify_socket
        )
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel,
        ):
            channel.sendto(message.encode(), address)
