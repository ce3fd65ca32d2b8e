"""Encrypted cells, made and read by Node's own crypto: what an application has written opens, and the other way round."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.foreign.cipher import AesGcm
from daemon.domain.layout import Encoding, Encryption
from daemon.domain.secret import Secret

NODE = Path(__file__).parent / "node"
KEY = bytes(range(7, 39)).hex()
FORMS = {
    "json": Encryption(form="json:encrypted,iv,authTag", encoding=Encoding.HEX, iv_bytes=16),
    "colons": Encryption(form="iv:authTag:ciphertext", encoding=Encoding.BASE64, iv_bytes=16),
    "joined": Encryption(form="iv+ciphertext+tag", encoding=Encoding.BASE64, iv_bytes=16),
    "object": Encryption(form="object:encrypted,iv,authTag", encoding=Encoding.HEX, iv_bytes=16),
}
TEXTS = ["at-1", "Zoë \U0001f600", "x" * 4000, ""]
Run = Callable[[str, object], Any]


@pytest.fixture(scope="module")
def run(node: str) -> Run:
    def run_script(script: str, given: object) -> Any:
        done = subprocess.run(
            [node, str(NODE / script)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_script


@pytest.mark.parametrize("form", FORMS)
def test_what_node_has_encrypted_opens(run: Run, form: str) -> None:
    cells = run("encrypt.mjs", [{"form": form, "key": KEY, "text": text} for text in TEXTS])
    cipher = AesGcm(FORMS[form], Secret(KEY))
    assert [cipher.open(cell) for cell in cells] == TEXTS


@pytest.mark.parametrize("form", ["json", "colons"])
def test_what_is_sealed_here_opens_in_the_old_application(run: Run, form: str) -> None:
    """As a new cell, and in the place of one of 12 bytes of nonce: with as many."""
    cipher = AesGcm(FORMS[form], Secret(KEY))
    (old,) = run("encrypt.mjs", [{"form": form, "key": KEY, "text": "old", "iv": 12}])
    cells = [cipher.seal(text, like=like) for like in (None, old) for text in TEXTS]
    assert run("decrypt.mjs", [{"form": form, "key": KEY, "cell": cell} for cell in cells]) == TEXTS * 2
    nonces = [
        len(json.loads(cell)["iv"]) // 2 if form == "json" else len(cell.split(":")[0])
        for cell in map(str, cells)
    ]
    assert nonces == [16 if form == "json" else 24] * 4 + [12 if form == "json" else 16] * 4
