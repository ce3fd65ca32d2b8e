"""The built packages, installed as an application would have them, and the processes that they read from."""

import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from supply.clients import node_package, python_package
from tests.doors.readers.api import Api
from tests.doors.readers.house import ROOT, House, Started

PYTHON = ROOT / ".venv" / "doors" / "bin" / "python"
PACKAGES = ROOT / "tests" / "doors" / "node_modules"
RELEASED = datetime(2026, 11, 29, tzinfo=UTC)
HERE = Path(__file__).parent


def missing(what: str) -> None:
    """Skip the test, or fail it if every part has to be there."""
    if os.environ.get("REFRESHD_TEST_DOORS"):
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of clients/python."""
    built = python_package(ROOT / "clients" / "python", tmp_path_factory.mktemp("wheel"))
    return next(file for file in built.files if file.suffix == ".whl")


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of clients/node, as a release has it."""
    folder = tmp_path_factory.mktemp("tarball")
    (file,) = node_package(ROOT / "clients" / "node", folder, at=RELEASED).files
    return file


@pytest.fixture(scope="session")
def npms_tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package, packed by npm."""
    if shutil.which("npm") is None:
        missing("npm")
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        ["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)],
        cwd=ROOT / "clients" / "node",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="session")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A Python with the wheel and the packages of requirements/doors.txt, and its environment."""
    if not PYTHON.exists():
        missing("the packages of requirements/doors.txt (make doors)")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # all that an installer does with a wheel of pure Python
    return str(PYTHON), {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}


@pytest.fixture(scope="session")
def node(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Node, and a directory with the package and `mongodb` in node_modules."""
    program = shutil.which("node")
    if program is None or not (PACKAGES / "mongodb").exists():
        missing("node, or npm packages (npm ci in tests/doors)")
    app = tmp_path_factory.mktemp("app")
    modules = app / "node_modules"
    modules.mkdir()
    with tarfile.open(tarball) as archive:
        archive.extractall(modules, filter="data")
    (modules / "package").rename(modules / "refreshd-reader")
    (modules / "mongodb").symlink_to(PACKAGES / "mongodb")
    return str(program), app


@pytest.fixture(scope="session")
def house(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """refreshd, running."""
    directory = tmp_path_factory.mktemp("house") / "installation"
    with House(directory, uri=mongod, database=f"readers_{uuid4().hex[:12]}") as house:
        yield house


@pytest.fixture
def api() -> Iterator[Api]:
    """A provider's API, which knows a second host to redirect to: `api.elsewhere`."""
    with Api() as elsewhere, Api(elsewhere.url) as api:
        elsewhere.seen = api.seen
        yield api


@pytest.fixture(scope="session")
def drivers(python: tuple[str, dict[str, str]], node: tuple[str, Path]) -> Iterator[dict[str, Started]]:
    """The programs that do what a case says: one for each way to use the packages."""
    program, environment = python
    node_program, app = node
    for name in ("driver.py", "driver.mjs"):
        shutil.copy(HERE / name, app)
    with (
        Started(program, "driver.py", "sync", cwd=app, env=environment) as sync,
        Started(program, "driver.py", "async", cwd=app, env=environment) as asynchronous,
        Started(node_program, "driver.mjs", cwd=app, env={"PATH": os.environ["PATH"]}) as javascript,
    ):
        yield {"python": sync, "python-async": asynchronous, "node": javascript}
