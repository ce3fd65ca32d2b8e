"""docs/migration.md and the pages beside it, run as they stand: dry run, import, activation, mirror, and the way back."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from daemon.domain.moving import in_first
from tests.support.pages import Shell, blocks, shell_for

DOCUMENT = "migration.md"
MASTER = hashlib.sha256(b"for these tests").digest()
FILES = ("tokens.json", "xero_tokens.json")
FIRST_IMPORT = (
    "refreshd import token-files tokens.json --provider pipedrive --map meta.api_domain=apiDomain\n"
)
_FILE = re.compile(r"// (\S+)\n(.*)", re.DOTALL)

Document = dict[str, Any]


@pytest.fixture
def shell(mongod: str, database_name: str, tmp_path: Path) -> Shell:
    """The document's own configuration and files, and `refreshd` on the path."""
    config, *_ = blocks(DOCUMENT, "toml")
    for block in blocks(DOCUMENT, "json"):
        named = _FILE.match(block)
        assert named is not None
        Path(tmp_path, named[1]).write_text(json.dumps(json.loads(named[2]), indent=2))
    return shell_for(
        DOCUMENT,
        tmp_path,
        config=config.replace("YOUR-CLIENT-ID", "a-client-id"),
        MONGODB_URI=mongod,
        REFRESHD_STORE__DATABASE=database_name,
        REFRESHD_KEY=base64.b64encode(MASTER).decode(),
        PIPEDRIVE_CLIENT_SECRET="a-client-secret",
        XERO_CLIENT_SECRET="another-client-secret",
    )


@pytest.fixture
def tokens(mongo_client: MongoClient[Document], database_name: str) -> Collection[Document]:
    """What is stored, seen past the command line."""
    return mongo_client[database_name]["tokens"]


def test_the_page_leads_in_and_out_again(shell: Shell, tokens: Collection[Document]) -> None:
    """Each step as it stands; at the end the files are what they were, and every count is above zero."""
    before = {name: shell.file(name) for name in FILES}
    shell.step("refreshd check")
    assert "2 found = 2 would be imported" in shell.step(
        "refreshd import token-files tokens.json --provider pipedrive --dry-run"
    )
    assert tokens.count_documents({}) == 0
    assert "2 found = 2 imported" in shell.step(FIRST_IMPORT)
    assert tokens.count_documents({"state": "paused"}) == 3
    stored = tokens.find_one({"_id": "pipedrive:13961027"}) or {}
    assert stored["meta"] == {"api_domain": "https://acme.pipedrive.com"}
    assert re.search(r"equal +2 ", shell.step("refreshd compare token-files tokens.json"))
    assert "1 token activated" in shell.step(
        "refreshd import token-files xero_tokens.json --provider xero --map meta.tenant_id=tenantId --activate all"
    )
    ids = [row["_id"] for row in tokens.find({"provider": "pipedrive"})]
    half = sum(in_first(50, name) for name in ids)
    shell.step(
        "refreshd import token-files tokens.json --provider pipedrive --map meta.api_domain=apiDomain --activate 50%"
    )
    assert tokens.count_documents({"provider": "pipedrive", "state": "active"}) == half
    assert re.search(r"equal +1 ", shell.step("refreshd pause --imported xero"))
    assert tokens.count_documents({"provider": "xero", "state": "paused"}) == 1
    assert {name: shell.file(name) for name in FILES} == before


def test_an_import_that_is_run_again_takes_over_what_the_application_has_refreshed(
    shell: Shell, tokens: Collection[Document]
) -> None:
    shell.step(FIRST_IMPORT)
    rows = shell.file("tokens.json")
    rows["14500312"]["refreshToken"] = "refreshed-by-the-old-application"
    Path(shell.home, "tokens.json").write_text(json.dumps(rows))
    said = shell.run("refreshd import token-files tokens.json --provider pipedrive --json")
    assert {key: json.loads(said)[key] for key in ("found", "imported", "updated", "already_there")} == {
        "found": 2,
        "imported": 0,
        "updated": 1,
        "already_there": 1,
    }
    assert (
        shell.run("refreshd show pipedrive:14500312 --reveal refresh_token").strip()
        == "refreshed-by-the-old-application"
    )


def test_the_mirror_of_the_page_is_a_valid_one(shell: Shell) -> None:
    for document in (DOCUMENT, "migration-mongodb.md"):
        mirror = blocks(document, "toml")[-1]
        config = shell.home / "config.toml"
        whole = config.read_text()
        config.write_text(whole + mirror)
        variables = f"APP_URI=mongodb://127.0.0.1/app TOKEN_ENCRYPTION_KEY={MASTER.hex()}"
        shell.run(f"{variables} refreshd list")
        config.write_text(whole)


def test_the_old_refreshers_slice_is_that_of_refreshd(shell: Shell) -> None:
    """As the page computes it, in Node, if that is installed."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (program,) = blocks(DOCUMENT, "js")
    Path(shell.home, "slice.mjs").write_text(program)
    ids = [f"xero:{number}" for number in range(200)] + ["xero:Zoë & Söhne"]
    script = f"""
        import {{ isMoved }} from './slice.mjs'
        console.log(JSON.stringify({json.dumps(ids)}.map((id) => isMoved('xero', id.slice(5), 30))))
    """
    Path(shell.home, "try.mjs").write_text(script)
    done = subprocess.run(["node", "try.mjs"], cwd=shell.home, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [in_first(30, name) for name in ids]
