"""docs/troubleshoot.md: the replies in it become what it says, its tables agree with the definitions, its commands run."""

import ast
import asyncio
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from daemon.domain.answer import Answer, Misconfigured, Rejected, Unavailable, Unparsed
from daemon.domain.dialect import read
from daemon.domain.provider import Provider
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import FailureKind, State, Token
from daemon.domain.token_url import token_url
from daemon.runtime.config.providers.definitions import shipped
from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.support.environment import bare

DOCUMENT = "troubleshoot.md"
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / DOCUMENT).read_text()
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
OFFLINE = re.compile(r"Consent must .*no refresh token")

Blocks = Callable[[str, str], list[str]]


def table(head: str, *, strip: str = "`") -> list[list[str]]:
    """The rows of the one table whose first line is `head`, without backticks around a cell."""
    (found,) = re.findall(rf"^{re.escape(head)}\n\|[-|]+\n((?:\|.+\n)+)", TEXT, flags=re.MULTILINE)
    return [[cell.strip().strip(strip) for cell in cells(row)] for row in found.splitlines()]


def cells(row: str) -> list[str]:
    return re.split(r"(?<= )\|(?= |$)", row.removeprefix("|").removesuffix("|"))


def kind_of(answer: Answer) -> FailureKind | None:
    match answer:
        case Rejected():
            return FailureKind.REJECTED
        case Misconfigured():
            return FailureKind.MISCONFIGURED
        case Unparsed():
            return FailureKind.UNPARSED
        case Unavailable(in_doubt=doubt):
            return FailureKind.IN_DOUBT if doubt else FailureKind.UNAVAILABLE
        case _:
            return None


# ---------------------------------------------------------------- the tables


@pytest.mark.parametrize("row", table("| provider | status | reply | becomes |"), ids=" ".join)
def test_each_reply_becomes_what_the_table_says(row: list[str]):
    """Read by the shipped definition of that provider."""
    provider, status, body, kind = (cell.strip("` |") for cell in row)
    known = Provider(definition=shipped()[provider], client_id="us", client_secret=Secret("a-secret"))
    token = Token(
        id=f"{provider}:a",
        provider=provider,
        account="a",
        state=State.ACTIVE,
        refresh_token=Secret("rt-1"),
    )
    reply = Reply(
        status=int(status),
        content_type="application/json",
        retry_after=None,
        body=body.encode(),
        whole=True,
        asked_at=NOW,
    )
    assert kind_of(read(known, token, reply)) == FailureKind(kind)


def test_the_kinds_are_all_explained_and_no_others():
    """What `refreshd list` may say before the colon."""
    rows = table("| kind | means | who must act |")
    assert sorted(row[0].strip("` |") for row in rows) == sorted(kind.value for kind in FailureKind)


@pytest.mark.parametrize("row", table("| provider | variable | like | asks |"), ids=" ".join)
def test_each_place_is_where_the_definition_leads(row: list[str]):
    """With that variable the request goes to that URL."""
    provider, variable, value, url = (cell.strip("` |") for cell in row)
    known = Provider(definition=shipped()[provider], client_id="us", client_secret=Secret("a-secret"))
    assert token_url(known, {variable: value}) == url


def test_what_a_consent_must_ask_for_is_what_the_definitions_note():
    """Every definition that has such a note has a row, and each word of the row stands in the note."""
    noted = {name: note for name, known in shipped().items() for note in known.notes if OFFLINE.search(note)}
    rows = {row[0].strip("| "): row[1] for row in table("| provider | the consent must be asked with |")}
    assert sorted(rows) == sorted(noted)
    for name, cell in rows.items():
        assert all(word in noted[name] for word in re.findall(r"[\w.]+(?:=\w+)?", cell.replace(" and ", " ")))


def test_what_goes_wrong_at_a_consent_is_what_the_definitions_note():
    """A cell has words if the definition has a note or a hint for its column, and each word of code stands in there."""
    head = "| provider | unregistered redirect URI | no refresh token | another consent | who can consent |"
    rows = {row[0].strip("| `"): row[1:] for row in table(head, strip="")}
    for name, known in shipped().items():
        said = [
            noted(known.notes, r"redirect URI that is not registered:"),
            "" if name == "sandbox" else known.consent_hint,
            noted(known.notes, r"ends the oldest|refresh tokens live per|the earlier .* dead"),
            noted(known.notes, r"can consent|approved partners|has to consent first|for development only"),
        ]
        cells = rows.pop(name, [""] * len(said))
        assert [bool(cell) for cell in cells] == [bool(text) for text in said], name
        for cell, text in zip(cells, said, strict=True):
            words = re.findall(r"`([^`]+)`", cell)
            assert all(word in text for word in words), (name, cell, text)
            assert words or not cell, (name, cell)
    assert rows == {}


def noted(notes: Iterable[str], pattern: str) -> str:
    return " ".join(note for note in notes if re.search(pattern, note))


def test_every_code_of_a_request_that_had_no_answer_is_explained():
    """Each code that our own code gives."""
    files = (
        "adapters/token_endpoint/no_reply.py",
        "adapters/token_endpoint/endpoint.py",
        "refreshing/refresher.py",
        "domain/dialect.py",
    )
    codes = set()
    for file in files:
        for node in ast.walk(ast.parse((ROOT / "daemon" / file).read_text())):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    codes.add(code)
                case ast.Tuple(elts=[ast.Constant(value=str(code)), _, *_]) if re.fullmatch(
                    r"[a-z][a-z_]+", code
                ):
                    codes.add(code)
    codes.discard("error")
    assert {"tls", "proxy", "too_late", "not_sendable", "no_grant", "cut_short", "page", "moved"} <= codes
    assert {code for code in codes if f"`{code}`" not in TEXT} == set()


