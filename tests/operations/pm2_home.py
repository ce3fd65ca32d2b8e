"""A PM2 with a home of its own: its daemon, what it says of its processes, and an end that leaves nothing behind."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ECOSYSTEM = ROOT / "deploy" / "pm2" / "ecosystem.config.cjs"
PATIENCE = timedelta(seconds=90)
POLL_EVERY = timedelta(milliseconds=100)

App = dict[str, Any]


class Pm2:
    """`pm2` with its home in `home`, for the shipped ecosystem file: the daemon with `config`, and if there is an `access`,
    the access service with that configuration.
    """

    def __init__(self, program: str, home: Path, config: Path, *, access: Path | None = None) -> None:
        self.home = home
        self._program, self._configs = program, [config, *([access] if access else [])]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PM2_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "REFRESHD_VENV": sys.prefix,
            "REFRESHD_CONFIG": str(config),
            **({"REFRESHD_ACCESS_CONFIG": str(access)} if access else {}),
        }

    async def run(self, *arguments: str) -> str:
        """Run `pm2` to its end. Returns what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(self._program, *arguments, "--no-color"),
            cwd=self.home,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), PATIENCE.total_seconds())
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return said.decode(errors="replace")

    async def start(self) -> App:
        """As the document says; it returns once the app has said that it is ready."""
        await self.run("start", str(ECOSYSTEM))
        return await self.app()

    async def app(self, name: str = "refreshd") -> App:
        """An app, as PM2 sees it: pid, status, restarts, exit code."""
        said = await self.run("jlist")
        apps = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("[")))
        (app,) = (one for one in apps if one["name"] == name)
        about = app["pm2_env"]
        return {
            "pid": app["pid"],
            "status": about["status"],
            "restarts": about["restart_time"],
            "exit_code": about.get("exit_code"),
        }

    async def until(self, holds: Callable[[App], bool], *, name: str = "refreshd") -> App:
        limit = time.monotonic() + PATIENCE.total_seconds()
        while not holds(app := await self.app(name)):
            assert time.monotonic() < limit, f"it stayed {app}\n{self.said()}"
        return app

    async def until_said(self, text: str, *, count: int = 1) -> None:
        """Wait until it stands so often in some log."""
        limit = time.monotonic() + PATIENCE.total_seconds()
        while self.said().count(text) < count:
            assert time.monotonic() < limit, f"nobody said {text!r}\n{self.said()}"
            await asyncio.sleep(POLL_EVERY.total_seconds())

    def said(self) -> str:
        """All logs: PM2's own, and both outputs of the app."""
        return "\n".join(file.read_text() for file in sorted(self.home.glob("**/*.log")))

    def daemon(self) -> int:
        """The pid of PM2 itself."""
        return int((self.home / "pm2.pid").read_text())

    def processes(self) -> set[int]:
        """Every process that runs with one of the configurations, whoever its parent is."""
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile
                words = (process / "cmdline").read_bytes().split(b"\0")
                if any(str(config).encode() in words for config in self._configs):
                    found.add(int(process.name))
        return found

    async def end(self) -> None:
        """Whatever happened before."""
        with suppress(OSError, ValueError):
            os.kill(self.daemon(), signal.SIGKILL)
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
