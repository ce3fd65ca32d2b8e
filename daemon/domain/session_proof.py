"""The proof that a grant belongs to the session of the application that began its consent.

The access service draws a connect code for the owner's browser, and seals its hash together with the provider's code. The
daemon seals the hash again with the grant. A completion is the connect code and the session's verifier, sealed too. So the
daemon checks two sealed texts against each other, and trusts no other field of the stored request: an attacker with write
access to the database can neither complete a consent nor move a grant to another browser's connect code.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from daemon.domain.authorization import code_challenge
from daemon.domain.secret import Secret

_CODE, _HASH = "code", "connect_code_hash"
_CONNECT_CODE, _VERIFIER = "connect_code", "code_verifier"


class NotAProof(ValueError):
    """The text is not one of this version. The message contains no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The application's proof that the browser which has consented is that of its own session."""

    connect_code: Secret
    code_verifier: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundCode:
    """An authorization code, and the hash of the connect code that the owner's browser got with it."""

    code: Secret
    connect_code_hash: str


def hashed(secret: Secret) -> str:
    """Return the digest under which a secret of 256 bits is stored."""
    return sha256(secret.reveal().encode()).hexdigest()


def proves(proof: Proof, *, connect_code_hash: str, challenge: str) -> bool:
    """Return whether `proof` is that of the browser with this connect code and of the session with this challenge."""
    return compare_digest(hashed(proof.connect_code).encode(), connect_code_hash.encode()) and compare_digest(
        code_challenge(proof.code_verifier).encode(), challenge.encode()
    )


def bound_code_text(bound: BoundCode) -> Secret:
    """Return `bound` as a text to be sealed."""
    return Secret(json.dumps({_CODE: bound.code.reveal(), _HASH: bound.connect_code_hash}))


def bound_code(text: Secret) -> BoundCode:
    """Return the code in a text of `bound_code_text`. Raises NotAProof."""
    found = _texts(text, {_CODE, _HASH})
    return BoundCode(code=Secret(found[_CODE]), connect_code_hash=found[_HASH])


def proof_text(proof: Proof) -> Secret:
    """Return `proof` as a text to be sealed."""
    found = {_CONNECT_CODE: proof.connect_code.reveal(), _VERIFIER: proof.code_verifier.reveal()}
    return Secret(json.dumps(found))


def proof_in(text: Secret) -> Proof:
    """Return the proof in a text of `proof_text`. Raises NotAProof."""
    found = _texts(text, {_CONNECT_CODE, _VERIFIER})
    return Proof(connect_code=Secret(found[_CONNECT_CODE]), code_verifier=Secret(found[_VERIFIER]))


def _texts(text: Secret, names: set[str]) -> Mapping[str, str]:
    """Return the members of an object with exactly these names. Both kinds of text are sealed for one field."""
    try:
        found = json.loads(text.reveal())
    except (ValueError, RecursionError):
        raise NotAProof("it is not JSON") from None
    if not isinstance(found, dict) or found.keys() != names:
        raise NotAProof("it has other members")
    if not all(isinstance(one, str) for one in found.values()):
        raise NotAProof("a member is not a text")
    return found
