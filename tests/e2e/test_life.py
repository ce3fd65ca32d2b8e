"""The life of the process: starting without MongoDB, reloading, stopping in a hurry, and refusing to start."""

import asyncio
import json
import signal
import time
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.adapters.mongo.embedded_mongod import HOST, spawn_mongod
from daemon.sandbox import Sandbox, SandboxOptions
from tests.support import wall_clock
from tests.support.ports import free_port

SOON = {"sweep_every": "1s", "request_timeout": "5s", "lease": "30s", "drain": "20s"}


@pytest.fixture
async def sandbox():
    async with Sandbox(SandboxOptions(lifetime=timedelta(minutes=5))) as running:
        yield running


def client_of(sandbox: Sandbox, *, secret: str | None = None) -> dict[str, object]:
    return {
        "token_url": sandbox.token_url,
        "client_id": sandbox.client_id,
        "client_secret": secret or sandbox.client_secret,
    }


async def put_token(tokens, keyring, consent: dict, **fields: object) -> str:
    name = f"sandbox:{consent['grant']}"
    now = wall_clock.now()
    await tokens.insert_one(
        {
            "_id": name,
            "provider": "sandbox",
            "account": consent["grant"],
            "state": "active",
            "access_token": keyring.seal(consent["access_token"], token_id=name, field="access_token"),
            "refresh_token": keyring.seal(consent["refresh_token"], token_id=name, field="refresh_token"),
            "issued_at": now - timedelta(hours=1),
            "expires_at": now + timedelta(minutes=1),
            "due_at": now,
            **fields,
        }
    )
    return name


async def status_of(daemon, path: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + path) as answer:
        return answer.status


async def test_mongodb_may_come_later_and_may_be_a_standalone(install, sandbox, tmp_path: Path):
    """Without MongoDB the daemon stays up, alive and not ready; when a standalone comes it warns once and works."""
    place = install({"sandbox": client_of(sandbox)}, refresh=SOON)
    port = free_port()
    uri = f"mongodb://{HOST}:{port}/?serverSelectionTimeoutMS=500"
    place.configure({**place.tables, "store": {"uri": uri, "database": "late"}})
    async with place.running() as daemon:
        await daemon.event("store.lost")
        assert (await status_of(daemon, "/livez"), await status_of(daemon, "/readyz")) == (200, 503)
        (tmp_path / "db").mkdir()
        options = [
            "--dbpath",
            str(tmp_path / "db"),
            "--port",
            str(port),
            "--bind_ip",
            HOST,
            "--nounixsocket",
        ]
        mongod = spawn_mongod(options, log=tmp_path / "mongod.log")
        try:
            await daemon.event("store.standalone")
            await daemon.ready()
            async with AsyncMongoClient(uri, tz_aware=True) as client:
                name = await put_token(client["late"]["tokens"], place.keyring, sandbox.consent(1)[0])
            await daemon.event("token.renewed", token=name)
            assert len(daemon.seen("store.standalone")) == len(daemon.seen("store.lost")) == 1
            lost = await daemon.event("wishes.lost")
            assert lost["message"] == "this MongoDB is not a replica set, so it has no change streams"
            assert len(daemon.seen("wishes.lost")) == 1
            assert await daemon.stop() == 0
        finally:
            mongod.kill()
            mongod.wait()


async def test_a_reload_takes_a_mended_secret_and_refuses_a_broken_file(
    install, mongod, database_name, sandbox
):
    """A wrong client secret condemns nothing; SIGHUP with a broken file changes nothing, nor with one that others can
    write; with a mended one the token is renewed, the log level follows, and a token URL that moved is named."""
    place = install({"sandbox": client_of(sandbox, secret="mistyped")}, refresh=SOON)
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running() as daemon:
        tokens = client[database_name]["tokens"]
        name = await put_token(tokens, place.keyring, sandbox.consent(1)[0])
        told = await daemon.event("token.postponed", token=name, kind="misconfigured")
        assert told["code"] == "invalid_client"
        assert (await tokens.find_one({}))["state"] == "active"

        good = {**place.tables, "providers.sandbox": client_of(sandbox)}
        place.configure({**good, "refresh": {"sweep_evry": "1s"}})
        daemon.send_signal(signal.SIGHUP)
        refused = await daemon.event("reload.refused")
        assert "sweep_evry" in str(refused["problems"])

        place.config.chmod(0o602)
        daemon.send_signal(signal.SIGHUP)
        refused = await daemon.event("reload.refused", count=2)
        assert "every local user can change it" in str(refused["problems"])
        place.config.chmod(0o600)

        good["providers.sandbox"]["token_url"] = sandbox.token_url.replace("127.0.0.1", "localhost")
        place.configure(
            {**good, "log": {"format": "json", "level": "warning"}, "refresh": {**SOON, "window": "4m"}}
        )
        daemon.send_signal(signal.SIGHUP)
        code, out, err = await place.refreshd("refresh", name, "--wait", "--timeout", "20s")
        assert code == 0, out + err
        moved = daemon.seen("provider.moved")
        assert [(one["provider"], one["former_token_url"]) for one in moved] == [
            ("sandbox", sandbox.token_url)
        ]
        assert (
            "Max core file size        0                    0"
            in Path(f"/proc/{daemon.pid}/limits").read_text()
        )
        assert daemon.seen("token.renewed") == []  # the level is warning now
        assert await daemon.stop() == 0


