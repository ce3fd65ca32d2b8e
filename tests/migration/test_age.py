"""An archive beside the `age` tool: it opens ours with `age-keygen`'s identities, and we read what it made."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Cli, cli, database, syslog

__all__ = ["cli", "database", "syslog"]


if shutil.which("age") is None and os.environ.get("REFRESHD_TEST_MIGRATION") != "1":
    pytest.skip("missing: age (Debian: age)", allow_module_level=True)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity"
    subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
    return path


def recipient(identity: Path) -> str:
    return next(word for word in identity.read_text().split() if word.startswith("age1"))


def test_age_opens_a_backup_for_each_of_its_recipients(
    cli: Cli, database: Any, identity: Path, tmp_path: Path
):
    """And nothing but the lines that the manifest counts is in it."""
    cli.add("xero:a")
    ours = tmp_path / "ours.key"
    ours.touch(mode=0o600)
    ours.write_text(cli.run("backup", "key").out)
    ran = cli.run(
        "backup", "create", "--to", str(tmp_path), "--recipient", recipient(identity), "--key", str(ours), "--json"
    )  # fmt: skip
    file = ran.json()["file"]
    for key in (identity, ours):
        opened = subprocess.run(["age", "--decrypt", "-i", str(key), file], check=True, capture_output=True)
        lines = [json.loads(line) for line in opened.stdout.splitlines()]
        assert (lines[0]["refreshd"], lines[-1]["refreshd"]) == ("backup", "manifest")
        assert sum(lines[-1]["counts"].values()) == sum("_id" in line for line in lines)


def test_a_backup_that_age_encrypted_again_is_restored(
    cli: Cli, database: Any, identity: Path, tmp_path: Path
):
    """For another recipient, by hand."""
    cli.add("xero:a")
    before = database.tokens.find_one()
    file = cli.run("backup", "create", "--to", str(tmp_path), "--unencrypted", "--json").json()["file"]
    again = tmp_path / "again.age"
    subprocess.run(["age", "-r", recipient(identity), "-o", str(again), file], check=True)
    database.tokens.drop()
    ran = cli.run("backup", "restore", str(again), "--identity", str(identity), "--lost-at", "0s", "--json")
    assert (ran.code, ran.json()["restored"]) == (0, 1)
    assert database.tokens.find_one() == before
