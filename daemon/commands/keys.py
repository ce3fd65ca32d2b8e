"""`refreshd keys`: a new key for the ring, and the key that lets an application open access tokens and nothing else."""

import os
from base64 import b64encode

from daemon.adapters.keyring import KEY_BYTES, KeyRing
from daemon.commands.access import read_settings
from daemon.commands.failure import Exit, Failed
from daemon.commands.options import Options
from daemon.commands.output import Output

READER_FIELD = "access_token"


def generate(options: Options) -> int:
    """32 random bytes in base64, as [keys.ring] takes them."""
    key = b64encode(os.urandom(KEY_BYTES)).decode()
    Output(as_json=options.json).reveal({"key": key}, key)
    return Exit.DONE


def reader(options: Options, *, key_id: str | None) -> int:
    """The reader key of one key of the ring, of the active one if none is named. JSON, since programs take it."""
    keys = read_settings(options).keys
    key_id = key_id or keys.active
    if key_id not in keys.ring:
        raise Failed(f"no key {key_id!r} is on the ring. Use one of: {', '.join(keys.ring)}", Exit.USAGE)
    key = KeyRing(keys.ring, active=keys.active).field_key(READER_FIELD, key_id)
    record = {"field": READER_FIELD, "key_id": key_id, "key": b64encode(key).decode()}
    Output(as_json=True).reveal(record, "")
    return Exit.DONE
