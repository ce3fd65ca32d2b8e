"""The tokens with an entry in the journal of this machine: such an entry may hold a token's newest refresh token."""

from collections.abc import Collection

from daemon.adapters.journal.inspection import listed
from daemon.adapters.journal.journal import JournalDamaged
from daemon.commands.support.failure import Failed
from daemon.runtime.bootstrap import key_ring
from daemon.runtime.config.settings import Settings


def journaled_tokens(settings: Settings) -> Collection[str]:
    """Return their ids; none if no daemon has run here. Raises Failed if the journal can't be read."""
    path = settings.state_dir / "journal.db"
    try:
        if not path.exists():
            return frozenset()
        return frozenset(entry.token for entry in listed(path, key_ring(settings)))
    except JournalDamaged as why:
        raise Failed(str(why)) from None
    except OSError as why:
        raise Failed(f"{path} can't be read ({why.strerror}). Run the command as the daemon's user") from None
