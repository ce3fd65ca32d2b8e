"""The demo, as `make run` starts it: the daemon, and beside it an access service that hands out a demo token."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.runtime.demo.provider import SANDBOX_FILE
from tests.e2e.daemon_process import POLL_EVERY, Installation
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LIFETIME = "20s"
STARTED = timedelta(seconds=90)  # two programs, after a MongoDB


def demo(directory: Path, *, lifetime: str = LIFETIME, **access: object) -> Installation:
    """An installation like config.example.toml, with free ports."""
    ring = {"demo": {"file": "state/demo.key", "create": True}}
    return Installation(
        directory,
        uri="embedded",
        database="refreshd",
        providers={},
        keys={"active": "demo", "ring": ring},
        demo={"enabled": True, "tokens": 2, "lifetime": lifetime},
        access={"port": 0, **access},
    )


async def typed(line: str) -> tuple[int, Mapping[str, object]]:
    """Type the line in a shell. Returns the exit code and the answer."""
    process = await asyncio.create_subprocess_shell(line + " --silent", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode or 0, json.loads(out or "{}")


async def curl(*arguments: str) -> str:
    """What curl prints."""
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def children(pid: int) -> set[int]:
    """The processes that `pid` has started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for file in files for child in file.read_text().split()}


def command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def serving(pids: set[int]) -> list[int]:
    return [pid for pid in pids if "serve" in command_of(pid)]


async def connect(line: str, directory: Path) -> None:
    """Type a line that connects an account. In place of a browser, curl opens the address and presses Approve."""
    command = await asyncio.create_subprocess_shell(
        f"exec {line}",
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory)},  # without a display, no browser opens
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert command.stderr is not None
    try:
        async with asyncio.timeout(STARTED.total_seconds()):
            while not (address := (await command.stderr.readline()).decode().strip()).startswith("http"):
                assert not command.stderr.at_eof(), "no address was printed"
            assert "Approve" in await curl(address)
            assert "Consent received" in await curl("--location", "--data", "decision=approve", address)
            out, _ = await command.communicate()
    finally:
        if command.returncode is None:
            command.kill()
            await command.wait()
    assert (command.returncode, out.decode().split()) == (0, ["sandbox:me"])


async def test_the_readmes_lines_work_and_nothing_outlives_the_demo(tmp_path: Path):
    """They work as they are printed, and as they stand in the README. The key is in a file of its owner alone, and in no
    process's arguments or environment. A demo that is killed takes its access service with it.
    """
    place = demo(tmp_path, lifetime="8s")
    shutil.copy2(place.config, tmp_path / "config.example.toml")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (readmes_line,) = re.findall(r"^\.venv/bin/refreshd .* connect .*$", README, flags=re.MULTILINE)
    async with place.running() as daemon:
        line = str((await daemon.event("demo.access_ready", within=STARTED))["curl"])
        code, answer = await typed(line)
        assert (code, answer["id"]) == (0, "sandbox:demo-1")
        assert answer["access_token"]
        header = Path(shlex.split(line)[2].removeprefix("@"))
        key = header.read_text().removeprefix("Authorization: Bearer ").strip()
        assert key.startswith("rfk_")
        assert key not in line
        for file in (header, *header.parent.glob("demo-*.jsonl")):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (child,) = serving(children(daemon.pid))
        environment = Path(f"/proc/{child}/environ").read_text()
        assert "REFRESHD_KEYS__RING" not in environment
        assert not daemon.seen("access.with_ring")
        assert key not in daemon.logs
        await connect(readmes_line, tmp_path)
        assert (await daemon.event("token.renewed", token="sandbox:me"))["rotated"]
        daemon.send_signal(signal.SIGKILL)
        await daemon.ended()
        await until(lambda: not command_of(child), every=POLL_EVERY)


@pytest.mark.long
async def test_the_next_start_has_the_same_key_and_a_stop_drains(tmp_path: Path):
    place, header = demo(tmp_path), tmp_path / "state" / "demo-access.header"
    keys = set()
    for _ in range(2):
        async with place.running() as daemon:
            line = str((await daemon.event("demo.access_ready", within=STARTED))["curl"])
            assert (await typed(line))[0] == 0
            keys.add(header.read_text())
            (child,) = serving(children(daemon.pid))
            assert await daemon.stop() == 0
            assert not command_of(child)
            assert daemon.seen("access.stopped", drained=True)
            assert not (tmp_path / "state" / SANDBOX_FILE).exists()
            assert not daemon.seen("demo.access_failed")
    assert len(keys) == 1


@pytest.mark.long
async def test_a_demo_that_was_killed_starts_again(tmp_path: Path):
    """Its files are still there: those of the sandbox name an address and a client that are gone, and one was half written."""
    place, state = demo(tmp_path), tmp_path / "state"
    async with place.running() as daemon:
        await daemon.event("demo.access_ready", within=STARTED)
        daemon.send_signal(signal.SIGKILL)
        await daemon.ended()
    before = (state / SANDBOX_FILE).read_text()
    (state / f".{SANDBOX_FILE}.{daemon.pid}").write_text("{")
    async with place.running() as daemon:
        line = str((await daemon.event("demo.access_ready", within=STARTED))["curl"])
        assert (await typed(line))[0] == 0
        assert (state / SANDBOX_FILE).read_text() != before
        await daemon.event("token.renewed")
        assert await daemon.stop() == 0
    assert not (state / SANDBOX_FILE).exists()


@pytest.mark.long
async def test_a_port_that_is_taken_is_named_and_the_daemon_renews(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with demo(tmp_path, port=port).running() as daemon:
            failed = await daemon.event("demo.access_failed", within=STARTED)
            assert "75" in failed["message"]
            assert f"127.0.0.1:{port} is in use" in daemon.logs
            await daemon.event("token.renewed")
            assert await daemon.stop() == 0


@pytest.mark.long
async def test_the_line_works_with_a_unix_socket(tmp_path: Path):
    """In a directory whose name needs quotes."""
    directory = Path("/tmp/refreshd test demo")
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        async with demo(tmp_path, socket=f"{directory}/access.sock").running() as daemon:
            line = str((await daemon.event("demo.access_ready", within=STARTED))["curl"])
            assert (await typed(line))[0] == 0
            assert await daemon.stop() == 0
    finally:
        shutil.rmtree(directory)
