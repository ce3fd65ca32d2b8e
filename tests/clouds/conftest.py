"""A server that imitates AWS (moto), in a process of its own. If it is missing, the test is skipped; under `make clouds` it fails."""

import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.secrets import aws_request, http
from tests.support.ports import free_port

SERVER = Path(__file__).parents[2] / ".venv" / "clouds" / "bin" / "moto_server"
REGION = "eu-central-1"


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server."""
    if not SERVER.exists():
        if os.environ.get("REFRESHD_TEST_CLOUDS"):
            pytest.fail(f"missing: {SERVER}")
        pytest.skip(f"missing: {SERVER}")
    port = free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(SERVER), "--host", "127.0.0.1", "--port", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
    aws_request.forget_credentials()
    try:
        for _ in range(300):
            assert process.poll() is None, log.read_text()
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # it keeps nothing
        process.wait(timeout=10)


@pytest.fixture
def environment(moto: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Leads this process, and the programs that a test starts, to the server. Nothing but botocore sees the rest."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": moto,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(http, "LIMIT", timedelta(seconds=30))  # the first request loads a whole service
    return settings


@pytest.fixture
def owner(environment: dict[str, str]) -> Callable[..., Awaitable[Mapping[str, Any]]]:
    """Does what the account's owner would: owner("kms", "TrentService.CreateKey", ...)."""

    async def do(service: str, target: str, **parameters: object) -> Mapping[str, Any]:
        reply = await aws_request.answered(service, service, target, parameters, region=None)
        assert reply.status == 200, reply.body
        return reply.fields() if reply.body else {}

    return do
