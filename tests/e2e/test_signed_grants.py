"""Tokens for which the client signs: a real daemon, a real MongoDB, and a sandbox that checks the signature with the key
that it has handed out. Both sides have their own code for it.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import PATIENCE, DaemonProcess, Install, Installation, Table

GENERATIONS = 10
LONG = timedelta(minutes=2)
SHORT_LIVES = timedelta(seconds=3)
USERS = {  # the variables of a token, and the user that the sandbox sees
    "box-jwt": ({"subject": "31415926"}, "31415926"),
    "docusign-jwt": (
        {"subject": "3af994a5-0000-4abc-8def-adf23dce0cd3"},
        "3af994a5-0000-4abc-8def-adf23dce0cd3",
    ),
    "github-app": ({"installation_id": "52718281"}, "52718281"),
    "google-delegation": ({"subject": "jane@acme.example"}, "jane@acme.example"),
    "google-service-account": ({}, None),
    "salesforce-jwt": ({"subject": "jane@acme.example"}, "jane@acme.example"),
}
Open = Callable[..., Any]


@pytest.fixture
async def provider() -> AsyncIterator[Open]:
    """Opens a sandbox that speaks as a provider."""
    async with AsyncExitStack() as closing:

        async def open_(name: str, **options: Any) -> Sandbox:
            return await closing.enter_async_context(Sandbox(SandboxOptions(name=name, **options)))

        yield open_


def section(sandbox: Sandbox, key: dict[str, str] | None = None) -> Table:
    """The provider's section for this sandbox. `key`: another one than it handed out at first."""
    line = sandbox.describe() | (key or {})
    own = ("client_id", "client_secret", "client_key", "client_key_id", "token_url")
    table: dict[str, object] = {name: line[name] for name in own if line[name] is not None}
    name = sandbox.options.name
    if name.startswith("google"):
        table["scopes"] = ["https://www.googleapis.com/auth/calendar"]
    if name == "salesforce-jwt":
        table["access_lifetime"] = "3s"  # its reply tells none
    if name == "github-app":
        table["token_url"] = f"{sandbox.url}/app/installations/${{installation_id}}/access_tokens"
    elif USERS[name][1] is not None:
        table["subjects"] = [r".+@acme\.example", "[0-9a-f-]+"]
    return table


async def add(place: Installation, name: str, **variables: str) -> str:
    pairs = [f"--var={key}={value}" for key, value in (variables or USERS[name][0]).items()]
    done = await place.refreshd("add", name, "one", *pairs, stdin="{}")
    assert done.code == 0, done
    return f"{name}:one"


async def test_ten_generations_of_each(
    install: Install, mongod: str, database_name: str, provider: Open
) -> None:
    """Each with a signature of its own, and each stored: the newest is the one that the provider takes."""
    boxes = {name: await provider(name, lifetime=SHORT_LIVES) for name in USERS}
    place = install({name: section(box) for name, box in boxes.items()})
    names = [await add(place, name) for name in USERS]
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running() as daemon:
        for name in names:
            await daemon.event("token.renewed", token=name, count=GENERATIONS, within=LONG)
        assert await daemon.stop() == 0
        documents = {one["_id"]: one async for one in client[database_name]["tokens"].find()}
    for name, box in boxes.items():
        document = documents[f"{name}:one"]
        assert (document["state"], document["failures"], document["last_failure"]) == ("active", 0, None)
        assert box.desk is not None
        outcomes = [(one.outcome, one.user) for one in box.desk.presented]
        assert len(outcomes) >= GENERATIONS
        assert set(outcomes) == {("accepted", USERS[name][1])}
        stored = place.keyring.open(document["access_token"], token_id=document["_id"], field="access_token")
        assert stored == next(reversed(box._grants._access))


async def reload(place: Installation, daemon: DaemonProcess, **sections: Table) -> None:
    place.configure(place.tables | {f"providers.{name}": table for name, table in sections.items()})
    daemon.send_signal(signal.SIGHUP)


