"""What systemd and PM2 are told, over the channels they really use."""

import os
import socket

from daemon.runtime.service_manager import ServiceManager


def test_systemd_hears_ready_status_and_stopping(tmp_path):
    """One datagram each, to the socket that $NOTIFY_SOCKET names."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        manager = ServiceManager({"NOTIFY_SOCKET": path})
        manager.ready("waiting for MongoDB")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=waiting for MongoDB"
        manager.status("sweeping")
        assert systemd.recv(1000) == b"STATUS=sweeping"
        manager.stopping()
        assert systemd.recv(1000) == b"STOPPING=1\nSTATUS=draining"


def test_an_abstract_socket_is_understood():
    """A name that begins with @ has no file."""
    name = f"refreshd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name)
        systemd.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).status("x")
        assert systemd.recv(1000) == b"STATUS=x"


def test_pm2_hears_ready_as_a_line_of_json():
    """PM2 reads JSON lines from the descriptor in $NODE_CHANNEL_FD."""
    ours, theirs = os.pipe()
    ServiceManager({"NODE_CHANNEL_FD": str(theirs)}).ready("up")
    assert os.read(ours, 100) == b'"ready"\n'
    os.close(ours)
    os.close(theirs)


def test_nobody_listening_is_no_error(tmp_path):
    """Without a service manager, or with one that is gone, nothing is raised."""
    for env in (
        {},
        {"NOTIFY_SOCKET": str(tmp_path / "gone")},
        {"NODE_CHANNEL_FD": "987"},
        {"NODE_CHANNEL_FD": "x"},
    ):
        manager = ServiceManager(env)
        manager.ready("up")
        manager.stopping()
    assert not (tmp_path / "gone").exists()
