"""PostgreSQL, Node and age for the tests of moving. A missing part is a named skip; under `make migration`, a failure."""

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port

REQUIRED = "REFRESHD_TEST_MIGRATION"
_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def missing(what: str) -> None:
    """Skip the test, or fail it where every part has to be there."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


@pytest.fixture(scope="session")
def node() -> str:
    """The program `node`."""
    found = shutil.which("node")
    if found is None:
        missing("node")
    return str(found)


@pytest.fixture(scope="session")
def run_node(node: str) -> Callable[[str, object], Any]:
    """Runs one of the programs in `node/`, with JSON in and out."""

    def run(script: str, given: object) -> Any:
        done = subprocess.run(
            [node, str(Path(__file__).parent / "node" / script)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URI of a real PostgreSQL with an empty database `app`, on a free port, in a directory of its own."""
    if not _PROGRAMS:
        missing("PostgreSQL (Debian: postgresql)")
    user = _unprivileged()
    with tempfile.TemporaryDirectory(prefix="refreshd-pg-") as directory:
        data = Path(directory, "data")
        if user is not None:
            shutil.chown(directory, user)
        _run(user, "initdb", "-D", str(data), "-U", "app", "-A", "trust", "-E", "UTF8", "--no-sync")
        port = free_port()
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        _run(user, "pg_ctl", "-D", str(data), "-o", settings, "-w", "-l", str(data / "log"), "start")
        try:
            _run(user, "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "app", "app")
            yield f"postgresql://app@127.0.0.1:{port}/app"
        finally:
            _run(user, "pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


def _unprivileged() -> str | None:
    """The user to run as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    missing("a user without privileges")
    return None


def _run(user: str | None, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(_PROGRAMS[-1] / program), *arguments],
        user=user,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
