"""A real systemd, as process 1 of a container: a throw-away overlay over this machine's own root.

Its units are those that systemd itself brings, and what the test puts into `units`; nothing that this machine has
enabled is started. It shares this machine's network, so that MongoDB and the provider of the test can be reached, and
has no right to change it. refreshd stands in /opt/refreshd as a virtual environment would have it.
"""

import asyncio
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import wall_clock

ROOT = Path(__file__).parents[2]
PATIENCE = timedelta(seconds=60)
POLL_EVERY = timedelta(milliseconds=50)
PR_SET_PDEATHSIG = 1  # linux/prctl.h

BOOT = 'mount --bind / "$1" && shift && exec systemd-nspawn "$@"'
HOLD = "hold"  # while /etc/refreshd has a file of this name, nothing that is started gets any further
# What `pip` writes, a slow start for as long as a test wants, and a signal that holds up the event loop for good.
PROGRAM = f"""#!/opt/refreshd/bin/python
import os, signal, sys, time
def block(*_): time.sleep(3600)
while os.path.exists("/etc/refreshd/{HOLD}"): time.sleep(0.05)
signal.signal(signal.SIGUSR1, block)
from daemon.__main__ import main
sys.exit(main())
"""


class CanNotBoot(Exception):
    """Why there is no systemd here."""


class Finished(NamedTuple):
    """How a command ended, and what it said on both outputs."""

    code: int
    said: str


