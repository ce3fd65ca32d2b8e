"""The fixtures as files: one is all that a new provider takes, and a slip in one is named. And the command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.sandbox import Sandbox, SandboxOptions, recorded
from tests.sandbox.owner import CALLBACK, VERIFIER, Owner

MINIMAL = """
paths = ["/o/{zone}/token"]
variables = { zone = "eu" }
[request]
client = ["post"]
body = ["json"]
grants = { renew = "present" }
presents = "old"
[granted]
body = '{"data": {"jwt": "{access_token}", "again": "{refresh_token}", "left": "{expires_in}"}}'
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of fixtures that is the test's own."""
    shipped = Path(str(recorded._FIXTURES)) / "sandbox.toml"
    (tmp_path / "sandbox.toml").write_text(shipped.read_text())
    monkeypatch.setattr(recorded, "_FIXTURES", tmp_path)
    recorded.names.cache_clear()
    yield tmp_path
    recorded.names.cache_clear()
    recorded.dialect.cache_clear()


async def test_one_file_makes_a_provider(folder: Path, start_sandbox: Any) -> None:
    """Nested keys, another word for the grant, another name for the token: no code."""
    (folder / "acme.toml").write_text(MINIMAL)
    peer = await start_sandbox(name="acme")
    sandbox = peer.sandbox
    assert sandbox.token_url == sandbox.url + "/o/eu/token"
    [consent] = sandbox.consent()
    asked = {"grant_type": "renew", "old": consent["data"]["again"]}
    client = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
    for status in (200, 400):
        async with peer.session.post(sandbox.token_url, json=asked | client) as reply:
            answer = await reply.json()
        assert reply.status == status
        assert answer.get("error") == (None if status == 200 else "invalid_grant")


async def test_one_file_makes_a_consent_and_a_revocation(folder: Path, start_sandbox: Any) -> None:
    """Revocation by GET, whose answer repeats the token; a code of another name; all without code."""
    revocation = """
[consent]
paths = ["/o/{zone}/ask"]
code = "ticket"
[revocation]
method = "GET"
paths = ["/o/{zone}/end"]
place = ["query"]
parameter = "old"
client = ["id"]
done = { status = 201, body = '{"ended": "{token}"}' }
"""
    (folder / "acme.toml").write_text(MINIMAL + revocation)
    peer = await start_sandbox(name="acme")
    sandbox = peer.sandbox
    told = sandbox.describe()
    assert told["authorize_url"] == sandbox.url + "/o/eu/ask"
    assert (told["revoke_url"], told["device_url"]) == (sandbox.url + "/o/eu/end", None)
    owner = Owner(peer)
    answer = await owner.answer()
    client = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
    form = {"grant_type": "authorization_code", "code": answer["ticket"], "redirect_uri": CALLBACK}
    async with peer.session.post(
        sandbox.token_url, json={**form, "code_verifier": VERIFIER, **client}
    ) as reply:
        token = (await reply.json())["data"]["again"]
    for parameters, status in (({}, 401), ({"client_id": sandbox.client_id}, 201)):
        async with peer.session.get(told["revoke_url"], params={"old": token, **parameters}) as reply:
            assert reply.status == status
            assert (await reply.json()).get("ended") == (token if status == 201 else None)
    [grant] = await owner.grants()
    assert grant["revoked_by"] == "client"


PUBLIC = (
    MINIMAL.replace('["post"]', '["id"]')
    .replace('["json"]', '["query"]')
    .replace('presents = "old"', 'names = { client_id = "app", refresh_token = "old" }\nmethod = "GET"')
    .replace("[granted]", "[granted]\nstatus = 201")
    .replace("{expires_in}", "{expires_at_iso}")
)


async def test_one_file_makes_a_public_client_with_names_of_its_own(folder: Path, start_sandbox: Any) -> None:
    """A GET with the client's id alone, which must not bring a secret; a success with another status and a date."""
    (folder / "acme.toml").write_text(PUBLIC)
    peer = await start_sandbox(name="acme")
    sandbox = peer.sandbox
    [consent] = sandbox.consent()
    asked = {"grant_type": "renew", "old": consent["data"]["again"]}
    secret = {"client_secret": sandbox.client_secret}
    for client, status in (
        ({}, 401),
        ({"app": "another"}, 401),
        ({"client_id": sandbox.client_id}, 401),
        ({"app": sandbox.client_id, **secret}, 401),
        ({"app": sandbox.client_id}, 201),
    ):
        async with peer.session.get(sandbox.token_url, params=asked | client) as reply:
            assert reply.status == status
            answer = await reply.json()
    assert datetime.fromisoformat(answer["data"]["left"]).tzinfo is not None


