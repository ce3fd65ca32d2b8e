"""Secrets from programs, in the daemon's whole life: late at the start, changed while it runs, away at a reload."""

import signal
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import KEY_ID, DaemonProcess
from tests.e2e.test_wrong_key import store_tokens
from tests.support import wall_clock

CANARY = "cAnArY-77b2-must-never-be-printed"


class Source:
    """A program that prints what it is told to, and ends with exit code 1 while it has nothing."""

    def __init__(self, directory: Path, name: str) -> None:
        self._value = directory / f"{name}.value"
        self.program = directory / name
        self.program.write_text(f"#!/bin/sh\necho {CANARY} >&2\ncat {self._value}\n")
        self.program.chmod(0o700)

    def give(self, value: str) -> None:
        self._value.write_text(value)

    def lose(self) -> None:
        self._value.unlink()

    @property
    def toml(self) -> dict[str, object]:
        return {"command": [str(self.program)]}


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions(lifetime=timedelta(minutes=5))) as running:
        yield running


@pytest.fixture
async def database(mongod, database_name):
    async with AsyncMongoClient(mongod, tz_aware=True) as client:
        yield client[database_name]


async def readiness(url: str) -> dict[str, tuple[bool, str]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
        checks = (await answer.json())["checks"]
        return {name: (one["ok"], one["detail"]) for name, one in checks.items()}


async def metrics(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        return await answer.text()


async def test_the_daemon_begins_when_its_secrets_have_come(
    install, sandbox, database, tmp_path, unused_tcp_port
):
    """A ring away: alive, not ready, and the probes name the source. A client's secret away: only its provider waits.
    Then a refused client gets the changed secret, and a reload without the source loses nothing.
    """
    key, secret = Source(tmp_path, "key"), Source(tmp_path, "secret")
    client = {"token_url": sandbox.token_url, "client_id": sandbox.client_id}
    place = install(
        {"sandbox": {**client, "client_secret": secret.toml}},
        keys={"active": KEY_ID, "ring": {KEY_ID: key.toml}},
        server={"port": unused_tcp_port},
    )
    await store_tokens(database, sandbox, place.keyring, count=2, due_in=timedelta(hours=1))
    url = f"http://127.0.0.1:{unused_tcp_port}"

    code, _, err = await place.refreshd("list")
    assert code == 69
    assert f"command {key.program} has not given the secret" in err
    assert "client_secret" not in err  # which `list` does not use

    async with place.running() as daemon:
        away = await daemon.event("secret.away")
        assert away["source"] == f"command {key.program}"
        assert away["place"].endswith(f"keys.ring.{KEY_ID}")
        assert "exit code 1" in away["message"]
        ok, detail = (await readiness(url))["secrets"]
        assert not ok
        assert f"command {key.program}" in detail
        assert f'refreshd_secret_source_up{{source="command {key.program}"}} 0.0' in await metrics(url)

        key.give(b64encode(place.key).decode() + "\n")
        daemon.send_signal(signal.SIGHUP)
        await daemon.event("daemon.started")
        await daemon.event("secret.answered", source=f"command {key.program}")
        ok, detail = (await readiness(url))["secrets"]
        assert not ok
        assert f"command {secret.program}" in detail

        secret.give("the former secret of the client\n")
        await daemon.event("secret.answered", source=f"command {secret.program}")
        secret.give(sandbox.client_secret + "\n")
        await database.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})
        await daemon.event("token.renewed", count=2)
        assert len(daemon.seen("provider.client_changed")) == 1
        assert not daemon.seen("token.postponed")
        await daemon.ready()
        assert not daemon.seen("provider.paused")

        key.lose()
        secret.lose()
        daemon.send_signal(signal.SIGHUP)
        await daemon.event("secret.kept", count=2)
        await daemon.event("reload.done")
        await daemon.ready()
        assert await daemon.stop() == 0
        assert CANARY not in daemon.logs
        assert sandbox.client_secret not in daemon.logs


async def test_a_signal_ends_the_wait(install, sandbox, tmp_path):
    """SIGTERM before the secrets have come ends the process as it does later."""
    key = Source(tmp_path, "key")
    place = install({}, keys={"active": KEY_ID, "ring": {KEY_ID: key.toml}})
    async with place.running() as daemon:
        assert isinstance(daemon, DaemonProcess)
        await daemon.event("secret.away")
        assert await daemon.stop() == 0
        assert not daemon.seen("daemon.started")
