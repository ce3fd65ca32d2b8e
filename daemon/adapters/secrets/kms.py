"""Keys of the ring that AWS KMS has wrapped.

The encryption context binds a wrapped key to its installation and its key id: KMS unwraps it for these two only, and
a policy in IAM can name them. Required rights: `kms:Decrypt`, and `kms:Encrypt` to wrap a key.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping

from daemon.adapters.secrets.aws_request import answered, away, error_code
from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.adapters.secrets.http import Reply
from daemon.domain.secret_reference import WrappedKey

KEY_BYTES = 32
KMS = "AWS KMS"
_ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]{1,40}):[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]{1,256}")
_STATES = {  # error codes of a KMS key that nobody can use now
    "DisabledException": "is disabled",
    "KMSInvalidStateException": "is not in use: it may wait for its deletion",
    "KeyUnavailableException": "is not available",
}


async def read(reference: WrappedKey) -> str:
    """Return the key in base64. Raises SecretMissing, SecretAway, SecretUnusable."""
    ciphertext = _decoded(reference.wrapped)
    if ciphertext is None:
        raise SecretUnusable("the wrapped key is not base64")
    parameters = {
        "CiphertextBlob": reference.wrapped,
        "KeyId": reference.kms_key,
        "EncryptionContext": _context(reference.installation, reference.key_id),
    }
    reply = await _asked("TrentService.Decrypt", parameters, reference.kms_key)
    if reply.status != 200:
        raise _refused(reply, reference)
    key = _decoded(reply.fields().get("Plaintext"))
    if key is None or len(key) != KEY_BYTES:
        raise SecretUnusable(f"what {KMS} has unwrapped is not a key of {KEY_BYTES} bytes")
    return b64encode(key).decode()


async def wrap(key: bytes, *, kms_key: str, key_id: str, installation: str) -> WrappedKey:
    """Return `key`, wrapped. An alias is replaced by the key that it leads to now. Raises as `read` does."""
    parameters = {
        "KeyId": kms_key,
        "Plaintext": b64encode(key).decode(),
        "EncryptionContext": _context(installation, key_id),
    }
    reply = await _asked("TrentService.Encrypt", parameters, kms_key)
    draft = WrappedKey(kms_key=kms_key, wrapped="", key_id=key_id, installation=installation)
    if reply.status != 200:
        raise _refused(reply, draft)
    answer = reply.fields()
    wrapped, used = answer.get("CiphertextBlob"), answer.get("KeyId")
    if not isinstance(wrapped, str) or not _decoded(wrapped) or not isinstance(used, str) or not is_arn(used):
        raise SecretUnusable(f"{KMS} has answered in another form than it documents")
    return WrappedKey(kms_key=used, wrapped=wrapped, key_id=key_id, installation=installation)


def is_arn(text: str) -> bool:
    """Return whether `text` is the ARN of a KMS key or of its alias."""
    return _ARN.fullmatch(text) is not None


async def _asked(target: str, parameters: Mapping[str, object], kms_key: str) -> Reply:
    found = _ARN.fullmatch(kms_key)
    if found is None:
        raise SecretUnusable("the KMS key is not named by its ARN")
    return await answered(KMS, "kms", target, parameters, region=found[1])


def _context(installation: str, key_id: str) -> dict[str, str]:
    return {"refreshd:installation": installation, "refreshd:key_id": key_id}


def _refused(reply: Reply, key: WrappedKey) -> SecretMissing | SecretAway | SecretUnusable:
    code = error_code(reply)
    if code in _STATES:
        return SecretAway(f"the KMS key {key.kms_key} {_STATES[code]} ({code})")
    if code == "NotFoundException":
        return SecretMissing(f"{KMS} has no key {key.kms_key}")
    if code in ("InvalidCiphertextException", "IncorrectKeyException"):
        return SecretUnusable(
            f"{KMS} does not unwrap it: it was wrapped by another KMS key, or for another key id than {key.key_id!r}, or"
            f" for another installation than {key.installation!r} ({code})"
        )
    return away(reply, code)


def _decoded(text: object) -> bytes | None:
    try:
        return b64decode(text, validate=True) if isinstance(text, str) and text else None
    except (binascii.Error, ValueError):
        return None
