"""Encrypted cells, made and read by Node's own crypto: what an application has written opens, and the other way round."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from daemon.adapters.foreign.cipher import AesGcm
from daemon.domain.layout import Encoding, Encryption
from daemon.domain.secret import Secret

KEY = bytes(range(7, 39)).hex()
FORMS = {
    "json": Encryption(form="json:encrypted,iv,authTag", encoding=Encoding.HEX, iv_bytes=16),
    "colons": Encryption(form="iv:authTag:ciphertext", encoding=Encoding.BASE64, iv_bytes=16),
    "joined": Encryption(form="iv+ciphertext+tag", encoding=Encoding.BASE64, iv_bytes=16),
    "object": Encryption(form="object:encrypted,iv,authTag", encoding=Encoding.HEX, iv_bytes=16),
}
TEXTS = ["at-1", "Zoë \U0001f600", "x" * 4000, ""]
Run = Callable[[str, object], Any]


@pytest.mark.parametrize("form", FORMS)
def test_what_node_has_encrypted_opens(run_node: Run, form: str) -> None:
    cells = run_node("encrypt.mjs", [{"form": form, "key": KEY, "text": text} for text in TEXTS])
    cipher = AesGcm(FORMS[form], Secret(KEY))
    assert [cipher.open(cell) for cell in cells] == TEXTS


@pytest.mark.parametrize("form", ["json", "colons"])
def test_what_is_sealed_here_opens_in_the_old_application(run_node: Run, form: str) -> None:
    """As a new cell, and in the place of one of 12 bytes of nonce: with as many."""
    cipher = AesGcm(FORMS[form], Secret(KEY))
    (old,) = run_node("encrypt.mjs", [{"form": form, "key": KEY, "text": "old", "iv": 12}])
    cells = [cipher.seal(text, like=like) for like in (None, old) for text in TEXTS]
    assert run_node("decrypt.mjs", [{"form": form, "key": KEY, "cell": cell} for cell in cells]) == TEXTS * 2
    nonces = [
        len(json.loads(cell)["iv"]) // 2 if form == "json" else len(cell.split(":")[0])
        for cell in map(str, cells)
    ]
    assert nonces == [16 if form == "json" else 24] * 4 + [12 if form == "json" else 16] * 4