# ---------------------------------------------------------------- the commands


async def test_the_commands_tell_what_the_page_says_of_a_dead_grant(
    mongod: str, database_name: str, tmp_path: Path, blocks: Blocks
):
    """A consent that was withdrawn, seen by each command in the document's order."""
    async with Sandbox(SandboxOptions()) as sandbox, aiohttp.ClientSession(sandbox.url) as provider:
        known = sandbox.describe()
        client = {name: known[name] for name in ("token_url", "client_id", "client_secret")}
        place = Installation(tmp_path, uri=mongod, database=database_name, providers={"xero": client})
        (response,) = sandbox.consent()
        added = await place.refreshd("add", "xero", "company-7", stdin=json.dumps(response))
        assert added.code == 0, added.stderr
        async with provider.delete(f"/grants/{response['grant']}") as withdrawn:
            assert withdrawn.status == 200
        async with place.running() as daemon:
            await daemon.ready()
            await place.refreshd("refresh", "xero:company-7")
            dead = await daemon.event("token.needs_reauth")
            assert dead["code"] == "invalid_grant"
            (step,) = blocks(DOCUMENT, "sh")
            commands = (shlex.split(line)[1:] for line in step.splitlines())
            told = await asyncio.gather(*(place.refreshd(*command) for command in commands))
    assert [one.code for one in told] == [0] * len(told), [one.stderr for one in told]
    _, listed, shown, as_json, notes = (one.stdout for one in told)
    assert "rejected" in listed
    assert "rejected: " in shown
    assert "needs_reauth" in shown
    assert json.loads(as_json)["last_failure"]["code"] == "invalid_grant"
    assert "offline_access" in notes


# ---------------------------------------------------------------- the rehearsal


@pytest.mark.parametrize("row", table("| fault | becomes |"), ids=" ".join)
async def test_a_rehearsed_fault_becomes_what_the_table_says(row: list[str]):
    """Asked of the sandbox, which speaks as Xero does, and read by Xero's definition."""
    fault, kind = (cell.strip("` |") for cell in row)
    async with Sandbox(SandboxOptions(name="xero")) as sandbox, aiohttp.ClientSession() as client:
        known = Provider(
            definition=shipped()["xero"],
            client_id=sandbox.client_id,
            client_secret=Secret(sandbox.client_secret),
        )
        (consent,) = sandbox.consent()
        async with client.put(f"{sandbox.url}/faults", data=fault) as taken:
            assert taken.status < 300
        form = {"grant_type": "refresh_token", "refresh_token": str(consent["refresh_token"])}
        login = {"Authorization": aiohttp.encode_basic_auth(sandbox.client_id, sandbox.client_secret)}
        async with client.post(sandbox.token_url, data=form, headers=login) as answer:
            reply = Reply(
                status=answer.status,
                content_type=answer.content_type,
                retry_after=answer.headers.get("Retry-After"),
                body=await answer.read(),
                whole=True,
                asked_at=NOW,
            )
    token = Token(
        id="xero:a",
        provider="xero",
        account="a",
        state=State.ACTIVE,
        refresh_token=Secret(form["refresh_token"]),
    )
    assert kind_of(read(known, token, reply)) == FailureKind(kind)


async def test_the_rehearsal_runs_as_it_stands(
    mongod: str, database_name: str, tmp_path: Path, blocks: Blocks
):
    """Without a configuration file, and with a definition that is like Xero's."""
    command = tmp_path / "bin" / "refreshd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
    command.chmod(0o755)
    async with Sandbox(SandboxOptions(name="xero", lifetime=timedelta(minutes=10))) as sandbox:
        exports = " ".join(re.findall(r"^\$ export (.+)$", TEXT, re.MULTILINE))
        variables = dict(word.split("=", 1) for word in exports.split() if "$(" not in word and "=" in word)
        variables |= {
            "REFRESHD_KEYS__RING__DRILL": hashlib.sha256(b"for these tests").hexdigest(),
            "REFRESHD_PROVIDERS__DRILL__TOKEN_URL": sandbox.token_url,
            "REFRESHD_PROVIDERS__DRILL__CLIENT_ID": sandbox.client_id,
            "REFRESHD_PROVIDERS__DRILL__CLIENT_SECRET": sandbox.client_secret,
            "REFRESHD_STORE__URI": mongod,
            "REFRESHD_STORE__DATABASE": database_name,
            "REFRESHD_SERVER__PORT": "0",
            "REFRESHD_REFRESH__SWEEP_EVERY": "1s",
        }
        environment = bare(command.parent, **variables)
        (steps,) = blocks(DOCUMENT, "bash")
        steps = steps.replace("http://127.0.0.1:9466", sandbox.url)
        daemon = await asyncio.create_subprocess_exec(
            command, "run", cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
        )
        try:
            shell = await asyncio.create_subprocess_exec(
                *("bash", "-euo", "pipefail", "-c", steps),
                cwd=tmp_path,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await shell.communicate()
        finally:
            daemon.terminate()
            await daemon.communicate()
    assert shell.returncode == 0, out + err
    told = out.decode()
    assert told.count("drill:try-1: renewed") == 2
    assert "exit code 69" in told
    assert "in_doubt: " in told
