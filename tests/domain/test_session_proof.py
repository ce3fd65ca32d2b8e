"""The two sealed texts that tie a grant to a session, and the check of one against the other."""

from dataclasses import replace

import pytest

from daemon.domain.authorization import code_challenge
from daemon.domain.secret import Secret
from daemon.domain.session_proof import (
    BoundCode,
    NotAProof,
    Proof,
    bound_code,
    bound_code_text,
    hashed,
    proof_in,
    proof_text,
    proves,
)

PROOF = Proof(connect_code=Secret("c" * 43), code_verifier=Secret("v" * 43))
CODE = BoundCode(code=Secret("4/0Ab_ä"), connect_code_hash=hashed(PROOF.connect_code))


def test_both_texts_are_read_as_they_were_written() -> None:
    assert bound_code(bound_code_text(CODE)) == CODE
    assert proof_in(proof_text(PROOF)) == PROOF


def test_neither_text_is_read_as_the_other() -> None:
    """Both are sealed for the same field of the same document, so a database writer can exchange them."""
    with pytest.raises(NotAProof):
        bound_code(proof_text(PROOF))
    with pytest.raises(NotAProof):
        proof_in(bound_code_text(CODE))


@pytest.mark.parametrize(
    "text", ["", "code-1", "[]", "{}", "null", '{"code": "c", "connect_code_hash": 7}', "[" * 9999]
)
def test_any_other_text_is_refused_without_its_content(text: str) -> None:
    """The codes of unbound consents are plain texts."""
    for read in (bound_code, proof_in):
        with pytest.raises(NotAProof) as raised:
            read(Secret(text))
        assert "code-1" not in str(raised.value)


def test_a_proof_needs_the_browser_and_the_session() -> None:
    """One of them alone is what an attacker may have."""
    right = {
        "connect_code_hash": hashed(PROOF.connect_code),
        "challenge": code_challenge(PROOF.code_verifier),
    }
    assert proves(PROOF, **right)
    assert not proves(replace(PROOF, connect_code=Secret("d" * 43)), **right)
    assert not proves(replace(PROOF, code_verifier=Secret("w" * 43)), **right)
