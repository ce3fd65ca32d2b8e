"""A key of the ring, wrapped by KMS for `refreshd keys wrap`."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from daemon.adapters.keyring import KEY_BYTES
from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.commands.support.access import read_settings
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.options import Options
from daemon.domain.secret_reference import WrappedKey
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_sources import key_id as checked_key_id
from daemon.runtime.config.sources import read_document
from daemon.runtime.config.wrapped_keys import INSTALLATION, installation_name, kms_key, kms_module
from daemon.runtime.confinement import confine

T = TypeVar("T")


def wrapped(options: Options, key_id: str, kms: str, *, new: bool) -> WrappedKey:
    """Return the key `key_id` of the ring, or a new key for this id, wrapped. Raises Failed, SettingsInvalid."""
    module = _read("--kms", kms_module)  # its library may be missing
    arn = _read("--kms", lambda: kms_key(kms), Exit.USAGE)
    key, where = _new_key(options, key_id) if new else _key_of_ring(options, key_id)
    try:
        found: WrappedKey = asyncio.run(module.wrap(key, kms_key=arn, key_id=key_id, installation=where))
    except SecretAway as away:
        raise Failed(f"{away}. Correct that, or try again when it has passed", Exit.UNAVAILABLE) from None
    except (SecretMissing, SecretUnusable) as why:
        raise Failed(f"{why}. Correct --kms") from None
    return found


def _key_of_ring(options: Options, key_id: str) -> tuple[bytes, str]:
    keys = read_settings(options).keys
    if key_id not in keys.ring:
        ring_ids = ", ".join(keys.ring)
        raise Failed(
            f"keys.ring: it has no key {key_id!r}. Use one of: {ring_ids}; or make a new key with --new",
            Exit.USAGE,
        )
    return keys.ring[key_id].key, keys.installation


def _new_key(options: Options, key_id: str) -> tuple[bytes, str]:
    """Return a new key. The rest of the configuration is not read, since it may lack just this key."""
    confine()
    _read("KEY_ID", lambda: checked_key_id(key_id), Exit.USAGE)
    table = read_document(options.config, os.environ, options.env_file).table.get("keys", {})
    keys = table if isinstance(table, Mapping) else {}
    ring = keys.get("ring")
    if isinstance(ring, Mapping) and key_id in ring:
        raise Failed(
            f"keys.ring: it already has a key {key_id!r}. Use another id, or leave --new out", Exit.USAGE
        )
    where = _read("keys.installation", lambda: installation_name(keys.get("installation", INSTALLATION)))
    return os.urandom(KEY_BYTES), where


def _read(name: str, read: Callable[[], T], code: Exit = Exit.CONFIG) -> T:
    """Return what `read` does. Raises Failed with `code`, and with `name` for where the fault is."""
    try:
        return read()
    except InvalidValue as invalid:
        raise Failed(f"{name}: {invalid.what}. {invalid.do.rstrip('.')}", code) from None
