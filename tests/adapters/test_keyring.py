"""The envelope to the byte: the published vectors, and what must be refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.keyring import DecryptionError, KeyRing

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "sealed.json").read_text())


def ring_of(case: dict[str, str]) -> KeyRing:
    return KeyRing({case["key_id"]: bytes.fromhex(case["master_hex"])}, active=case["key_id"])


@pytest.mark.parametrize("case", VECTORS["opens"], ids=lambda case: case["token_id"])
def test_every_published_vector_opens(case):
    """Each vector opens to its plaintext, and its field key is the one that a reader would be given."""
    ring = ring_of(case)
    assert ring.open(case["sealed"], token_id=case["token_id"], field=case["field"]) == case["plaintext"]
    assert ring.field_key(case["field"]).hex() == case["field_key_hex"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_every_refused_vector_is_refused(case):
    """Altered, moved, of an unknown key or version, or not canonical: refused, without the secret in the message."""
    with pytest.raises(DecryptionError) as refused:
        ring_of(case).open(case["sealed"], token_id=case["token_id"], field=case["field"])
    assert "at-1" not in str(refused.value)


@given(text=st.text(max_size=300).filter(lambda text: text.encode("utf-8", "ignore").decode() == text))
def test_what_is_sealed_opens_again_and_never_looks_the_same(text):
    """Sealing is reversible under the same place only, and two sealings of one text differ."""
    ring = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="b")
    sealed = ring.seal(text, token_id="x:1", field="refresh_token")
    assert ring.open(sealed, token_id="x:1", field="refresh_token") == text
    assert sealed.startswith("v1.b.")
    assert sealed != ring.seal(text, token_id="x:1", field="refresh_token")
    with pytest.raises(DecryptionError):
        ring.open(sealed, token_id="x:2", field="refresh_token")


def test_an_older_key_still_opens_and_a_missing_one_is_named():
    """After a change of the active key the ring opens both; without the old key the message names it."""
    old = KeyRing({"a": b"\x01" * 32}, active="a")
    sealed = old.seal("s3cret", token_id="x:1", field="access_token")
    both = KeyRing({"a": b"\x01" * 32, "b": b"\x02" * 32}, active="b")
    assert both.open(sealed, token_id="x:1", field="access_token") == "s3cret"
    with pytest.raises(DecryptionError, match="'a', which is not on the key ring"):
        KeyRing({"b": b"\x02" * 32}, active="b").open(sealed, token_id="x:1", field="access_token")


def test_anything_but_text_and_ids_with_control_characters_are_refused():
    """A number where sealed text should stand, or an id with a line break, is a refusal and no crash."""
    ring = KeyRing({"a": b"\x01" * 32}, active="a")
    for sealed in (None, 7, b"v1.a.AAAA", {"v1": 1}, "v1.a.AAAA\n"):
        with pytest.raises(DecryptionError):
            ring.open(sealed, token_id="x:1", field="access_token")
    sealed = ring.seal("t", token_id="x:1\ny", field="access_token")
    with pytest.raises(DecryptionError, match="control"):
        ring.open(sealed, token_id="x:1\ny", field="access_token")


def test_a_key_ring_never_prints_a_key():
    """Neither form of a key shows up in the ring's repr."""
    ring = KeyRing({"a": b"K" * 32}, active="a")
    assert "KKKK" not in repr(ring)
    assert "4b4b" not in repr(ring)
