"""What a writer key has sealed, to the byte: the published vectors, and what must be refused."""

import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.keyring import FINGERPRINT, DecryptionError, KeyRing
from tests.support import writer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "writer.json").read_text())
Case = dict[str, str]


def ring_of(case: Case) -> KeyRing:
    return KeyRing({case["key_id"]: bytes.fromhex(case["master_hex"])}, active=case["key_id"])


@pytest.mark.parametrize("case", VECTORS["opens"], ids=lambda case: f"{case['token_id']} {case['field']}")
def test_every_published_vector_opens(case: Case) -> None:
    ring = ring_of(case)
    assert ring.open(case["sealed"], token_id=case["token_id"], field=case["field"]) == case["plaintext"]
    assert case.get("fingerprint", "none") in ("none", ring.fingerprint(case["plaintext"]))


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_every_refused_vector_is_refused(case: Case) -> None:
    with pytest.raises(DecryptionError) as refused:
        ring_of(case).open(case["sealed"], token_id=case["token_id"], field=case["field"])
    assert "rt-" not in str(refused.value)


@pytest.mark.parametrize("line", VECTORS["writers"], ids=lambda line: f"{line['key_id']} {line['field']}")
def test_the_published_writer_keys_are_derived_from_the_master_keys(line: Case) -> None:
    ring = ring_of(line)
    seal = ring.writer_seal(line["field"])
    assert b64encode(seal.public_key).decode() == line["public_key"]
    assert b64encode(seal.mac_key).decode() == line["mac_key"]
    if line["field"] == "refresh_token":
        assert b64decode(line["fingerprint_key"]) == ring.field_key(FINGERPRINT)


@given(text=st.text(st.characters(codec="utf-8"), max_size=300))
def test_what_a_writer_seals_opens_under_its_own_id_only(text: str) -> None:
    line = VECTORS["writers"][0]
    ring, sealed = ring_of(line), writer.seal(line, "x:1", text)
    assert ring.open(sealed, token_id="x:1", field="refresh_token") == text
    assert writer.fingerprint(line, text) == ring.fingerprint(text)
    with pytest.raises(DecryptionError):
        ring.open(sealed, token_id="x:2", field="refresh_token")


def test_a_distrusted_key_opens_no_text_of_its_writers() -> None:
    case = VECTORS["opens"][0]
    ring = ring_of(case).distrusting([case["key_id"]])
    with pytest.raises(DecryptionError, match="different key"):
        ring.open(case["sealed"], token_id=case["token_id"], field=case["field"])
