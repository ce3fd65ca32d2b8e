"""docs/develop/debugging.md: the consent by hand works as the page shows it."""

import asyncio
import json
import re
import subprocess

import pytest

from daemon.sandbox import Sandbox
from tests.support.pages import blocks

PAGE = "develop/debugging.md"
ADDRESS = "127.0.0.1:9466"


def commands(beginning: str) -> list[str]:
    """The commands of the one console block that begins so, without what they print."""
    (block,) = [block for block in blocks(PAGE, "console") if block.startswith(beginning)]
    return [
        command.removeprefix("$ ") for command in re.findall(r"^\$ .*(?:(?<=\\)\n.*)*", block, re.MULTILINE)
    ]


async def shell(script: str, sandbox: Sandbox) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", script.replace(ADDRESS, sandbox.url.removeprefix("http://"))],
        env={"PATH": "/usr/bin:/bin", "SANDBOX_SECRET": sandbox.client_secret},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_consent_by_hand() -> None:
    """From the page's button to a token of the account and scope that were chosen."""
    page, press, exchange = commands("$ PAGE=")
    assert "4%2FwX3..." in exchange
    async with Sandbox() as sandbox:
        location = await shell(f"{page}\n{press}", sandbox)
        assert location.startswith("Location: http://127.0.0.1:8917/callback?code=")
        code = location.split("code=")[1].split("&")[0]
        answer = json.loads(await shell(exchange.replace("4%2FwX3...", code), sandbox))
        [grant] = sandbox.ledger()
    assert (answer["account"], answer["scope"]) == ("me", "read")
    assert (grant["account"], grant["scopes"]) == ("me", ["read"])


@pytest.mark.parametrize("number", [0, 1])
async def test_the_faults_that_are_shown_can_be_had(number: int) -> None:
    """One at the redirect, one at the revocation."""
    command = commands('$ curl -s -X PUT http://127.0.0.1:9466/faults -d \'{"kind": "wrong_state"')[number]
    async with Sandbox() as sandbox:
        fault = json.loads(await shell(command, sandbox))
    assert (fault["at"], fault["count"]) == (("authorize", 1), ("revoke", 1))[number]
