"""The key ring: seals secrets with AES-256-GCM under the active key, and opens them with any key of the ring.

Sealed text, version 1: `v1.<key id>.<base64url of nonce[12], ciphertext, tag[16]>`. Every field of every
token has its own key (HKDF-SHA256, twice), and the token id and field are authenticated, so that a sealed
text opens only for its own token and field. The field key of `access_token` can be given to an application:
it opens no refresh token.

Texts that a writer key has sealed (`w1.`) open too, in the fields that a writer may seal; see `writer_seal`.
"""

import hmac
import os
import re
from base64 import b64encode
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection, Iterator, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from daemon.adapters.writer_seal import FIELDS, LONGEST, NotOpened, WriterSeal
from daemon.domain.secret import Secret

KEY_BYTES = 32
FINGERPRINT = "grant_fingerprint"  # a field of its own, and no sealed one
NONCE_BYTES = 12
_NONCES_AT_ONCE = 256  # a call into the kernel costs more than all the rest of sealing
_TAG_BYTES = 16
WRITERS = "w1."  # what a text begins with that a writer key has sealed
_HEAD = re.compile(r"(v1|w1)\.([A-Za-z0-9_-]{1,64})\.")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TO_URL = bytes.maketrans(b"+/", b"-_")  # from base64 to base64url (RFC 4648 §5), and back
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class DecryptionError(Exception):
    """A sealed text can't be opened. The message is a sentence for operators and contains no secret."""


