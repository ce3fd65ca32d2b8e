"""Sealed text `w1.`: what a writer key has sealed, and only the master key opens.

HPKE (RFC 9180) in base mode, single shot, with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM, and an HMAC
over it. Anyone with the public key can seal, so the HMAC shows that the text comes from a holder of the writer key: a
database writer without it can't plant another account's grant. docs/sealing.md describes the format for implementers.
"""

import hmac
from dataclasses import dataclass
from dataclasses import field as secret_field
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FIELDS = ("refresh_token", "code", "code_verifier")  # the fields that a writer may seal
LONGEST = 16_384  # characters of a sealed text
ENC_BYTES, TAG_BYTES, MAC_BYTES = 32, 16, 32
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class NotOpened(Exception):
    """The text can't be opened. The message is a clause for operators."""


@dataclass(frozen=True)
class WriterSeal:
    """The seal of one field under one master key."""

    field: str
    master: bytes = secret_field(repr=False)

    @cached_property
    def mac_key(self) -> bytes:
        return _derived(self.master, f"refreshd/w1-mac/{self.field}")

    @cached_property
    def public_key(self) -> bytes:
        """Return the recipient's public key, 32 bytes."""
        return self._private_key.public_key().public_bytes_raw()

    def open(self, raw: bytes, token_id: str) -> str:
        """Return the text in `raw`: enc, ciphertext, tag, mac. Raises NotOpened."""
        if len(raw) < ENC_BYTES + TAG_BYTES + MAC_BYTES:
            raise NotOpened("it is too short")
        message, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        info = info_of(token_id, self.field)
        if not hmac.compare_digest(hmac.digest(self.mac_key, info + b"\n" + message, "sha256"), mac):
            raise NotOpened("its mac is wrong")
        try:
            return SUITE.decrypt(message, self._private_key, info).decode()
        except (InvalidTag, ValueError):
            raise NotOpened("it was altered") from None

    @cached_property
    def _private_key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(_derived(self.master, f"refreshd/w1/{self.field}"))


def info_of(token_id: str, field: str) -> bytes:
    """Return what ties a text to its document and field."""
    return f"refreshd/w1\n{token_id}\n{field}".encode()


def _derived(key: bytes, info: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=b"", info=info.encode()).derive(key)
