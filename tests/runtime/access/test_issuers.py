"""The trusted issuers, put together: what is logged, how often, and that their end leaves nothing behind."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.domain.provider import Rate
from daemon.runtime.access.issuers import RefusalLog, workloads_of
from daemon.runtime.config.issuers import Issuers, KeySource
from daemon.serving.problems import Problem
from tests.runtime.test_issuer_settings import loaded, section
from tests.support.clocks import SetClock
from tests.support.jwts import AUDIENCE, ISSUER, KeyServer, SigningKey, claims, key_set

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEY = SigningKey("a", "EdDSA")


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def log(self, line: object, /, **fields: object) -> None:
        self.lines.append((line.event, fields))  # type: ignore[attr-defined]


def test_refusals_are_counted_each_and_logged_once_a_minute():
    log, clock, counted = Log(), SetClock(NOON), []
    refused = RefusalLog(log, clock, lambda *what: counted.append(what))
    for _ in range(5):
        refused("ci", "expired", "10.0.0.1")
    refused("ci", "signature", "10.0.0.1")
    clock.passed += timedelta(minutes=1)
    refused("ci", "expired", "10.0.0.2")
    assert len(counted) == 7
    usual = {"issuer": "ci", "ip": "10.0.0.1", "count": 1}
    assert log.lines == [
        ("access.jwt_refused", {**usual, "reason": "expired"}),
        ("access.jwt_refused", {**usual, "reason": "signature"}),
        ("access.jwt_refused", {**usual, "reason": "expired", "ip": "10.0.0.2", "count": 5}),
    ]


def _issuers(directory: Path, server: KeyServer) -> Issuers:
    text = section(
        issuer=f'"{ISSUER}"', audience=f'"{AUDIENCE}"', jwks=f'"{server.url}"', allow_private="true"
    )
    return loaded(directory, text).issuers


async def test_keys_are_fetched_at_the_start_and_their_loss_is_logged_once(tmp_path: Path):
    log, clock = Log(), SetClock(NOON)
    jwt = KEY.jwt(claims(NOON))
    async with KeyServer() as server:
        server.body = "no key set"
        async with workloads_of(
            _issuers(tmp_path, server),
            clock,
            log=log,
            rate=Rate(count=10, per=timedelta(minutes=1)),
            count=lambda *_: None,
            failed=lambda _address: None,
        ) as workloads:
            while not log.lines:
                await asyncio.sleep(0.01)
            with pytest.raises(Problem):
                await workloads.admit(jwt, "10.0.0.1")
            assert server.asked == 1
            server.body = key_set(KEY)
            clock.passed += timedelta(seconds=10)
            (caller,) = await workloads.admit(jwt, "10.0.0.1")
            assert caller.key.name == "issuer.example"
    lines = [line for line in log.lines if line[0] != "access.jwt_refused"]
    assert lines == [
        ("access.issuer_lost", {"issuer": ISSUER, "message": "it is not a JSON Web Key Set"}),
        ("access.issuer_back", {"issuer": ISSUER}),
    ]


async def test_a_hanging_issuer_delays_neither_start_nor_end(tmp_path: Path):
    async with KeyServer() as server:

        async def hang(_request: object) -> None:
            await server.over.wait()

        server.answer = hang
        async with asyncio.timeout(5):
            async with workloads_of(
                _issuers(tmp_path, server),
                SetClock(NOON),
                log=Log(),
                rate=Rate(count=10, per=timedelta(minutes=1)),
                count=lambda *_: None,
                failed=lambda _address: None,
            ):
                while not server.asked:
                    await asyncio.sleep(0.01)


async def test_the_same_from_a_file(tmp_path: Path):

    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(key_set(KEY)))
    issuers = loaded(
        tmp_path, section(issuer=f'"{ISSUER}"', audience=f'"{AUDIENCE}"', jwks='{ file = "jwks.json" }')
    ).issuers
    assert issuers.sources == {ISSUER: KeySource(place=file)}
    rate = Rate(count=10, per=timedelta(minutes=1))
    async with workloads_of(
        issuers,
        SetClock(NOON),
        log=Log(),
        rate=rate,
        count=lambda *_: None,
        failed=lambda _address: None,
    ) as workloads:
        assert await workloads.admit(KEY.jwt(claims(NOON)), "10.0.0.1")
        new = SigningKey("b", "EdDSA")
        file.write_text(json.dumps(key_set(new)))
        assert await workloads.admit(new.jwt(claims(NOON)), "10.0.0.1")