async def test_a_second_signal_ends_a_drain_at_once(install, mongod, database_name, sandbox):
    """The first SIGTERM waits for the provider, the second does not: exit 1, and says that it was not drained."""
    sandbox.add_fault({"kind": "hang", "share": 1.0})
    place = install({"sandbox": client_of(sandbox)}, refresh=SOON)
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running() as daemon:
        await put_token(client[database_name]["tokens"], place.keyring, sandbox.consent(1)[0])
        limit = time.monotonic() + 10
        while not any(grant["presented"] for grant in sandbox.ledger()):
            assert time.monotonic() < limit
            await asyncio.sleep(0.02)
        begun = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        daemon.send_signal(signal.SIGINT)  # two equal ones could arrive as one
        assert await daemon.ended() == 1
        assert time.monotonic() - begun < 4
        assert daemon.seen("daemon.stopped", drained=False)


async def test_what_cannot_start_says_why_and_ends_with_its_code(install, sandbox):
    """A port in use and a state directory in use are 75 and name the holder; a state directory that can't be one and
    a wrong key are 78. One line each, of JSON as the log is, and no traceback."""
    first = install({"sandbox": client_of(sandbox)})
    second = install({"sandbox": client_of(sandbox)})
    async with first.running() as daemon:
        url = await daemon.url()
        code, _, err = await first.refreshd("run")
        assert code == 75
        assert f"process {daemon.pid}" in err

        second.configure({**second.tables, "server": {"port": int(url.rpartition(":")[2])}})
        code, _, err = await second.refreshd("run")
        assert code == 75
        assert f"pid {daemon.pid}" in err
        assert await daemon.stop() == 0

    second.configure({**second.tables, "state": {"dir": str(second.config / "below-a-file")}})
    code, _, err = await second.refreshd("run")
    assert code == 78
    assert "state.dir" in err

    second.configure({**second.tables, "keys": {"active": "k", "ring": {"k": "dG9vIHNob3J0"}}})
    code, _, err = await second.refreshd("run")
    assert code == 78
    assert "keys.ring.k" in err
    said = [json.loads(line) for line in err.splitlines()]
    assert {(line["event"], line["level"], line["code"]) for line in said} == {("daemon.failed", "error", 78)}
    assert all(line["what"] and line["do"] for line in said)
    assert said[0]["where"].endswith("keys.ring.k")
    assert "Traceback" not in err
    assert "dG9vIHNob3J0" not in err


