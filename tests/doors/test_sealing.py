"""Sealed texts of writer keys, beside an implementation of HPKE from another language: `@hpke/core` on Node."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from daemon.adapters.keyring import KeyRing

HERE = Path(__file__).parent
VECTORS = json.loads((HERE.parent / "vectors" / "writer.json").read_text())
MISSING = [
    name
    for name, there in (
        ("node", shutil.which("node")),
        ("npm packages (npm ci in tests/doors)", (HERE / "node_modules" / "@hpke").exists()),
    )
    if not there
]


@pytest.fixture(scope="module")
def node() -> dict[str, list[str]]:
    """What Node makes of the vectors, and what it seals."""
    if MISSING:
        message = f"missing: {', '.join(MISSING)}"
        pytest.fail(message) if os.environ.get("REFRESHD_TEST_DOORS") else pytest.skip(message)
    seal = [
        {"writer": line, "token_id": "xero:Zoë", "text": f"text-{line['field']}"}
        for line in VECTORS["writers"]
    ]
    done = subprocess.run(
        ["node", "seal.mjs"],
        cwd=HERE,
        input=json.dumps({"opens": VECTORS["opens"], "refused": VECTORS["refused"], "seal": seal}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_node_opens_every_vector_of_a_writer_key(node: dict[str, list[str]]) -> None:
    assert node["opens"] == [case["plaintext"] for case in VECTORS["opens"]]


def test_node_refuses_what_must_be_refused(node: dict[str, list[str]]) -> None:
    assert set(node["refused"]) == {"refused"}
    assert len(node["refused"]) == len(VECTORS["refused"])


def test_the_daemon_opens_what_node_seals(node: dict[str, list[str]]) -> None:
    assert len(node["sealed"]) == len(VECTORS["writers"]) == 6
    for line, sealed in zip(VECTORS["writers"], node["sealed"], strict=True):
        ring = KeyRing({line["key_id"]: bytes.fromhex(line["master_hex"])}, active=line["key_id"])
        assert ring.open(sealed, token_id="xero:Zoë", field=line["field"]) == f"text-{line['field']}"