class Machine:
    """The container. `units` is its /etc/systemd/system, `etc` its /etc/refreshd."""

    def __init__(self, directory: Path, leader: int) -> None:
        self.units, self.etc = directory / "units", directory / "etc"
        self._enter = [
            "nsenter",
            f"--target={leader}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
            "--",
        ]

    async def run(self, *command: str, stdin: str = "", check: bool = True) -> Finished:
        """Run a command in the container, as root. Fails the test when it fails, unless `check` is false."""
        process = await asyncio.create_subprocess_exec(
            *self._enter,
            *command,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE.total_seconds())
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        finished = Finished(process.returncode, said.decode(errors="replace"))
        assert not check or finished.code == 0, f"{' '.join(command)}: {finished}\n{await self.journal()}"
        return finished

    def prepare(self) -> None:
        """Where the interpreter's library is: it looks where it was built to be, and that may be hidden."""
        told = "echo /opt/python/lib > /etc/ld.so.conf.d/00-python.conf && ldconfig"
        subprocess.run([*self._enter, "sh", "-c", told], check=True, timeout=30)

    async def systemctl(self, *arguments: str, check: bool = True) -> Finished:
        return await self.run("systemctl", "--no-pager", *arguments, check=check)

    async def shows(self, unit: str, name: str) -> str:
        """A property of a unit, as systemd has it."""
        return (await self.systemctl("show", "--value", f"--property={name}", unit)).said.strip()

    async def until(self, unit: str, name: str, *wanted: str) -> str:
        """Wait until that property is one of these."""
        limit = time.monotonic() + PATIENCE.total_seconds()
        while (value := await self.shows(unit, name)) not in wanted:
            assert time.monotonic() < limit, (
                f"{name} of {unit} stayed {value}: {wanted}\n{await self.journal()}"
            )
            await asyncio.sleep(POLL_EVERY.total_seconds())
        return value

    async def journal(self, *arguments: str) -> str:
        """The journal since the last `begin`; its last lines where nothing else is asked for."""
        asked = arguments or ("--lines=60",)
        return (await self.run("journalctl", "--no-pager", *self._since, *asked, check=False)).said

    def begin(self) -> None:
        """Let the journal begin anew. (By time: a cursor would skip one entry more where a filter is asked for.)"""
        self._since = [f"--since=@{wall_clock.timestamp():.6f}"]

    async def events(self, unit: str, name: str) -> list[dict[str, Any]]:
        """What the unit's processes logged under this name so far."""
        lines = (await self.journal(f"--unit={unit}", "--output=cat")).splitlines()
        found = []
        for line in lines:
            with suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and event.get("event") == name:
                    found.append(event)
        return found

    async def event(self, unit: str, name: str, *, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`th event of this name."""
        limit = time.monotonic() + PATIENCE.total_seconds()
        while len(found := await self.events(unit, name)) < count:
            assert time.monotonic() < limit, f"no {name} from {unit}\n{await self.journal()}"
            await asyncio.sleep(POLL_EVERY.total_seconds())
        return found[count - 1]

    @asynccontextmanager
    async def dropped_in(self, unit: str, text: str) -> AsyncIterator[None]:
        """A drop-in for this unit, as long as the block lasts."""
        file = self.units / f"{unit}.d" / "test.conf"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        await self.systemctl("daemon-reload")
        try:
            yield
        finally:
            file.unlink()
            await self.systemctl("daemon-reload")


@contextmanager
def booted(directory: Path) -> Iterator[Machine]:
    """Boot it, with `directory` for what it is given. Raises CanNotBoot."""
    if os.getuid() != 0:
        raise CanNotBoot("only root can boot a container")
    for program in ("systemd-nspawn", "nsenter", "unshare"):
        if shutil.which(program) is None:
            raise CanNotBoot(f"{program} is not installed")
    for name in ("root", "units", "etc", "state"):
        Path(directory, name).mkdir()
    binds = [
        f"--bind={directory / 'units'}:/etc/systemd/system",
        f"--bind={directory / 'etc'}:/etc/refreshd",
        f"--bind={directory / 'state'}:/var/lib/refreshd",
        f"--bind-ro={ROOT}:/srv/refreshd",
        *_program(directory / "program"),
    ]
    log = directory / "nspawn.log"
    with log.open("wb") as output:
        nspawn = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", BOOT, "sh"),
                str(directory / "root"),
                *(
                    "--quiet",
                    "--volatile=overlay",
                    "--boot",
                    "--register=no",
                    "--keep-unit",
                    "--link-journal=no",
                ),
                *(f"--machine=refreshd-test-{os.getpid()}", "--console=pipe", "-D", str(directory / "root")),
                "--capability=CAP_IPC_LOCK",  # an embedded mongod locks a page; without this nspawn forbids the call
                *binds,
                *(
                    "systemd.unit=basic.target",
                    "systemd.show_status=no",
                    "systemd.journald.forward_to_console=no",
                ),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_the_test,  # noqa: PLW1509  it takes no lock
        )
    leader = None
    try:
        leader = _leader(nspawn, log)
        machine = Machine(directory, leader)
        machine.prepare()
        yield machine
    finally:
        for pid in (leader, nspawn.pid):
            with suppress(ProcessLookupError):
                os.kill(pid or nspawn.pid, signal.SIGKILL)
        nspawn.wait()


def _program(directory: Path) -> list[str]:
    """A virtual environment in `directory`, and what has to be bound for it: interpreter and packages may lie where the
    sandbox hides them (ProtectHome), or where only root can look.
    """
    packages = (
        directory / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    )
    packages.mkdir(parents=True)
    shutil.copytree(ROOT / "daemon", packages / "daemon", ignore=shutil.ignore_patterns("__pycache__"))
    (packages / "packages.pth").write_text("/opt/packages\n")
    base = Path(sys.base_prefix)
    home = base if base == Path("/usr") else Path("/opt/python")
    (directory / "pyvenv.cfg").write_text(f"home = {home / 'bin'}\n")
    program = directory / "bin" / "refreshd"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    interpreter = Path(sys._base_executable).resolve().name
    (directory / "bin" / "python").symlink_to(home / "bin" / interpreter)
    binds = [
        f"--bind-ro={directory}:/opt/refreshd",
        f"--bind-ro={sysconfig.get_path('purelib')}:/opt/packages",
    ]
    return binds if home == base else [*binds, f"--bind-ro={base}:{home}"]


def _leader(nspawn: subprocess.Popen[bytes], log: Path) -> int:
    """Process 1 of the container, as this machine numbers it, once its systemd can be spoken to. Raises CanNotBoot."""
    limit = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < limit and nspawn.poll() is None:
        with suppress(OSError):
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
            for child in children:
                status = Path(f"/proc/{child}/status").read_text().splitlines()
                numbers = next(line.split() for line in status if line.startswith("NSpid:"))
                if len(numbers) > 2 and numbers[-1] == "1" and _is_up(child):
                    return int(child)
        time.sleep(POLL_EVERY.total_seconds())
    raise CanNotBoot(
        f"systemd does not boot in a container here: {log.read_text().strip()[-300:] or 'no word'}"
    )


def _is_up(leader: str) -> bool:
    asked = ["nsenter", f"--target={leader}", "--mount", "--pid", "systemctl", "is-system-running"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() in ("running", "degraded")


def _end_with_the_test() -> None:
    """A test run that is killed has no time to clean up: nspawn then shuts the container down."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
