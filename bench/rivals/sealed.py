"""Sealed text, version 1, as somebody would write it who has read its description: the rivals keep the same secrets in
the same form, but share no code with the daemon.
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


class Sealer:
    """Seals and opens under one master key; the key of a field is derived once, that of a token each time."""

    def __init__(self, key_id: str, key: bytes) -> None:
        self._key_id = key_id
        self._fields = {
            field: _derived(key, f"refreshd/v1/{field}") for field in ("access_token", "refresh_token")
        }

    def seal(self, text: str, *, token_id: str, field: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher(token_id, field).encrypt(nonce, text.encode(), _place(token_id, field))
        return f"v1.{self._key_id}.{urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def open(self, sealed: str, *, token_id: str, field: str) -> str:
        version, key_id, text = sealed.split(".")
        if (version, key_id) != ("v1", self._key_id):
            raise ValueError(f"sealed with {version} {key_id}, not with v1 {self._key_id}")
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cipher = self._cipher(token_id, field)
        return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _place(token_id, field)).decode()

    def _cipher(self, token_id: str, field: str) -> AESGCM:
        return AESGCM(_derived(self._fields[field], token_id))


def _derived(key: bytes, info: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info.encode()).derive(key)


def _place(token_id: str, field: str) -> bytes:
    return f"refreshd/v1\n{token_id}\n{field}".encode()
