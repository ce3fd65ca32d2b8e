"""Messages to the service manager: to systemd by sd_notify(3), to PM2 by its channel for ready messages."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta

from daemon.domain.visible import visible

PINGS = 3  # in the watchdog's time: one or two may come late on a busy machine

URL_FIELD = "X_REFRESHD_URL"  # sd_notify(3): names with X_ are for others than systemd

Liveness = Callable[[], tuple[bool, str]]


class ServiceManager:
    """Sends messages to the service manager that started this process, if any. Never raises, so that it can't
    stop the daemon.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._notify_socket = env.get("NOTIFY_SOCKET", "")
        self._pm2_channel = env.get("NODE_CHANNEL_FD", "")
        self._watchdog = _watchdog_time(env)
        self._status = ""
        self._running = False  # between ready and stopping

    def ready(self, status: str, *, url: str | None = None) -> None:
        """Report readiness: the configuration is valid, the journal is open and the port listens. `url`: of the port, for
        the demo. systemd ignores it.
        """
        self._running, self._status = True, status
        listening = f"\n{URL_FIELD}={url}" if url else ""
        self._systemd(f"READY=1\nSTATUS={status}{listening}")
        if self._pm2_channel.isdigit():
            with suppress(OSError):
                os.write(int(self._pm2_channel), b'"ready"\n')

    def status(self, text: str) -> None:
        """Set the line for `systemctl status`. It is sent only when it changes; while draining it does not
        change.
        """
        if self._running and text != self._status:
            self._status = text
            self._systemd(f"STATUS={visible(text)}")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Let `systemctl` show that the configuration is being read again, for the duration of the block."""
        if not self._running:  # READY=1 would be too early, or too late
            yield
            return
        self._systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._systemd("READY=1")

    def stopping(self) -> None:
        self._running = False
        self._systemd("STOPPING=1\nSTATUS=draining")

    async def feed_watchdog(self, liveness: Liveness, *, starved: Callable[[str], None]) -> None:
        """Ping from the event loop while `liveness` holds. A stuck loop sends no pings, and systemd ends the
        process.

        `starved` receives the reason when the pings stop. Returns immediately if no watchdog waits for this
        process.
        """
        if self._watchdog is None:
            return
        fed = True
        while True:
            live, detail = liveness()
            if live:
                self._systemd("WATCHDOG=1")
            elif fed:
                starved(detail)
            fed = live
            await asyncio.sleep(self._watchdog.total_seconds() / PINGS)

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


def _watchdog_time(env: Mapping[str, str]) -> timedelta | None:
    """Return how long systemd waits for a ping of this process (sd_watchdog_enabled(3)); None if it doesn't
    wait for it.
    """
    time_us, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not time_us.isdecimal() or int(time_us) == 0 or pid not in ("", str(os.getpid())):
        return None
    return timedelta(microseconds=int(time_us))
