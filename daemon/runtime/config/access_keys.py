"""The reader and writer keys of the access service: its own, or those of a ring."""

from collections.abc import Mapping

from daemon.adapters.door_keys import DoorKeys
from daemon.runtime.config.access_sections import DOOR_KEYS, RING_KEYS, DoorKeysTable
from daemon.runtime.config.fields import checked
from daemon.runtime.config.problems import Findings
from daemon.runtime.config.secret_sources import SecretContext
from daemon.runtime.config.sections import KeySettings
from daemon.runtime.config.wrapped_keys import name_wrapped


def door_keys(table: object, findings: Findings, around: SecretContext) -> tuple[DoorKeys | None, bool]:
    """Return the reader and writer keys: the configured ones, else those of the ring; and whether they are the
    ring's.
    """
    if isinstance(table, Mapping) and not any(name in table for name in DOOR_KEYS):
        ring = checked(KeySettings, name_wrapped(table), ("keys",), findings, context=around)
        if ring is None or ring.active not in ring.ring:
            if ring is not None:
                findings.add(
                    ("keys", "active"), "is not the id of a key on the ring", "Add it to [keys.ring]."
                )
            return None, True
        if not all(one.key for one in ring.ring.values()):
            return None, True  # a source has not answered
        return DoorKeys.of_ring(ring.key_ring), True
    own = (
        {name: value for name, value in table.items() if name not in RING_KEYS}
        if isinstance(table, Mapping)
        else table
    )
    lines = checked(DoorKeysTable, own, ("keys",), findings, context=around)
    if lines is None or not lines.readers:
        return None, False
    first = next(iter(lines.readers))  # the active one, as `keys reader --all` prints them
    reader = lines.active if lines.active and lines.active in lines.readers else first
    writers = lines.writer or {}
    writer = reader if reader in writers else next(iter(writers), None)
    return DoorKeys(lines.readers, writers, reader=reader, writer=writer), False
