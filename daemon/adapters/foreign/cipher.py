"""AES-256-GCM as applications use it: nonce, ciphertext and tag in many forms. Fits `domain.layout.Cipher`."""

import binascii
import json
import os
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daemon.domain.cipher_form import Role, read_form
from daemon.domain.layout import Encoding, Encryption, RowInvalid
from daemon.domain.secret import Secret

KEY_BYTES = 32
TAG_BYTES = 16  # a shorter tag is easier to forge, so it is refused
NONCE_BYTES = (12, 16)
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
_TO_STANDARD = str.maketrans("-_", "+/")


class KeyInvalid(ValueError):
    """The application's key can't be used. The text is a clause for operators."""


class AesGcm:
    """Opens and seals single cells under the application's key. Raises KeyInvalid."""

    def __init__(self, encryption: Encryption, key: Secret) -> None:
        self._encryption = encryption
        self._form = read_form(encryption.form)
        self._cipher = AESGCM(_key(key.reveal(), encryption.key))
        self._aad = encryption.aad.encode() or None

    def open(self, cell: object) -> str:
        """Return the text in `cell`. Raises RowInvalid."""
        parts = self._parts(self._encoded(cell))
        try:
            joined = parts[Role.CIPHERTEXT] + parts[Role.TAG]
            return self._cipher.decrypt(parts[Role.NONCE], joined, self._aad).decode()
        except InvalidTag:
            raise RowInvalid("does not open with this key") from None
        except UnicodeDecodeError:
            raise RowInvalid("opens to something that is not UTF-8") from None

    def seal(self, text: str, *, like: object) -> object:
        """Return `text` encrypted in the form and with the alphabet of `like`, if that is an encrypted cell."""
        try:
            encoded = self._encoded(like)
            nonce = os.urandom(len(self._parts(encoded)[Role.NONCE]))
        except RowInvalid:
            encoded = {}
            nonce = os.urandom(self._encryption.iv_bytes)
        sealed = self._cipher.encrypt(nonce, text.encode(), self._aad)
        parts = {
            Role.NONCE: nonce,
            Role.CIPHERTEXT: sealed[:-TAG_BYTES],
            Role.TAG: sealed[-TAG_BYTES:],
        }
        return self._put_together(parts, like, _encoder(self._encryption.encoding, list(encoded.values())))

    def _encoded(self, cell: object) -> dict[Role | None, str]:
        """Return the parts of `cell` as texts; joined bytes are one part, which has no role. Raises RowInvalid."""
        form = self._form
        match form.kind:
            case "+":
                return {None: _text(cell)}
            case "json" | "object":
                named = _object(cell) if form.kind == "json" else cell
                if not isinstance(named, Mapping):
                    raise RowInvalid(f"is not an object with {', '.join(form.names)}")
                return {
                    role: _text(named.get(name)) for name, role in zip(form.names, form.roles, strict=True)
                }
            case separator:
                texts = _text(cell).split(separator)
                if len(texts) != len(form.names):
                    raise RowInvalid(
                        f"does not consist of {len(form.names)} parts with '{separator}' between"
                    )
                return dict(zip(form.roles, texts, strict=True))

    def _parts(self, encoded: Mapping[Role | None, str]) -> dict[Role, bytes]:
        """Return the bytes of a cell's parts. Raises RowInvalid."""
        decoded = {role: _decoded(self._encryption.encoding, text) for role, text in encoded.items()}
        found = {role: raw for role, raw in decoded.items() if role is not None} or self._split(decoded[None])
        if len(found[Role.TAG]) != TAG_BYTES:
            raise RowInvalid(f"has a tag of {len(found[Role.TAG])} bytes instead of {TAG_BYTES}")
        if len(found[Role.NONCE]) not in NONCE_BYTES:
            raise RowInvalid(f"has a nonce of {len(found[Role.NONCE])} bytes instead of 12 or 16")
        return found

    def _split(self, raw: bytes) -> dict[Role, bytes]:
        """Return the parts of joined bytes: only the ciphertext has any length."""
        sizes = {Role.NONCE: self._encryption.iv_bytes, Role.TAG: TAG_BYTES}
        if len(raw) < sum(sizes.values()):
            raise RowInvalid("is too short")
        sizes[Role.CIPHERTEXT] = len(raw) - sum(sizes.values())
        found, at = {}, 0
        for role in self._form.roles:
            found[role] = raw[at : at + sizes[role]]
            at += sizes[role]
        return found

    def _put_together(
        self, parts: Mapping[Role, bytes], like: object, encode: Callable[[bytes], str]
    ) -> object:
        form = self._form
        if form.kind == "+":
            return encode(b"".join(parts[role] for role in form.roles))
        texts = [encode(parts[role]) for role in form.roles]
        if form.kind not in ("json", "object"):
            return form.kind.join(texts)
        named = dict(zip(form.names, texts, strict=True))
        if form.kind == "object":
            return {**like, **named} if isinstance(like, Mapping) else named
        try:
            old = _object(like)
        except RowInvalid:
            old = {}
        spaced = isinstance(like, str) and '": ' in like
        return json.dumps({**old, **named}, separators=None if spaced else (",", ":"))


def _decoded(encoding: Encoding, text: str) -> bytes:
    """Return the bytes in `text`: base64 in either alphabet, with or without its padding. Raises RowInvalid."""
    try:
        if encoding is Encoding.HEX:
            return binascii.unhexlify(text)
        if not ({"-", "_"} & set(text) and {"+", "/"} & set(text)):
            return b64decode(text.translate(_TO_STANDARD) + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        pass
    raise RowInvalid(f"is not {encoding.value}")


def _encoder(encoding: Encoding, like: Sequence[str]) -> Callable[[bytes], str]:
    """Return what encodes bytes as the texts in `like` are: in upper case, in the other alphabet, without padding."""
    joined = "".join(like)
    if encoding is Encoding.HEX:
        return lambda raw: raw.hex().upper() if joined.isupper() else raw.hex()
    unpadded = any(len(text) % 4 for text in like)
    url_safe = bool({"-", "_"} & set(joined)) or (unpadded and not {"+", "/"} & set(joined))
    encode = urlsafe_b64encode if url_safe else b64encode
    padded = "=" in joined or not (unpadded or url_safe)
    return lambda raw: encode(raw).decode() if padded else encode(raw).decode().rstrip("=")


def _key(text: str, encoding: Encoding) -> bytes:
    """Return the key's bytes. 64 hexadecimal digits and 32 bytes in base64 can't be mistaken for each other."""
    text = text.strip("\r\n") if encoding is Encoding.TEXT else text.strip()
    if encoding is Encoding.TEXT:
        key = text.encode()
    elif _HEX_KEY.fullmatch(text):
        key = bytes.fromhex(text)
    else:
        try:
            key = b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
        except (ValueError, binascii.Error):
            key = b""
    if len(key) != KEY_BYTES:
        form = (
            "32 characters" if encoding is Encoding.TEXT else "64 hexadecimal digits, or 32 bytes in base64"
        )
        raise KeyInvalid(f"it is not a key of 256 bits: write {form}")
    return key


def _object(cell: object) -> Mapping[str, object]:
    text = _text(cell)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise RowInvalid("is not a JSON text") from None
    if not isinstance(found, dict):
        raise RowInvalid("is not a JSON object")
    return found


def _text(cell: object) -> str:
    if not isinstance(cell, str):
        raise RowInvalid("is not a text")
    return cell
