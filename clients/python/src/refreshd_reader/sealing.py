"""Opens sealed access tokens with reader keys. The format is `v1.` of refreshd's page on sealing."""

import base64
import binascii
import json
import re
import threading
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from refreshd_reader.errors import Unavailable

FIELD = "access_token"
_SEALED = re.compile(r"v1\.([\w-]{1,64})\.([\w-]+)", re.ASCII)
_KEY_BYTES, _NONCE, _TAG = 32, 12, 16


class ReaderKeys:
    """The keys of a readers' file, which is read again when a token needs a key that it didn't hold."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._keys = _read(file)

    def open(self, sealed: object, token_id: str) -> str:
        """Return the access token. Raises Unavailable without any part of it."""
        form = _SEALED.fullmatch(sealed) if isinstance(sealed, str) else None
        if form is None:
            raise Unavailable(f"{token_id}: the stored access token is not sealed text")
        key_id, text = form.groups()
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""
        if len(raw) < _NONCE + _TAG or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
            raise Unavailable(f"{token_id}: the sealed text is damaged")
        key = HKDF(SHA256(), _KEY_BYTES, salt=b"", info=token_id.encode()).derive(self._key(key_id, token_id))
        place = f"refreshd/v1\n{token_id}\n{FIELD}".encode()
        try:
            return AESGCM(key).decrypt(raw[:_NONCE], raw[_NONCE:], place).decode()
        except (InvalidTag, UnicodeDecodeError):
            raise Unavailable(f"{token_id}: the sealed text does not open with key {key_id}") from None

    def forked(self) -> None:
        self._lock = threading.Lock()

    def _key(self, key_id: str, token_id: str) -> bytes:
        key = self._keys.get(key_id)
        if key is None:
            with self._lock:
                try:
                    self._keys = _read(self._file)
                except (OSError, ValueError) as error:
                    raise Unavailable(f"{token_id}: {self._file}: {error}") from None
            key = self._keys.get(key_id)
        if key is None:
            raise Unavailable(f"{token_id}: {self._file} has no key {key_id}: run refreshd keys reader --all")
        return key


def _read(file: Path) -> dict[str, bytes]:
    """Return the keys by their id. Raises OSError, or ValueError for a line that isn't a reader key."""
    keys = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            reader = json.loads(line)
            field, key_id, key = (
                reader["field"],
                reader["key_id"],
                base64.b64decode(reader["key"], validate=True),
            )
        except (ValueError, TypeError, KeyError, binascii.Error):
            raise ValueError(f"{file}, line {number}: not a line of refreshd keys reader") from None
        if field == FIELD and len(key) == _KEY_BYTES:
            keys[str(key_id)] = key
    if not keys:
        raise ValueError(f"{file}: it has no reader key")
    return keys
