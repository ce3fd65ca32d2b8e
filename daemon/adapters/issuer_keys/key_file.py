"""A key set in a file that nobody else can change."""

from pathlib import Path

from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.key_set import LARGEST
from daemon.adapters.trusted_files import Untrusted, read_trusted


def read_key_file(path: Path) -> bytes:
    """Return the content of the file. Raises ReadFailed."""
    try:
        return read_trusted(path, limit=LARGEST + 1).data
    except (OSError, ValueError) as why:
        text = why.strerror if isinstance(why, OSError) else None
        raise ReadFailed(f"the file can't be read: {text or 'not a usable path'}") from None
    except Untrusted as distrust:
        raise ReadFailed(str(distrust).removesuffix(".")) from None
