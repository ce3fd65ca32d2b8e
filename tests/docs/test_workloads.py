"""docs/workloads.md: its configurations load, and its tables have every key and reason, and no other."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

from daemon.domain.jwt import ALGORITHMS, KEYS_UNAVAILABLE, LEEWAY, LONGEST, LONGEST_LIFE, Fault
from daemon.runtime.config.issuers import IssuerTable
from tests.runtime.test_issuer_settings import loaded

DOCUMENT = "workloads.md"
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / DOCUMENT).read_text()
EXAMPLE = (ROOT / "config.example.toml").read_text()


def section(name: str) -> str:
    return TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def test_every_configuration_loads(blocks, tmp_path):
    found = blocks(DOCUMENT, "toml")
    assert len(found) == 4
    assert len(loaded(tmp_path, *found).issuers.rules) == 4
    example = EXAMPLE.partition("#[[access.issuers]]\n")[2].partition("\n\n")[0]
    rule = "\n".join(line.removeprefix("#") for line in example.splitlines())
    assert len(loaded(tmp_path, f"[[access.issuers]]\n{rule}\n").issuers.rules) == 1


def test_every_key_is_listed_and_those_that_are_required_are_said():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section("Settings"), re.MULTILINE))
    assert set(rows) == {one.name for one in fields(IssuerTable)}
    required = {one.name for one in fields(IssuerTable) if one.default is MISSING}
    assert {name for name, default in rows.items() if default == "required"} == required
    row = next(line for line in section("Settings").splitlines() if line.startswith("| `algorithms`"))
    assert re.findall(r"`((?:RS|PS|ES|Ed)\w+)`", row) == list(ALGORITHMS)


def test_every_reason_is_listed():
    rows = re.findall(r"^\| `(\w+)` \|", section("Answers"), re.MULTILINE)
    assert rows == [*Fault, KEYS_UNAVAILABLE]


def test_its_limits_are_those_of_the_code():
    assert (LONGEST, LONGEST_LIFE.total_seconds(), LEEWAY.total_seconds()) == (16 * 1024, 3600, 60)
