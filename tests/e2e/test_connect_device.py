"""`refreshd connect --device` at a terminal, with the real daemon and the sandbox."""

import asyncio
import os
import pty
import signal
import sys
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import PATIENCE, Install, Installation
from tests.e2e.owner_browser import owner

APPROVE = ("decision", "approve")


class Terminal:
    """A command that runs at a terminal of its own."""

    def __init__(self, leader: int, process: asyncio.subprocess.Process) -> None:
        self._leader, self.process = leader, process
        self.shown = ""

    async def until(self, words: str) -> str:
        """Read until the terminal shows `words`. Returns all that it shows."""
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while words not in self.shown:
                self.shown += (await asyncio.to_thread(os.read, self._leader, 4096)).decode()
        return self.shown

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())


async def at_a_terminal(place: Installation, *arguments: str) -> Terminal:
    leader, follower = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "daemon", "--config", str(place.config), *arguments),
        cwd=place.directory,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    return Terminal(leader, process)


@pytest.mark.long  # the same steps are tested without a terminal
@pytest.mark.parametrize(("keys", "code", "stored"), [("y\n", 0, 1), ("n\n", 1, 0), ("interrupt", None, 0)])
async def test_a_token_stays_only_if_the_operator_says_yes(
    install: Install, mongod: str, database_name: str, keys: str, code: int | None, stored: int
) -> None:
    """With no, or with an interrupted command, it is never stored."""
    options = SandboxOptions(device_interval=timedelta(seconds=1), lifetime=timedelta(hours=1))
    async with Sandbox(options) as sandbox:
        provider = {
            "token_url": sandbox.token_url,
            "device_url": sandbox.device_url,
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
        }
        place = install({"sandbox": provider})
        async with place.running() as daemon, owner() as browser:
            await daemon.ready()
            terminal = await at_a_terminal(place, "connect", "sandbox", "me", "--device")
            try:
                shown = (await terminal.until("owner only.")).replace("\r", "").splitlines()
                page = next(line for line in shown if "user_code=" in line)
                await browser.walk(page, press=APPROVE)
                await terminal.until("[y/N]")
                if keys == "interrupt":
                    terminal.process.send_signal(signal.SIGINT)
                else:
                    terminal.type(keys)
                ended = await asyncio.wait_for(terminal.process.wait(), PATIENCE.total_seconds())
            finally:
                if terminal.process.returncode is None:
                    terminal.process.kill()
            assert ended == code if code is not None else ended != 0
            assert await daemon.stop() == 0
    with MongoClient[dict[str, Any]](mongod) as client:
        assert client[database_name]["tokens"].count_documents({"_id": "sandbox:me"}) == stored