@pytest.mark.parametrize("name", ["google-delegation", "github-app"])
async def test_a_key_that_was_taken_back_is_the_operators_to_mend(
    install: Install, provider: Open, name: str
) -> None:
    """The token stays active. With another key in the configuration, it is renewed after a reload."""
    sandbox = await provider(name, lifetime=SHORT_LIVES)
    place = install({name: section(sandbox)})
    token = await add(place, name)
    async with place.running() as daemon:
        await daemon.event("token.renewed", token=token)
        sandbox.desk.revoke_keys()
        failed = await daemon.event("token.postponed", token=token)
        assert failed["kind"] == "misconfigured"
        assert not daemon.seen("token.needs_reauth")
        renewals = len(daemon.seen("token.renewed", token=token))
        await reload(place, daemon, **{name: section(sandbox, sandbox.desk.draw_key())})
        await daemon.event("token.renewed", token=token, count=renewals + 1, within=LONG)
        assert await daemon.stop() == 0


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(minutes=-20)])
async def test_clocks_that_are_apart_condemn_no_token(
    install: Install, provider: Open, ahead: timedelta
) -> None:
    """Google says invalid_grant for it, and means everybody."""
    sandbox = await provider("google-delegation", clock_ahead=ahead)
    place = install({"google-delegation": section(sandbox) | {"confirm_after": "0s"}})
    token = await add(place, "google-delegation")
    async with place.running() as daemon:
        failed = await daemon.event("token.postponed", token=token)
        assert (failed["kind"], failed["code"]) == ("misconfigured", "invalid_grant")
        assert "reasonable timeframe" in failed["message"]
        assert not daemon.seen("token.needs_reauth")
        assert await daemon.stop() == 0


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("google-delegation", "invalid_grant", "Invalid email or User ID"),
        ("salesforce-jwt", "invalid_grant", "user hasn't approved this consumer"),
        ("docusign-jwt", "invalid_grant", "user_not_found"),
        ("box-jwt", "invalid_grant", "Please check the 'sub' claim. The 'sub' specified is invalid."),
        ("github-app", "Not Found", "Not Found"),
    ],
)
async def test_an_unknown_user_is_rejected_in_the_providers_words(
    install: Install, provider: Open, name: str, code: str, words: str
) -> None:
    """That token alone: the key is good, and another user's token is renewed with it."""
    known = USERS[name][1]
    sandbox = await provider(name, users=(known,))
    place = install({name: section(sandbox) | {"confirm_after": "0s"}})
    token = await add(place, name)
    variables = {
        **USERS[name][0],
        next(iter(USERS[name][0])): known.replace("3", "4").replace("jane", "john"),
    }
    variables = {key: value.replace("52718281", "52718282") for key, value in variables.items()}
    pairs = [f"--var={key}={value}" for key, value in variables.items()]
    done = await place.refreshd("add", name, "two", *pairs, stdin="{}")
    assert done.code == 0, done
    async with place.running() as daemon:
        await daemon.event("token.renewed", token=token)
        rejected = await daemon.event("token.needs_reauth", token=f"{name}:two")
        assert (rejected["kind"], rejected["code"]) == ("rejected", code)
        assert words in rejected["message"]
        assert await daemon.stop() == 0


async def test_who_writes_documents_chooses_no_user_that_the_operator_has_not_listed(
    install: Install, mongod: str, database_name: str, provider: Open
) -> None:
    """Nothing is signed for such a token, nor for one that names this grant at a provider without it."""
    sandbox = await provider("google-delegation")
    plain = await provider("sandbox")
    place = install(
        {
            "google-delegation": section(sandbox) | {"subjects": [r"jane@acme\.example"]},
            "sandbox": {key: plain.describe()[key] for key in ("client_id", "client_secret", "token_url")},
        }
    )
    refused = await place.refreshd(
        "add", "google-delegation", "ceo", "--var=subject=ceo@acme.example", stdin="{}"
    )
    assert (refused.code, "subjects" in refused.stderr) == (2, True)
    document = {"account": "x", "state": "active", "due_at": None, "vars": {"subject": "ceo@acme.example"}}
    async with AsyncMongoClient(mongod, tz_aware=True) as client, place.running() as daemon:
        await daemon.ready()
        tokens = client[database_name]["tokens"]
        for name, more in (("google-delegation", {}), ("sandbox", {"grant": "jwt_bearer"})):
            now = (await client.admin.command("hello"))["localTime"]
            await tokens.insert_one({**document, "_id": f"{name}:x", "provider": name, "due_at": now} | more)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while await tokens.count_documents({"last_failure": {"$ne": None}}) < 2:
                await asyncio.sleep(0.1)
        kinds = {one["_id"]: one["last_failure"]["kind"] async for one in tokens.find()}
        assert kinds["sandbox:x"] in ("unreadable", "misconfigured", "unconfigured")
        assert kinds["google-delegation:x"] in ("misconfigured", "unconfigured")
        assert not daemon.seen("token.renewed")
        assert await daemon.stop() == 0
    assert not sandbox.desk.presented


async def test_googles_key_file_is_all_that_a_service_account_needs(install: Install, provider: Open) -> None:
    """Client id and key id stand in it."""
    sandbox = await provider("google-service-account", client_id="svc@project.example")
    key = sandbox.desk.draw_key()
    place = install({"google-service-account": {}})
    file = place.directory / "key.json"
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "private_key_id": key["client_key_id"],
                "private_key": key["client_key"],
                "client_email": "svc@project.example",
            }
        )
    )
    own = {"client_key": {"file": str(file)}, "token_url": sandbox.token_url, "scopes": ["read"]}
    place.configure(place.tables | {"providers.google-service-account": own})
    token = await add(place, "google-service-account")
    async with place.running() as daemon:
        await daemon.event("token.renewed", token=token)
        assert await daemon.stop() == 0
    assert [(one.outcome, one.key) for one in sandbox.desk.presented] == [("accepted", key["client_key_id"])]