async def test_a_client_can_be_nobody(folder: Path, start_sandbox: Any) -> None:
    """Then the token is all that is read, and whatever names a client is refused."""
    (folder / "acme.toml").write_text(MINIMAL.replace('["post"]', '["nobody"]'))
    peer = await start_sandbox(name="acme")
    sandbox = peer.sandbox
    [consent] = sandbox.consent()
    asked = {"grant_type": "renew", "old": consent["data"]["again"]}
    for client, status in (
        ({"client_id": sandbox.client_id}, 400),
        ({"client_secret": sandbox.client_secret}, 400),
        ({}, 200),
    ):
        async with peer.session.post(sandbox.token_url, json=asked | client) as reply:
            assert reply.status == status


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (MINIMAL + "[consent]\npages = []", "unknown: pages"),
        (MINIMAL + "[consent]\npkce = 'plain'", "'plain' is none of optional, required, ignored"),
        (MINIMAL + "[consent]\nreturns = { realm = '{token}' }", "unknown: token"),
        (MINIMAL + "[consent]\ncode_lifetime = '1 hour'", "'1 hour' is not a duration"),
        (MINIMAL + "[consent]\ngrant_type = 'never'", "'never' is none of required, optional"),
        (MINIMAL + "[device]\nbody = '{}'", "paths"),
        (
            MINIMAL + "[device]\npaths = ['/d']\nbody = '{}'\nclient = 'basic'",
            "'basic' is none of id, secret",
        ),
        (MINIMAL + "[device]\npaths = ['/d']\nbody = '[]'", "a JSON object was expected"),
        (MINIMAL + "[revocation]\npaths = ['/r']", "client"),
        (MINIMAL + "[revocation]\npaths = ['/r']\nclient = ['mtls']", "'mtls' is none of basic, post"),
        (
            MINIMAL + "[revocation]\npaths = ['/r']\nclient = ['none']\nmethod = 'PUT'",
            "'PUT' is none of POST",
        ),
        (
            MINIMAL + "[revocation]\npaths = ['/r']\nclient = ['none']\nplace = ['header']",
            "'header' is none of",
        ),
        (
            MINIMAL + "[revocation]\npaths = ['/r']\nclient = ['none']\nends = 'all'",
            "'all' is none of account",
        ),
        (MINIMAL + "[revocation]\npaths = ['/r']\nclient = ['none']\ntakes = ['code']", "'code' is none of"),
        ("colour = 'red'\n" + MINIMAL, "unknown: colour"),
        (MINIMAL.replace('["post"]', '["mtls"]'), "'mtls' is none of basic, post"),
        (MINIMAL.replace("{expires_in}", "{lifetime}"), "unknown: lifetime"),
        (MINIMAL.replace("client = [", "clients = ["), "unknown: clients"),
        (MINIMAL.replace('paths = ["/o/{zone}/token"]', ""), "paths"),
        (MINIMAL + "[tokens]\ngrace = '5 minutes'", "'5 minutes' is not a duration"),
        (MINIMAL + "[[refusals.dead_grant]]\nstatus = 400\nbody = '{}'", "unknown: dead_grant"),
        (MINIMAL + "[[refusals.throttled]]\nstatus = 400\nbody = '[]'", "a JSON object was expected"),
        ("paths = [", "TOMLDecodeError"),
    ],
)
def test_a_slip_in_a_fixture_is_named_with_its_file(folder: Path, wrong: str, told: str) -> None:
    """Rather than a sandbox that speaks nonsense."""
    (folder / "acme.toml").write_text(wrong)
    with pytest.raises(ValueError, match=r"fixtures/acme\.toml: ") as caught:
        recorded.dialect("acme")
    assert told in str(caught.value)


def test_the_command_line_speaks_as_a_provider_and_lists_the_known_ones() -> None:
    """The printed token URL is the provider's; an unknown name is a usage error."""
    command = [sys.executable, "-m", "daemon", "sandbox", "--as"]
    ran = subprocess.run([*command, "nobody"], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2
    assert "airtable, " in ran.stderr
    assert "zoom" in ran.stderr
    ran = subprocess.run(
        [*command, "xero", "--redirect-uri", "/cb"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, "a redirect URI is an absolute one" in ran.stderr) == (2, True)
    consent = ["--redirect-uri", "https://app.example/cb", "--pkce", "required", "--device-interval", "0s"]
    with subprocess.Popen([*command, "zoho", *consent], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            assert told["token_url"] == told["url"] + "/oauth/v2/token"
            assert told["authorize_url"] == told["url"] + "/oauth/v2/auth"
            assert (told["revoke_url"], told["device_url"]) == (told["url"] + "/oauth/v2/token/revoke", None)
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0


def test_every_providers_sandbox_can_be_made() -> None:
    """Each fixture is read whole, and what it shows of itself needs no start."""
    for name in recorded.names():
        assert Sandbox(SandboxOptions(name=name)).token_url.startswith("http://127.0.0.1:0/")
