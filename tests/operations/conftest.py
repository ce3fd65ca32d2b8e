"""The parts that are not Python, where this machine has them; a test that needs one which is absent is skipped."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.operations.browser import chromium

FindPart = Callable[..., str]


@pytest.fixture(scope="session")
def find_part() -> FindPart:
    """Finds a program by its names, of which the first that is there counts: `find_part("prometheus", of="prometheus")`.
    `of`: the Debian package that holds it.
    """

    def find(*names: str, of: str) -> str:
        for name in names:
            if (found := shutil.which(name)) is not None:
                return found
        pytest.skip(f"{names[0]} is not installed (Debian: apt-get install {of})")

    return find


@pytest.fixture(scope="session")
def promtool(find_part: FindPart) -> str:
    return find_part("promtool", of="prometheus")


@pytest.fixture(scope="session")
def prometheus(find_part: FindPart) -> str:
    return find_part("prometheus", of="prometheus")


@pytest.fixture(scope="session")
def alertmanager(find_part: FindPart) -> str:
    """Debian gives it another name than its makers."""
    return find_part("alertmanager", "prometheus-alertmanager", of="prometheus-alertmanager")


@pytest.fixture(scope="session")
def amtool(find_part: FindPart) -> str:
    return find_part("amtool", of="prometheus-alertmanager")


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Chromium's debugging socket."""
    with chromium(tmp_path_factory.mktemp("chromium")) as socket:
        yield socket
