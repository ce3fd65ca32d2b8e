"""The device and the network from which an owner gave consent, as an application stores them in `meta`."""

from collections.abc import Mapping

from daemon.domain.anomaly import network_of

DEVICE, IP = "device", "ip"


def is_other_device(stored: Mapping[str, object], written: Mapping[str, object]) -> bool:
    """Return whether `written`, the whole `meta` after a write, names another device or network than `stored`. Without
    a stored one, nothing differs.
    """
    return any(_place(name, stored) not in (None, _place(name, written)) for name in (DEVICE, IP))


def _place(name: str, meta: Mapping[str, object]) -> str | None:
    """Return the device, or the network of the address. Another text stands for itself."""
    text = meta.get(name)
    if not isinstance(text, str):
        return None
    return (network_of(text) or text) if name == IP else text
