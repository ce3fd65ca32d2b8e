"""The steps in docs/migration.md, run as they stand there: two companies at two providers, in and out again."""

import base64
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from daemon.adapters.keyring import KeyRing
from tests.support import wall_clock
from tests.support.environment import bare

DOCUMENT = "migration.md"
ROOT = Path(__file__).parents[2]
MASTER = hashlib.sha256(b"for these tests").digest()
ENDS = (wall_clock.now() + timedelta(days=1)).replace(microsecond=0)
ENDS_MS = int(ENDS.timestamp() * 1000)
COMPANIES = ("company-7", "Zoë & Söhne")

Document = dict[str, Any]
Files = dict[str, dict[str, Document]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Runs the document's commands in the directory where the token files are."""

    home: Path
    commands: list[str]
    environment: dict[str, str]

    def attempt(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def step(self, beginning: str) -> list[str]:
        """Run the one block that begins so; the lines it prints."""
        (command,) = [command for command in self.commands if command.startswith(beginning)]
        done = self.attempt(command)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def files(self, directory: str) -> Files:
        return {file.stem: json.loads(file.read_text()) for file in Path(self.home, directory).glob("*.json")}


@pytest.fixture
def shell(
    mongod: str,
    database_name: str,
    tmp_path: Path,
    blocks: Callable[[str, str], list[str]],
    write_files: Callable[[str, Path], list[str]],
) -> Shell:
    """The document's own configuration and programs, the token files, and `refreshd` on the path."""
    write_files(DOCUMENT, tmp_path)
    (config,) = blocks(DOCUMENT, "toml")
    Path(tmp_path, "config.toml").write_text(config.replace("YOUR-CLIENT-ID", "a-client-id"))
    command = Path(tmp_path, "bin", "refreshd")
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
    command.chmod(0o755)
    Path(tmp_path, "tokens").mkdir()
    for provider, files in token_files().items():
        Path(tmp_path, "tokens", f"{provider}.json").write_text(json.dumps(files))
    environment = bare(
        command.parent,
        MONGODB_URI=mongod,
        REFRESHD_STORE__DATABASE=database_name,
        REFRESHD_KEY=base64.b64encode(MASTER).decode(),
        PIPEDRIVE_CLIENT_SECRET="a-client-secret",
        XERO_CLIENT_SECRET="another-client-secret",
    )
    return Shell(home=tmp_path, commands=blocks(DOCUMENT, "sh"), environment=environment)


@pytest.fixture
def tokens(mongod: str, database_name: str) -> Iterator[Collection[Document]]:
    """What is stored, seen past the command line."""
    with MongoClient[Document](mongod, tz_aware=True) as client:
        yield client[database_name]["tokens"]


@pytest.fixture
def keyring() -> KeyRing:
    return KeyRing({"2026-11": MASTER}, active="2026-11")


def token_files() -> Files:
    """As the application kept them; its dates are of two kinds."""
    ends = {"pipedrive": ENDS_MS, "xero": ENDS.isoformat().replace("+00:00", "Z")}
    return {
        provider: {
            company: {
                "accessToken": f"at-{provider}-{number}",
                "refreshToken": f"rt-{provider}-{number}",
                "expiresAt": end,
            }
            for number, company in enumerate(COMPANIES)
        }
        for provider, end in ends.items()
    }


def test_the_steps_move_every_token_in_and_out_again(
    shell: Shell, tokens: Collection[Document], keyring: KeyRing
) -> None:
    """In the document's order, with a renewal between; what comes out is what was current then."""
    shell.step("refreshd check")
    shell.step("(umask")
    assert shell.files("backup") == token_files()
    assert not Path(shell.home, "backup", "xero.json").stat().st_mode & 0o077
    shell.step("python3 move_in.py")
    assert shell.step("python3 -c") == ["4", "4"]
    assert any("xero:company-7" in line for line in shell.step("refreshd list --provider"))
    for document in tokens.find():
        expected = token_files()[document["provider"]][document["account"]]
        assert opened(keyring, document, "access_token") == expected["accessToken"]
        assert opened(keyring, document, "refresh_token") == expected["refreshToken"]
        assert (document["state"], document["expires_at"]) == ("active", ENDS)
        assert wall_clock.now() < document["due_at"] < ENDS

    renewed = keyring.seal("rt-renewed", token_id="xero:company-7", field="refresh_token")
    tokens.update_one({"_id": "xero:company-7"}, {"$set": {"refresh_token": renewed}})
    shell.step("python3 move_out.py")
    written = shell.files("tokens-now")
    assert written["xero"]["company-7"].pop("refreshToken") == "rt-renewed"
    written["xero"]["company-7"]["refreshToken"] = "rt-xero-0"
    assert [datetime.fromisoformat(t["expiresAt"]) for t in written["pipedrive"].values()] == [ENDS, ENDS]
    assert without_ends(written) == without_ends(token_files())
    assert shell.step("refreshd list --json |")[-1] == "0"
    assert tokens.count_documents({}) == 0


def test_a_second_run_of_the_move_puts_nothing_back(
    shell: Shell, tokens: Collection[Document], keyring: KeyRing
) -> None:
    """Else it would replace a renewed token by the spent one of the file."""
    shell.step("python3 move_in.py")
    renewed = keyring.seal("rt-renewed", token_id="xero:company-7", field="refresh_token")
    tokens.update_one({"_id": "xero:company-7"}, {"$set": {"refresh_token": renewed}})
    before = list(tokens.find().sort("_id"))
    shell.step("python3 move_in.py")
    assert list(tokens.find().sort("_id")) == before


def test_one_bad_entry_is_named_and_the_others_are_moved(shell: Shell, tokens: Collection[Document]) -> None:
    """Once it is corrected, the same program moves the rest."""
    damaged = token_files()["xero"]
    damaged["company-7"]["refreshToken"] = "two words"
    Path(shell.home, "tokens", "xero.json").write_text(json.dumps(damaged))
    done = shell.attempt("python3 move_in.py")
    assert done.returncode == 1
    assert "not moved: xero.json, company-7" in done.stderr
    assert "two words" not in done.stderr
    assert tokens.count_documents({}) == 3
    Path(shell.home, "tokens", "xero.json").write_text(json.dumps(token_files()["xero"]))
    shell.step("python3 move_in.py")
    assert tokens.count_documents({}) == 4


def test_every_command_in_the_document_is_run_by_these_tests(shell: Shell) -> None:
    """A step that is added must be tested too."""
    assert [command.split()[:2] for command in shell.commands] == [
        ["refreshd", "check"],
        ["(umask", "077"],
        ["python3", "move_in.py"],
        ["python3", "-c"],
        ["refreshd", "list"],
        ["python3", "move_out.py"],
        ["refreshd", "list"],
    ]


def opened(keyring: KeyRing, document: Document, field: str) -> str:
    return keyring.open(document[field], token_id=document["_id"], field=field)


def without_ends(files: Files) -> Files:
    return {
        provider: {
            company: {name: value for name, value in token.items() if name != "expiresAt"}
            for company, token in companies.items()
        }
        for provider, companies in files.items()
    }
