"""Seals as an application with a writer key does, from docs/sealing.md and without the daemon's code."""

import hashlib
import hmac
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite


def seal(writer: Mapping[str, str], token_id: str, text: str) -> str:
    """Return `text` sealed for the field of `writer`, one line of `refreshd keys writer`."""
    info = f"refreshd/w1\n{token_id}\n{writer['field']}".encode()
    public_key = X25519PublicKey.from_public_bytes(b64decode(writer["public_key"]))
    message = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).encrypt(text.encode(), public_key, info)
    mac = hmac.digest(b64decode(writer["mac_key"]), info + b"\n" + message, "sha256")
    return f"w1.{writer['key_id']}.{urlsafe_b64encode(message + mac).rstrip(b'=').decode()}"


def fingerprint(writer: Mapping[str, str], text: str) -> str:
    """Return the `grant_fingerprint` of a refresh token."""
    key = b64decode(writer["fingerprint_key"])
    return f"{writer['key_id']}.{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"
