"""Ring entries that a KMS key has wrapped: `{ kms = "aws:ARN", wrapped = "BASE64" }`.

Each is unwrapped for its key id and for `keys.installation`, so that one copied to another id or to another
installation opens nothing.
"""

import importlib
import re
from collections.abc import Mapping
from types import ModuleType

from daemon.domain.secret_reference import WrappedKey
from daemon.runtime.config.problems import InvalidValue

INSTALLATION = "refreshd"  # unless keys.installation names it
SCHEME = "aws:"
_INSTALLATION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FORM = 'Write { kms = "aws:arn:...", wrapped = "BASE64" }, as `refreshd keys wrap` prints it.'
_FOR = "for"  # with a tuple as its value, which no configuration can hold


def installation_name(value: object) -> str:
    if not isinstance(value, str) or not _INSTALLATION.fullmatch(value):
        raise InvalidValue(
            "is not the name of an installation", "Use 1 to 64 of A to Z, a to z, 0 to 9, '.', '_' and '-'."
        )
    return value


def name_wrapped(keys: object) -> object:
    """Return the table [keys], with its key id and installation in each wrapped entry."""
    ring = keys.get("ring") if isinstance(keys, Mapping) else None
    if not isinstance(keys, Mapping) or not isinstance(ring, Mapping):
        return keys
    where = str(keys.get("installation", INSTALLATION))
    return {**keys, "ring": {key_id: _named(entry, where, key_id) for key_id, entry in ring.items()}}


def wrapped_key(entry: Mapping[str, object]) -> WrappedKey:
    """Return the wrapped key in a named entry. Raises InvalidValue."""
    match entry:
        case {"kms": str(kms), "wrapped": str(wrapped), "for": (str(where), str(key_id)), **rest} if not rest:
            return WrappedKey(kms_key=kms_key(kms), wrapped=wrapped, key_id=key_id, installation=where)
        case {"for": _}:
            raise InvalidValue("is not a wrapped key in a supported form", _FORM)
        case _:
            raise InvalidValue(
                "kms is allowed for keys of the ring only", "Supply the secret in another way."
            )


def kms_key(text: str) -> str:
    """Return the ARN in "aws:ARN", the value of `kms` or --kms. Raises InvalidValue."""
    kms = kms_module()
    arn = text.removeprefix(SCHEME)
    if not text.startswith(SCHEME) or not kms.is_arn(arn):
        raise InvalidValue(
            "is not a key of AWS KMS by its ARN",
            'Write it like "aws:arn:aws:kms:eu-central-1:123456789012:key/ID".',
        )
    return arn


def kms_module() -> ModuleType:
    """Return the adapter for KMS, whose library is an extra. Raises InvalidValue."""
    try:
        return importlib.import_module("daemon.adapters.secrets.kms")
    except ImportError:
        raise InvalidValue(
            "AWS KMS needs the library of the extra refreshd[aws], which is not installed",
            "Install the packages in requirements/aws.txt.",
        ) from None


def _named(entry: object, where: str, key_id: str) -> object:
    if not isinstance(entry, Mapping) or "kms" not in entry:
        return entry
    return {**entry, _FOR: (where, key_id)}
