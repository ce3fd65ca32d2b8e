"""docs/security.md: its MongoDB role is enough and no more than that, a key is rotated by its steps, its rating is true."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from daemon.adapters.mongo.admin.preflight import needless_rights
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.embedded_mongod import CLOSED, HOST, OPTIONS, REPLICA_SET, spawn_mongod
from daemon.domain.handle import handle_of
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import KEY_ID, DaemonProcess, Finished, Installation
from tests.e2e.service import PROVIDER, Place, Service
from tests.support.ports import free_port

DOCUMENT = "security.md"
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / DOCUMENT).read_text()
PASSWORD = "only-for-this-test"

Blocks = Callable[[str, str], list[str]]
WriteFiles = Callable[[str, Path], list[str]]
Document = dict[str, Any]


@pytest.fixture
def guarded_mongod(tmp_path: Path) -> Iterator[tuple[str, MongoClient[Document]]]:
    """A replica set of one that wants a login: its address, and a client that may do anything."""
    home = tmp_path / "mongod"
    Path(home, "db").mkdir(parents=True)
    keyfile = home / "keyfile"
    keyfile.touch(mode=0o600)
    keyfile.write_text("k" * 64)
    port = free_port()
    own = ("--dbpath", str(home / "db"), "--port", str(port))
    child = spawn_mongod([*OPTIONS, *own, *CLOSED, str(keyfile)], log=home / "mongod.log")
    try:
        system = {"username": "__system", "password": "k" * 64, "authSource": "local"}
        with MongoClient[Document](HOST, port, directConnection=True, **system) as client:
            members = [{"_id": 0, "host": f"{HOST}:{port}"}]
            client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
        with MongoClient[Document](HOST, port, replicaSet=REPLICA_SET, **system) as client:
            client.admin.command("ping")  # waits for the primary
            yield f"{HOST}:{port}", client
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(home)


def role(blocks: Blocks, name: str) -> Document:
    """The command in the `js` block of that name: its object, whose keys JSON wants in quotes."""
    (code,) = [block for block in blocks(DOCUMENT, "js") if block.startswith(f"// {name}\n")]
    written = code[code.index("{") : code.rindex("}") + 1]
    return json.loads(re.sub(r"(\w+):", r'"\1":', written))


async def test_a_key_is_rotated_by_the_steps_under_the_least_role(
    guarded_mongod: tuple[str, MongoClient[Document]], tmp_path: Path, blocks: Blocks, write_files: WriteFiles
):
    """The daemon, and every command that writes, as docs/keys.md has them: none of them misses a right. One token is
    active and one rests; in the end neither needs the old key."""
    address, client = guarded_mongod
    client["refreshd"].command(role(blocks, "role.js"))
    client["refreshd"].command({"createUser": "refreshd", "pwd": PASSWORD, "roles": ["refreshdDaemon"]})
    uri = f"mongodb://refreshd:{PASSWORD}@{address}/?replicaSet={REPLICA_SET}&authSource=refreshd"
    async with Sandbox(SandboxOptions()) as sandbox:
        place = xero(tmp_path / "place", sandbox, uri=uri, database="refreshd")
        write_files(DOCUMENT, place.directory)
        async with place.running() as daemon:
            await daemon.ready()
            renewed, resting = map(json.dumps, sandbox.consent(2))
            await all_done(
                place.refreshd("add", "xero", "renewed", stdin=renewed),
                place.refreshd("add", "xero", "resting", stdin=resting),
            )
            await all_done(place.refreshd("pause", "xero:resting"))
            status, generate, reseal, retire = blocks("keys.md", "sh")

            async def run(step: str) -> str:
                environment = {"REFRESHD_CONFIG": str(place.config)}
                return await asyncio.to_thread(
                    shell, step.replace("2026-08", KEY_ID), place.directory, environment
                )

            old, fresh = (
                {"value": b64encode(place.key).decode(), "created": "2026-08-15"},
                {"file": "2026-11.key"},
            )
            assert KEY_ID in await run(status)
            await run(generate)
            await reload(place, daemon, KEY_ID, {KEY_ID: old, "2026-11": fresh}, count=1)
            await reload(
                place, daemon, "2026-11", {KEY_ID: {**old, "use": "open"}, "2026-11": fresh}, count=2
            )
            assert "2 documents re-sealed" in await run(reseal)
            assert "Nothing needs key" in await run(retire)
            await reload(place, daemon, "2026-11", {"2026-11": fresh}, count=3)
            _, checked, *_ = await all_done(
                place.refreshd("resume", "xero:resting"),
                place.refreshd("check"),
                place.refreshd("show", "xero:renewed", "--reveal", "refresh_token"),
            )
            assert "Everything that was checked is in order." in checked.stdout
            await daemon.event("token.renewed", token="xero:resting")
            to = ("--to", str(tmp_path), "--unencrypted", "--json")
            (made,) = await all_done(place.refreshd("backup", "create", *to))
            archive = json.loads(made.stdout)
            assert archive["snapshot"] is True
            adopted, _ = await asyncio.gather(
                place.refreshd("adopt", "0123456789ab", "--yes"),
                all_done(place.refreshd("remove", "--yes", "xero:renewed")),
            )
            assert "holds no claim" in adopted.stderr
            (restored,) = await all_done(place.refreshd("backup", "restore", archive["file"], "--json"))
            assert json.loads(restored.stdout)["restored"] == 1
            assert not daemon.seen("wishes.lost")
            assert not daemon.seen("store.lost")
            assert not daemon.seen("sweep.failed")


async def test_a_role_without_the_newest_rights_stops_no_renewal(
    guarded_mongod: tuple[str, MongoClient[Document]], tmp_path: Path, blocks: Blocks
):
    """As it is after an update: one line in the log, `check` names each right, and a wrong key is seen all the same."""
    address, client = guarded_mongod
    older = role(blocks, "role.js")
    *older["privileges"], _, _, _ = older["privileges"]
    older["privileges"][0]["actions"].remove("changeStream")
    client["refreshd"].command(older)
    client["refreshd"].command({"createUser": "refreshd", "pwd": PASSWORD, "roles": ["refreshdDaemon"]})
    uri = f"mongodb://refreshd:{PASSWORD}@{address}/?replicaSet={REPLICA_SET}&authSource=refreshd"
    async with Sandbox(SandboxOptions()) as sandbox:
        place = xero(tmp_path / "place", sandbox, uri=uri, database="refreshd")
        async with place.running() as daemon:
            (consent,) = sandbox.consent(1)
            await all_done(place.refreshd("add", "xero", "a", stdin=json.dumps(consent)))
            await all_done(place.refreshd("refresh", "--wait", "xero:a"))
            told = await daemon.event("store.refused")
            assert "tokens_instances" in told["message"]
            told = await daemon.event("wishes.lost")
            assert told["message"] == "the user lacks the privilege changeStream on the tokens"
            told = await daemon.event("connect.refused")
            assert "tokens_consents" in told["message"]
            checked = await place.refreshd("--json", "check")
            assert len(daemon.seen("connect.refused")) == 1
            assert len(daemon.seen("store.refused")) == len(daemon.seen("wishes.lost")) == 1
            assert not daemon.seen("store.lost")
            assert not daemon.seen("sweep.failed")
        told = json.loads(checked.stdout)
        assert [one["what"] for one in told["warnings"] if "changeStream" in one["what"]] == [
            "this login may not changeStream on refreshd.tokens, so requested renewals wait for a sweep"
        ]
        missing = {problem["what"] for problem in told["problems"]}
        rights = {"tokens_keys": "find insert update", "tokens_instances": "find insert update createIndex"}
        assert (checked.code, missing) == (
            1,
            {
                f"this login may not {action} on refreshd.{collection}"
                for collection, actions in rights.items()
                for action in actions.split()
            },
        )
        other = {"active": KEY_ID, "ring": {KEY_ID: b64encode(os.urandom(32)).decode()}}
        place.configure({**place.tables, "keys": other})
        async with place.running() as daemon:
            await daemon.event("keys.wrong")


async def all_done(*commands: Awaitable[Finished]) -> list[Finished]:
    """At once, and each must succeed."""
    done = await asyncio.gather(*commands)
    assert [one.code for one in done] == [0] * len(done), [one.stderr for one in done]
    return done


async def reload(
    place: Installation, daemon: DaemonProcess, active: str, ring: Mapping[str, Any], *, count: int
) -> None:
    """Another key ring, taken over by the running daemon."""
    place.configure({**place.tables, "keys": {"active": active, "ring": ring}})
    daemon.send_signal(signal.SIGHUP)
    await daemon.event("reload.done", count=count)


ROLES: list[tuple[list[Any], set[str]]] = [
    (["refreshdDaemon"], set()),
    (["readWrite"], set()),
    (["dbOwner"], {"the users and roles of refreshd"}),
    ([{"role": "readWriteAnyDatabase", "db": "admin"}], {"every database"}),
    (["readWrite", {"role": "read", "db": "shop"}], {"the database shop"}),
    ([{"role": "root", "db": "admin"}], {"every database", "the cluster's administration"}),
    ([{"role": "__system", "db": "admin"}], {"every database"}),
]


async def test_a_login_with_far_more_than_the_role_is_noticed(
    guarded_mongod: tuple[str, MongoClient[Document]], blocks: Blocks
):
    """The least role and readWrite are fine; whatever reaches further is named."""
    address, client = guarded_mongod
    client["refreshd"].command(role(blocks, "role.js"))
    client["refreshd"].command({"createUser": "refreshd", "pwd": PASSWORD, "roles": []})
    uri = Secret(f"mongodb://refreshd:{PASSWORD}@{address}/?replicaSet={REPLICA_SET}&authSource=refreshd")
    clock, ignore = Clock(), lambda _: None
    mongo = Mongo(uri=uri, database="refreshd", collection="tokens", clock=clock, observe=ignore)
    try:
        for roles, needless in ROLES:
            client["refreshd"].command({"updateUser": "refreshd", "roles": roles})
            found = set(await needless_rights(mongo))
            assert (needless <= found, bool(found)) == (True, bool(needless)), roles
    finally:
        await mongo.close()


async def test_the_access_service_works_under_its_role_and_deletes_nothing(
    guarded_mongod: tuple[str, MongoClient[Document]], tmp_path: Path, blocks: Blocks
):
    """Every route, and no right beyond: what it may not do is refused by MongoDB, whatever the program sends."""
    address, client = guarded_mongod
    database = client["refreshd"]
    for file, user in (("role.js", "refreshd"), ("serve.js", "serve")):
        database.command(role(blocks, file))
        name = role(blocks, file)["createRole"]
        database.command({"createUser": user, "pwd": PASSWORD, "roles": [name]})
    uri = f"mongodb://{{}}:{PASSWORD}@{address}/?replicaSet={REPLICA_SET}&authSource=refreshd"
    async with Sandbox(SandboxOptions()) as sandbox:
        provider = {
            "like": "sandbox",
            "token_url": sandbox.token_url,
            "client_id": sandbox.client_id,
            "client_secret": sandbox.client_secret,
        }
        installation = Installation(
            tmp_path / "place",
            uri=uri.format("refreshd"),
            database="refreshd",
            providers={PROVIDER: provider},
        )
        place = Place(installation, sandbox)
        async with installation.running() as daemon:
            await daemon.ready()
            await place.add("me")
            key = await place.key(tokens="*")
            await daemon.stop()
        async with place.serving(key, store={"uri": uri.format("serve"), "database": "refreshd"}) as service:
            await every_route(service, *sandbox.consent(1))
            await service.process.stop()
            for event in ("internal.error", "store.lost", "store.refused", "access.polling"):
                assert not service.process.seen(event), event
        async with installation.running() as daemon:
            await daemon.event("token.removed", token=f"{PROVIDER}:new")
            await daemon.stop()
        used = [one["action"] for one in database["tokens_access_use"].find({"kind": "access"})]
        assert {"read", "list", "write"} <= set(used)
        assert database["tokens_access_use"].index_information().keys() == {"_id_", "ends_at", "at", "token"}
        assert database["tokens_audit"].index_information().keys() == {"_id_", "at", "token"}
        assert {"subject", "removed_at"} <= database["tokens"].index_information().keys()
    with MongoClient[Document](uri.format("serve")) as serve:
        for name in database.list_collection_names():
            with pytest.raises(OperationFailure):
                serve["refreshd"][name].delete_one({})
        with pytest.raises(OperationFailure):
            serve["refreshd"]["tokens_audit"].update_one({}, {"$set": {"actor": "nobody"}})
        with pytest.raises(OperationFailure):
            serve["refreshd"]["tokens_access"].insert_one({"_id": "x"})


async def every_route(service: Service, response: Mapping[str, object]) -> None:
    """Ask each route once, and the last of all removes what the first has stored."""
    new, json_type = f"/v1/tokens/{PROVIDER}/new", {"Content-Type": "application/json"}
    body = json.dumps({"response": response, "subject": "ann"})
    grant = {"Content-Type": "application/vnd.refreshd.grant+json"}
    version = (await service.get(f"/v1/tokens/{PROVIDER}/me")).json["version"]
    asked = [
        ("PUT", new, body, grant, 201),
        ("GET", new, None, {}, 200),
        ("GET", f"/v1/token?id={PROVIDER}:new", None, {}, 200),
        ("POST", f"/v1/tokens/{PROVIDER}/me/refused", json.dumps({"version": version}), json_type, 202),
        ("PATCH", new, '{"meta": {"plan": "gold"}}', json_type, 200),
        ("PATCH", new, '{"state": "paused"}', json_type, 200),
        ("PATCH", new, '{"state": "active"}', json_type, 200),
        ("GET", "/v1/tokens", None, {}, 200),
        ("GET", "/v1/subjects/ann/tokens", None, {}, 200),
        ("GET", "/v1/statistics", None, {}, 200),
        ("GET", "/v1/audit", None, {}, 200),
        ("GET", "/openapi.json", None, {}, 200),
        ("GET", f"/.well-known/oauth-authorization-server/v1/oauth/{PROVIDER}", None, {}, 200),
        ("DELETE", new + "?revoke=false", None, {}, 204),
        ("DELETE", "/v1/subjects/ann/tokens?revoke=false", None, {}, 200),
    ]
    for method, path, sent, headers, status in asked:
        answer = await service.ask(method, path, data=sent, headers=headers)
        assert answer.status == status, (method, path, answer)
    exchanged = await service.exchange(refresh_token=handle_of(f"{PROVIDER}:me"))
    assert exchanged.status == 200, exchanged


def test_a_reader_reads_and_does_nothing_else(
    guarded_mongod: tuple[str, MongoClient[Document]], blocks: Blocks
):
    """Neither writes nor sees the audit."""
    address, client = guarded_mongod
    client["refreshd"].command(role(blocks, "reader.js"))
    client["refreshd"].command({"createUser": "app", "pwd": PASSWORD, "roles": ["refreshdReader"]})
    uri = f"mongodb://app:{PASSWORD}@{address}/refreshd?replicaSet={REPLICA_SET}"
    with MongoClient[Document](uri) as reader:
        database = reader.get_default_database()
        assert database["tokens"].find_one() is None
        with pytest.raises(OperationFailure):
            database["tokens"].update_one({}, {"$set": {"due_at": None}})
        with pytest.raises(OperationFailure):
            database["tokens_audit"].find_one()


def test_the_rating_of_the_unit_is_the_one_that_is_stated(blocks: Blocks):
    """By systemd itself, where it is installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (step,) = [step for step in blocks(DOCUMENT, "sh") if step.startswith("systemd")]
    told = shell(step, ROOT, {})
    (stated,) = re.findall(r"rates the unit \*\*([\d.]+)\*\*", TEXT)
    rated = re.findall(r"Overall exposure level for refreshd.service: ([\d.]+)", told)
    assert [float(rating) <= float(stated) for rating in rated] == [True]


def shell(step: str, directory: Path, environment: dict[str, str]) -> str:
    """What a block prints; it must succeed. `python3` is the one that refreshd is installed for."""
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step],
        cwd=directory,
        env={"PATH": binaries, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def xero(directory: Path, sandbox: Sandbox, *, uri: str, database: str) -> Installation:
    """An installation whose Xero is the sandbox."""
    known = sandbox.describe()
    client = {key: known[key] for key in ("token_url", "client_id", "client_secret")}
    return Installation(directory, uri=uri, database=database, providers={"xero": client})
