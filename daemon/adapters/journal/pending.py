"""The entries that block their tokens: replies that wait for the store, and replies that can't be replayed now."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from daemon.adapters.journal.row import Row, key_of
from daemon.domain.journal_entry import Entry, EntryState
from daemon.domain.locked import Locked


@dataclass(slots=True)
class _Entry:
    content: Entry | Locked
    state: EntryState  # waiting or unusable, as in the file
    key_id: str  # of the key that sealed the reply
    size: int  # bytes of the sealed reply
    row: Row | None  # of a locked entry: the next probe tries to open it again


class Pending:
    """These entries, oldest first: their keys only grow."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._tokens: dict[str, int] = {}  # how many entries each token has

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> Sequence[Entry]:
        return [one.content for one in self._entries.values() if isinstance(one.content, Entry)]

    @property
    def locked(self) -> Sequence[Locked]:
        return [one.content for one in self._entries.values() if isinstance(one.content, Locked)]

    @property
    def tokens(self) -> Collection[str]:
        return self._tokens.keys()

    @property
    def bytes(self) -> Counter[EntryState]:
        """How many bytes of sealed replies they have, by state."""
        sums: Counter[EntryState] = Counter()
        for one in self._entries.values():
            sums[one.state] += one.size
        return sums

    @property
    def sealed_with(self) -> Counter[str]:
        """How many of them each key has sealed, by its id."""
        return Counter(one.key_id for one in self._entries.values())

    def add(self, content: Entry | Locked, row: Row) -> None:
        """Let the entry block its token."""
        kept = row if isinstance(content, Locked) else None
        state = EntryState(row.state)
        self._entries[row.key] = _Entry(content, state, key_of(row.sealed), len(row.sealed), kept)
        self._tokens[row.token] = self._tokens.get(row.token, 0) + 1

    def drop(self, key: int) -> _Entry | None:
        """Let the entry block its token no longer. Returns it, unless it was dropped before."""
        if (one := self._entries.pop(key, None)) is None:
            return None
        token = one.content.token
        self._tokens[token] -= 1
        if not self._tokens[token]:
            del self._tokens[token]
        return one

    def mark_unusable(self, key: int) -> bool:
        """Returns whether the entry is here and was not unusable before."""
        one = self._entries.get(key)
        if one is None or one.state is EntryState.UNUSABLE:
            return False
        one.state = EntryState.UNUSABLE
        return True

    def unlock(self, opened: Callable[[Row], Entry | Locked]) -> None:
        """Open the locked entries that `opened` can open now."""
        for one in self._entries.values():
            if one.row is not None:
                one.content = opened(one.row)
                one.row = one.row if isinstance(one.content, Locked) else None
