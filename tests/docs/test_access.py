"""docs/access.md, run as it stands: every command, and the form and the verbs that it states."""

import base64
import hashlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pymongo import MongoClient

from daemon.domain.access_key import Verb, new_key, parse_key
from tests.support.environment import bare

DOCUMENT = "access.md"
PAGE = Path(__file__).parents[2] / "docs" / DOCUMENT
CONFIG = """
[store]
uri = {uri}
database = "{database}"
[state]
dir = "state"
[keys]
active = "one"
ring.one = {{ env = "TEST_KEY" }}
"""


@pytest.fixture
def run(mongod, database_name, tmp_path):
    """Runs a block as a shell does."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(uri=json.dumps(mongod), database=database_name))
    config.chmod(0o600)
    command = tmp_path / "bin" / "refreshd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
    command.chmod(0o755)
    key = base64.b64encode(hashlib.sha256(b"for these tests").digest()).decode()
    environment = bare(command.parent, TEST_KEY=key)

    def done(block):
        shell = ["bash", "-euo", "pipefail", "-c", block]
        ran = subprocess.run(
            shell, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, f"{block}\n{ran.stderr}"
        return ran.stdout

    return done


def test_every_command_of_the_page_works(run, blocks, mongod, database_name):
    """In its order. Each `create` and `rotate` prints a key, and nothing else."""
    printed = {block: run(block) for block in blocks(DOCUMENT, "sh")}
    keys = [text for block, text in printed.items() if re.search("access (create|rotate)", block)]
    assert len(keys) == 9
    assert all(parse_key(text.strip()) for text in keys)
    with MongoClient(mongod) as client:
        stored = client[database_name]["tokens_access"]
        assert {one["name"] for one in stored.find()} == {
            *("billing", "invoices", "acme", "agent-4711", "support", "erasure", "dashboard", "auditor")
        }
        assert stored.count_documents({"revoked_at": None, "name": "invoices"}) == 0


def test_the_table_names_every_verb():
    """And no other."""
    table = re.search(r"^\| verb .*?\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert re.findall(r"^\| `(\w+)`", table[0], re.MULTILINE) == list(Verb)


def test_the_form_for_scanners_is_the_form_of_a_key(blocks):
    """The example has it too; its checksum is none, so that no scanner reports the page."""
    form = re.search(r"`(rfk_\[.*?)`", PAGE.read_text())[1]
    assert re.fullmatch(form, new_key()[0].reveal())
    example = blocks(DOCUMENT, "text")[0].strip()
    assert re.fullmatch(form, example)
    assert parse_key(example) is None