class KeyRing:
    """Master keys by id, of which one seals. Keys never print themselves.

    `distrusted`: the ids of keys that this store was not sealed with. They open nothing.
    `writers`: the ids of keys whose writers' texts open (None: all). `only_open`: the ids of keys that an operator
    has excluded from sealing.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        active: str,
        distrusted: Collection[str] = frozenset(),
        writers: Collection[str] | None = None,
        only_open: Collection[str] = frozenset(),
    ) -> None:
        self._keys = dict(keys)
        self._active = active
        self.distrusted = frozenset(distrusted)
        self.writers = frozenset(self._keys if writers is None else writers)
        self.only_open = frozenset(only_open)
        self._field_keys: dict[tuple[str, str], bytes] = {}
        self._hmacs: dict[tuple[str, str], HMAC] = {}
        self._writer_seals: dict[tuple[str, str], WriterSeal] = {}
        self._nonces: list[bytes] = []
        if active not in self._keys or any(len(key) != KEY_BYTES for key in self._keys.values()):
            raise ValueError("the active key must be on the ring, and every key must have 32 bytes")

    def __repr__(self) -> str:
        return f"KeyRing(active={self._active!r}, keys={sorted(self._keys)})"

    @property
    def active(self) -> str:
        return self._active

    @property
    def ids(self) -> Collection[str]:
        return self._keys.keys()

    def secrets(self) -> Iterator[Secret]:
        """Return each key in the forms that a configuration may have it in, which no log may show."""
        for key in self._keys.values():
            yield Secret(key.hex())
            yield Secret(b64encode(key).decode())

    def only(self, key_id: str) -> "KeyRing":
        """Return a ring with this one key, which seals."""
        return KeyRing({key_id: self._keys[key_id]}, active=key_id, writers=self.writers & {key_id})

    def distrusting(self, key_ids: Collection[str]) -> "KeyRing":
        """Return the same ring with these keys distrusted: they open nothing."""
        return KeyRing(
            self._keys,
            active=self._active,
            distrusted=key_ids,
            writers=self.writers,
            only_open=self.only_open,
        )

    def seal(self, text: str, *, token_id: str, field: str) -> str:
        """Seal `text` for `field` of `token_id` under the active key."""
        nonce = self._nonce()
        cipher = AESGCM(self._token_key(self._active, token_id, field))
        sealed = nonce + cipher.encrypt(nonce, text.encode(), place_of(token_id, field))
        return f"v1.{self._active}.{_base64url(sealed).decode()}"

    def open(self, sealed: object, *, token_id: str, field: str) -> str:
        """Return the text in `sealed`. Raises DecryptionError if it isn't sealed text, was moved or altered,
        or its key is missing.
        """
        version, key_id, raw = parse_sealed(sealed, token_id)
        if key_id not in self._keys:
            raise DecryptionError(f"{field} is sealed with key {key_id!r}, which is not on the key ring")
        if key_id in self.distrusted:
            raise DecryptionError(
                f"{field} is sealed with key {key_id!r}, and the ring has a different key with that id"
            )
        if version == "w1":
            return self._open_writers(raw, key_id, token_id=token_id, field=field)
        cipher = AESGCM(self._token_key(key_id, token_id, field))
        try:
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place_of(token_id, field)).decode()
        except (InvalidTag, UnicodeDecodeError):
            raise DecryptionError(
                f"{field} can't be opened with key {key_id!r}: it was altered or moved, or the key is a different one"
            ) from None

    def field_key(self, field: str, key_id: str | None = None) -> bytes:
        """Return the key of one field, for readers. Raises KeyError for a key id that is not on the ring."""
        key_id = key_id or self._active
        derived = self._field_keys.get((key_id, field))
        if derived is None:
            derived = _derived(self._keys[key_id], f"refreshd/v1/{field}")
            self._field_keys[key_id, field] = derived
        return derived

    def writer_seal(self, field: str, key_id: str | None = None) -> WriterSeal:
        """Return what seals and opens the texts of writers in one field. Raises KeyError for a key id that is not
        on the ring.
        """
        key_id = key_id or self._active
        seal = self._writer_seals.get((key_id, field))
        if seal is None:
            seal = self._writer_seals[key_id, field] = WriterSeal(field, self._keys[key_id])
        return seal

    def _open_writers(self, raw: bytes, key_id: str, *, token_id: str, field: str) -> str:
        if field not in FIELDS:
            raise DecryptionError(f"{field} is sealed with a writer key, which is not allowed in this field")
        if key_id not in self.writers:
            raise DecryptionError(
                f"{field} is sealed with the writer key of {key_id!r}, which keys.writers doesn't accept"
            )
        try:
            return self.writer_seal(field, key_id).open(raw, token_id)
        except NotOpened as why:
            raise DecryptionError(
                f"{field} can't be opened with the writer key of {key_id!r}: {why}, or the key is a different one"
            ) from None

    def fingerprint(self, text: str, key_id: str | None = None) -> str:
        """Return a keyed fingerprint of a secret. It shows only whether two secrets are equal."""
        key_id = key_id or self._active
        return f"{key_id}.{self._hmac(key_id, FINGERPRINT, text.encode()).hex()}"

    def fingerprints(self, text: str) -> list[str]:
        """Return the fingerprints of a secret under every key of the ring."""
        return [self.fingerprint(text, key_id) for key_id in self._keys]

    def _nonce(self) -> bytes:
        """Return a random nonce that is handed out once."""
        if not self._nonces:
            drawn = os.urandom(NONCE_BYTES * _NONCES_AT_ONCE)
            self._nonces = [drawn[at : at + NONCE_BYTES] for at in range(0, len(drawn), NONCE_BYTES)]
        return self._nonces.pop()

    def _token_key(self, key_id: str, token_id: str, field: str) -> bytes:
        """Compute the second half of an HKDF of the field key: one HMAC, since the key is as long as the
        hash.
        """
        return self._hmac(key_id, field, token_id.encode() + b"\x01")

    def _hmac(self, key_id: str, field: str, message: bytes) -> bytes:
        """Compute HMAC-SHA256. Work that does not depend on the message is cached: for a fingerprint the key
        itself, else the first half of an HKDF of the field key (RFC 5869).
        """
        derived = self._hmacs.get((key_id, field))
        if derived is None:
            key = self.field_key(field, key_id)
            if field != FINGERPRINT:
                key = hmac.digest(bytes(KEY_BYTES), key, "sha256")
            derived = self._hmacs[key_id, field] = HMAC(key, hashes.SHA256())
        made = derived.copy()
        made.update(message)
        return made.finalize()


def parse_sealed(sealed: object, token_id: str) -> tuple[str, str, bytes]:
    """Return the version, the key id and the bytes of a sealed text. Raises DecryptionError."""
    head = _HEAD.match(sealed) if isinstance(sealed, str) else None
    if head is None or (head[1] == "w1" and len(head.string) > LONGEST):
        raise DecryptionError("not a sealed text of version 1")
    if not token_id.isprintable() and _CONTROL.search(token_id):
        raise DecryptionError("the token id contains control characters")
    try:
        text = head.string[head.end() :].encode("ascii")
        raw = a2b_base64(text.translate(_FROM_URL) + b"==")
    except ValueError:
        raise DecryptionError("not a sealed text of version 1: its base64 is damaged") from None
    if len(raw) < NONCE_BYTES + _TAG_BYTES or _base64url(raw) != text:
        raise DecryptionError("not a sealed text of version 1: too short, or not in its canonical form")
    return head[1], head[2], raw


def _base64url(raw: bytes) -> bytes:
    """Return `raw` in base64url without padding."""
    return b2a_base64(raw, newline=False).translate(_TO_URL, b"=")


def _derived(key: bytes, info: str) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=b"", info=info.encode()).derive(key)


def place_of(token_id: str, field: str) -> bytes:
    return f"refreshd/v1\n{token_id}\n{field}".encode()
