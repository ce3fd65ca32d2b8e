"""The code in docs/reading-tokens.md that uses the packages or plain HTTP, run as it stands there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.doors.readers.api import Api
from tests.doors.readers.house import PROVIDER, ROOT, House, Started

PAGE = (ROOT / "docs" / "reading-tokens.md").read_text()
CONSENTS = (ROOT / "docs" / "connect.md").read_text()
ACCOUNT = "company-7"
URL = "https://api.xero.com/connections"


@pytest.fixture(scope="module", autouse=True)
def token(house: House) -> None:
    """The token that the page speaks of."""
    house.add(ACCOUNT)


def block(name: str, api: Api | None = None, *, page: str = PAGE) -> str:
    """Return the code block of the page that names this file, for the provider and the API of the tests."""
    code = re.search(
        rf"^```\w+\n((?:<\?php )?(?:#|//) {re.escape(name)}\n.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    assert code is not None
    text = re.sub(r"""(["'])xero\1""", rf"\1{PROVIDER}\1", code[1])
    assert text != code[1]
    return text if api is None else text.replace(URL, api.url + "/api/connections")


def run(*command: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("transport", ["http", "unix", "mongodb"])
def test_two_lines_of_python_send_a_request_with_the_token(
    house: House, api: Api, python: tuple[str, dict[str, str]], tmp_path: Path, transport: str
) -> None:
    """From the wheel."""
    program, environment = python
    Path(tmp_path, "two_lines.py").write_text(block("two_lines.py", api) + "print(answer.status_code)\n")
    out = run(program, "two_lines.py", cwd=tmp_path, env=environment | house.environment(transport))
    assert out == "200\n"
    assert [one["authorization"] for one in api.seen] == [f"Bearer {house.access_token(ACCOUNT)}"]


@pytest.mark.parametrize("transport", ["http", "unix", "mongodb"])
def test_two_lines_of_javascript_send_a_request_with_the_token(
    house: House, api: Api, node: tuple[str, Path], transport: str
) -> None:
    """From the npm package."""
    program, app = node
    end = "console.log(answer.status)\nawait tokens.close()\n"
    Path(app, "two-lines.mjs").write_text(block("two-lines.mjs", api) + end)
    environment = {"PATH": os.environ["PATH"]} | house.environment(transport)
    assert run(program, "two-lines.mjs", cwd=app, env=environment) == "200\n"
    assert [one["authorization"] for one in api.seen] == [f"Bearer {house.access_token(ACCOUNT)}"]


@pytest.mark.parametrize(("name", "command"), [("token.go", ("go", "run")), ("token.php", ("php",))])
def test_other_languages_read_the_token_by_http(
    house: House, tmp_path: Path, name: str, command: tuple[str, ...]
) -> None:
    """Skipped if the language isn't installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"missing: {command[0]}")
    Path(tmp_path, name).write_text(block(name))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
    }
    out = run(*command, name, cwd=tmp_path, env=environment | house.environment("http"))
    assert out == f"Authorization: Bearer {house.access_token(ACCOUNT)}\n"


IN_PYTHON = """
import json, sys, connect
session = {}
print(json.dumps({"url": connect.begin(session)}), flush=True)
print(json.dumps({"done": connect.finish(session, json.loads(sys.stdin.readline()))}), flush=True)
"""
IN_JAVASCRIPT = """
import { createInterface } from 'node:readline'
import { begin, finish } from './connect.mjs'
const session = {}
console.log(JSON.stringify({ url: await begin(session) }))
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ done: await finish(session, JSON.parse(line)) }))
}
"""


@pytest.mark.parametrize("decision", ["approve", "deny"])
@pytest.mark.parametrize("language", ["python", "node"])
def test_an_application_connects_an_account(
    house: House,
    python: tuple[str, dict[str, str]],
    node: tuple[str, Path],
    tmp_path: Path,
    language: str,
    decision: str,
) -> None:
    """From the built packages, by the functions of docs/connect.md. The owner approves, or doesn't."""
    example, program = ("connect.py", IN_PYTHON) if language == "python" else ("connect.mjs", IN_JAVASCRIPT)
    at = tmp_path if language == "python" else node[1]
    Path(at, example).write_text(block(example, page=CONSENTS))
    Path(at, f"run_{example}").write_text(program)
    given = python[1] if language == "python" else {"PATH": os.environ["PATH"]}
    command = (python if language == "python" else node)[0]
    with Started(command, f"run_{example}", cwd=at, env=given | house.environment("http")) as application:
        before = house.version(ACCOUNT)
        back = house.browse(application.line()["url"], decision)
        assert application.ask(back) == {"done": decision == "approve"}
    assert (house.version(ACCOUNT) != before) == (decision == "approve")