async def test_documents_that_others_spoilt_disturb_nobody(install, mongod, database_name, sandbox):
    """InvalidValue types, an unopenable token and an unknown provider, beside a good one: the good one is renewed, the
    others are reported once each, and nothing of theirs is sent or lost."""
    place = install({"sandbox": client_of(sandbox)}, refresh=SOON)
    now = wall_clock.now()
    async with AsyncMongoClient(mongod, tz_aware=True) as client:
        tokens = client[database_name]["tokens"]
        spoilt = [
            {"_id": "sandbox:text", "provider": "sandbox", "account": "text", "state": "active", "expires_at": "soon", "due_at": now},
            {"_id": "sandbox:sealed", "provider": "sandbox", "account": "sealed", "state": "active", "refresh_token": "v1.e2e.AAAA", "due_at": now},
            {"_id": "sandbox:other", "provider": "sandbox", "account": "another", "state": "active", "due_at": now},
            {"_id": "nobody:x", "provider": "nobody", "account": "x", "state": "active", "refresh_token": "v1.e2e.AAAA", "due_at": now},
            {"_id": 7, "provider": "sandbox", "due_at": now},
        ]  # fmt: skip
        await tokens.insert_many(spoilt)
        name = await put_token(tokens, place.keyring, sandbox.consent(1)[0])
        async with place.running() as daemon:
            await daemon.event("token.renewed", token=name)
            await daemon.event("token.unreadable", count=5)
            await daemon.event("sweep.finished", count=1)
            assert await daemon.stop() == 0
        assert len(daemon.seen("token.unreadable")) == 5
        for before in spoilt:
            after = await tokens.find_one({"_id": before["_id"]})
            if not isinstance(before["_id"], str):  # no token's name: it is not even fetched
                assert after.keys() == before.keys()
                continue
            assert after.pop("last_failure")["kind"] in {"unreadable", "unconfigured"}
            assert after.pop("due_at") > now
            after.pop("lease", None)
            assert after == {key: value for key, value in before.items() if key != "due_at"}
    assert sum(len(grant["presented"]) for grant in sandbox.ledger()) == 1


async def test_a_token_without_a_date_is_repaired_soon_after_the_start(
    install, mongod, database_name, sandbox
):
    """No sweep finds it, so a daemon that restarts more than once an hour must not wait an hour for its repair."""
    place = install({"sandbox": client_of(sandbox)}, refresh=SOON)
    async with AsyncMongoClient(mongod, tz_aware=True) as client:
        tokens = client[database_name]["tokens"]
        name = await put_token(tokens, place.keyring, sandbox.consent(1)[0], due_at="2026-01-31T12:00:00Z")
    async with place.running() as daemon:
        await daemon.event("token.undated", token=name)
        await daemon.event("token.renewed", token=name)


async def test_a_token_that_is_held_for_another_instance_is_told_of_and_left_alone(
    install, mongod, database_name, sandbox
):
    """Due, its lease over, its asker gone: named in the log and counted; and `adopt` lets it be renewed."""
    place = install({"sandbox": client_of(sandbox)}, refresh=SOON)
    async with place.running() as daemon:
        await daemon.ready()
        async with AsyncMongoClient(mongod, tz_aware=True) as client:
            tokens = client[database_name]["tokens"]
            now = wall_clock.now()
            lease = {
                "owner": "gone",
                "claim": "theirs",
                "since": now - timedelta(minutes=2),
                "until": now - timedelta(minutes=1),
                "hold": now + timedelta(minutes=14),
            }
            [consent] = sandbox.consent(1)
            name = await put_token(tokens, place.keyring, consent, lease=lease)
            told = await daemon.event("token.held", within=timedelta(seconds=30))
        assert (told["token"], told["owner"]) == (name, "gone")
        assert sandbox.ledger()[0]["presented"] == []
        await place.refreshd("adopt", "gone", "--yes")
        await daemon.event("token.renewed", token=name)


async def test_a_refresh_on_request_comes_no_sooner_than_the_provider_asked_for(
    install, mongod, database_name, sandbox
):
    """`refreshd refresh` within a Retry-After of an hour sends nothing, and names the hour's end."""
    place = install({"sandbox": client_of(sandbox)}, refresh=SOON)
    sandbox.add_fault({"kind": "throttle", "retry_after": 3600})
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running() as daemon:
        tokens = client[database_name]["tokens"]
        name = await put_token(tokens, place.keyring, sandbox.consent(1)[0])
        await daemon.event("token.postponed", token=name)
        failure = (await tokens.find_one({}))["last_failure"]
        assert failure["not_before"] - failure["at"] == timedelta(hours=1)
        sandbox.clear_faults()
        asked = len(sandbox.ledger()[0]["presented"])
        done = await place.refreshd("refresh", name)
        assert f"no request before {failure['not_before']:%Y-%m-%dT%H:%M:%S}" in done.stderr
        await until_due(tokens, failure["not_before"])
        assert len(sandbox.ledger()[0]["presented"]) == asked
        assert await daemon.stop() == 0


async def until_due(tokens, at) -> None:
    """Wait until the daemon has moved the wish's date to `at`."""
    async with asyncio.timeout(30):
        while (await tokens.find_one({}))["due_at"] != at:
            await asyncio.sleep(0.05)
