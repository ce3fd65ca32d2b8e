"""Files by which this process proves who it is to a cloud: tokens that a platform or an agent keeps fresh."""

from pathlib import Path

from daemon.adapters.secrets.errors import SecretAway
from daemon.adapters.trusted_files import Untrusted, read_trusted

_LARGEST = 64 * 1024  # bytes


def read_identity(name: str, path: Path) -> str:
    """Return the text of the file without white space at its ends. `name` is its name in messages.

    Raises SecretAway: the file may appear, or be corrected, without a new start of this process.
    """
    try:
        data = read_trusted(path, limit=_LARGEST + 1).data
        text = data.decode().strip()
    except Untrusted as distrust:
        raise SecretAway(f"{name}: {distrust.what}; {distrust.do}") from None
    except OSError as error:
        raise SecretAway(f"{name}: {path} can't be read: {error.strerror}") from None
    except ValueError:
        raise SecretAway(f"{name}: {path} is not a text file") from None
    if not text or len(data) > _LARGEST:
        raise SecretAway(f"{name}: {path} is {'too large' if text else 'empty'}")
    return text
