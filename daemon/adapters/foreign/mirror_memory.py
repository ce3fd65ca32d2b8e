"""What a mirror has written, in a file of the state directory. Fits `migrating.mirror.Memory`."""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from daemon.domain.foreign import SourceLost

MODE = 0o600


class MirrorMemory:
    """The memory of the mirror of one place. `directory` is made if it is missing."""

    def __init__(self, directory: Path, place: str) -> None:
        self._file = directory / f"{sha256(place.encode()).hexdigest()[:16]}.json"
        self._place = place

    def load(self) -> Mapping[str, tuple[str, ...]]:
        """Return the digests by token id; none if there is no file. Raises SourceLost if it can't be read."""
        try:
            stored = json.loads(self._file.read_text())["digests"]
            return {str(name): tuple(map(str, digests)) for name, digests in stored.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceLost(
                f"{self._file}: it can't be read ({type(error).__name__}). If it is damaged, remove it: the mirror then"
                " leaves rows alone that it can't prove to be its own"
            ) from None

    def store(self, digests: Mapping[str, tuple[str, ...]]) -> None:
        """Replace the digests durably. Raises SourceLost."""
        text = json.dumps({"place": self._place, "digests": digests}, separators=(",", ":"))
        new = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
        except OSError as error:
            raise SourceLost(
                f"{self._file}: it can't be written ({error.strerror}). Make room, or correct the rights"
            ) from None
