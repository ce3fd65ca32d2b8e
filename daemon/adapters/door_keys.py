"""The keys of the access service: reader keys open and seal access tokens, writer keys seal refresh tokens and the codes
of consents. None of them opens a refresh token or a code.
"""

import hmac
import json
import os
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daemon.adapters.keyring import (
    FINGERPRINT,
    KEY_BYTES,
    NONCE_BYTES,
    DecryptionError,
    KeyRing,
    parse_sealed,
    place_of,
)
from daemon.adapters.writer_seal import FIELDS, SUITE, info_of
from daemon.domain.secret import Secret
from daemon.domain.served_token import ServedToken

ACCESS, REFRESH = "access_token", "refresh_token"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class LinesInvalid(ValueError):
    """The text is not what `refreshd keys reader` or `keys writer` prints. The message quotes none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSeal:
    """The seal of one field, without the key that opens it."""

    public_key: bytes
    mac_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterKey:
    """One key id's writer key. `seals`: by field. The refresh token's is always there; the keys of earlier versions may
    lack the others.
    """

    seals: Mapping[str, FieldSeal]
    fingerprint_key: bytes = field(repr=False)


class DoorKeys:
    """Reader and writer keys by key id. New access tokens are sealed with `reader`, refresh tokens with `writer`; if
    one is None, that can't be done.
    """

    def __init__(
        self,
        readers: Mapping[str, bytes],
        writers: Mapping[str, WriterKey],
        *,
        reader: str,
        writer: str | None,
    ) -> None:
        # The first half of an HKDF of each field key: the rest depends on the token.
        self._halves = {
            key_id: hmac.digest(bytes(KEY_BYTES), key, "sha256") for key_id, key in readers.items()
        }
        self._writers = dict(writers)
        self.reader = reader
        self.writer = writer

    def __repr__(self) -> str:
        return f"DoorKeys(readers={sorted(self._halves)}, writers={sorted(self._writers)})"

    @classmethod
    def of_ring(cls, ring: KeyRing) -> "DoorKeys":
        """Return the reader and writer keys of a key ring."""
        writers = {}
        for key_id in ring.ids:
            seals = {one: ring.writer_seal(one, key_id) for one in FIELDS}
            writers[key_id] = WriterKey(
                seals={
                    one: FieldSeal(public_key=seal.public_key, mac_key=seal.mac_key)
                    for one, seal in seals.items()
                },
                fingerprint_key=ring.field_key(FINGERPRINT, key_id),
            )
        readers = {key_id: ring.field_key(ACCESS, key_id) for key_id in ring.ids}
        return cls(readers, writers, reader=ring.active, writer=ring.active)

    @property
    def reader_ids(self) -> Collection[str]:
        return self._halves.keys()

    @property
    def writer_ids(self) -> Collection[str]:
        return self._writers.keys()

    def public_key(self, key_id: str) -> bytes | None:
        """Return the public key that writers of this key seal with, if it is there."""
        writer = self._writers.get(key_id)
        return writer.seals[REFRESH].public_key if writer else None

    @property
    def seals_codes(self) -> bool:
        """Return whether a writer key seals the codes of consents and their verifiers."""
        return self.writer is not None and self._writers[self.writer].seals.keys() >= set(FIELDS)

    def open(self, token: ServedToken) -> Secret | None:
        """Return the access token, or None if no reader key opens it."""
        try:
            return Secret(self.open_access_token(token.sealed, token_id=token.id))
        except DecryptionError:
            return None

    def open_access_token(self, sealed: object, *, token_id: str) -> str:
        """Return the text in a sealed access token. Raises DecryptionError."""
        version, key_id, raw = parse_sealed(sealed, token_id)
        half = self._halves.get(key_id)
        if version != "v1" or half is None:
            raise DecryptionError(f"{ACCESS} is sealed with key {key_id!r}, of which there is no reader key")
        try:
            cipher = AESGCM(_token_key(half, token_id))
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place_of(token_id, ACCESS)).decode()
        except (InvalidTag, UnicodeDecodeError):
            raise DecryptionError(f"{ACCESS} can't be opened with the reader key of {key_id!r}") from None

    def seal(self, text: str, *, token_id: str, field: str) -> str:
        """Seal `text` for `field` of `token_id`: an access token as `v1.`, a refresh token or a code as `w1.`"""
        if field == ACCESS:
            nonce = os.urandom(NONCE_BYTES)
            cipher = AESGCM(_token_key(self._halves[self.reader], token_id))
            sealed = nonce + cipher.encrypt(nonce, text.encode(), place_of(token_id, ACCESS))
            return f"v1.{self.reader}.{_base64(sealed)}"
        key_id, writer = self._writing()
        seal = writer.seals.get(field)
        if seal is None:
            raise LookupError(f"there is no writer key for {field}")
        info = info_of(token_id, field)
        public_key = X25519PublicKey.from_public_bytes(seal.public_key)
        message = SUITE.encrypt(text.encode(), public_key, info)
        mac = hmac.digest(seal.mac_key, info + b"\n" + message, "sha256")
        return f"w1.{key_id}.{_base64(message + mac)}"

    def fingerprint(self, text: str) -> str:
        """Return a keyed fingerprint of a refresh token, as the daemon makes it."""
        key_id, _ = self._writing()
        return self._fingerprint(text, key_id)

    def fingerprints(self, text: str) -> list[str]:
        """Return the fingerprints of a refresh token under every writer key."""
        return [self._fingerprint(text, key_id) for key_id in self._writers]

    def _fingerprint(self, text: str, key_id: str) -> str:
        return f"{key_id}.{hmac.digest(self._writers[key_id].fingerprint_key, text.encode(), 'sha256').hex()}"

    def _writing(self) -> tuple[str, WriterKey]:
        if self.writer is None:
            raise LookupError("there is no writer key")
        return self.writer, self._writers[self.writer]


def reader_line(ring: KeyRing, key_id: str) -> dict[str, object]:
    """Return the reader key of a key of the ring, as `refreshd keys reader` prints it."""
    return {"field": ACCESS, "key_id": key_id, "key": b64encode(ring.field_key(ACCESS, key_id)).decode()}


def writer_lines(ring: KeyRing, key_id: str) -> list[dict[str, object]]:
    """Return the writer key of a key of the ring, one line for each field, as `refreshd keys writer` prints it."""
    return [_writer_line(ring, key_id, field) for field in FIELDS]


def _writer_line(ring: KeyRing, key_id: str, field: str) -> dict[str, object]:
    seal = ring.writer_seal(field, key_id)
    line: dict[str, object] = {
        "field": field,
        "key_id": key_id,
        "public_key": b64encode(seal.public_key).decode(),
        "mac_key": b64encode(seal.mac_key).decode(),
    }
    if field == REFRESH:
        line["fingerprint_key"] = b64encode(ring.field_key(FINGERPRINT, key_id)).decode()
    return line


def parse_readers(text: str) -> dict[str, bytes]:
    """Return the reader keys by key id, in the order of the lines. Raises LinesInvalid."""
    readers = {}
    for line in _lines(text):
        if line.get("field") != ACCESS:
            raise LinesInvalid('a line has another field than "access_token"')
        readers[_key_id(line)] = _key(line, "key")
    return readers


def parse_writers(text: str) -> dict[str, WriterKey]:
    """Return the writer keys by key id, in the order of the lines. Raises LinesInvalid."""
    seals: dict[str, dict[str, FieldSeal]] = {}
    fingerprint_keys = {}
    for line in _lines(text):
        name = line.get("field")
        if name not in FIELDS:
            continue
        key_id = _key_id(line)
        seal = FieldSeal(public_key=_key(line, "public_key"), mac_key=_key(line, "mac_key"))
        seals.setdefault(key_id, {})[str(name)] = seal
        if name == REFRESH:
            fingerprint_keys[key_id] = _key(line, "fingerprint_key")
    if not fingerprint_keys:
        raise LinesInvalid('no line has the field "refresh_token"')
    return {
        key_id: WriterKey(seals=seals[key_id], fingerprint_key=key)
        for key_id, key in fingerprint_keys.items()
    }


def _lines(text: str) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise LinesInvalid(f"line {number} is not a JSON object")
        found.append(row)
    if not found:
        raise LinesInvalid("there is no line")
    return found


def _key_id(line: Mapping[str, object]) -> str:
    key_id = line.get("key_id")
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise LinesInvalid("a line has no key_id")
    return key_id


def _key(line: Mapping[str, object], name: str) -> bytes:
    try:
        key = b64decode(str(line.get(name)), validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise LinesInvalid(f"a line's {name} is not {KEY_BYTES} bytes in base64")
    return key


def _token_key(half: bytes, token_id: str) -> bytes:
    return hmac.digest(half, token_id.encode() + b"\x01", "sha256")


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
