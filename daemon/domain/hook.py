"""Which events a hook receives."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from daemon.domain.owner_event import OwnerEvent, OwnerEventType


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A hook's name and its filters. `events`: globs over types; none: all types. `providers`: none: all of them, and
    events of no provider.
    """

    name: str
    events: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()

    def takes(self, event: OwnerEvent) -> bool:
        """Return whether the hook receives `event`. A test event is sent to its hook directly, never by a filter; a hook
        is not told of its own end.
        """
        if event.type is OwnerEventType.HOOK_TEST:
            return False
        if event.type is OwnerEventType.HOOK_DISABLED and event.code == self.name:
            return False
        if self.events and not any(fnmatchcase(event.type.value, glob) for glob in self.events):
            return False
        return not self.providers or event.provider in self.providers


def matched_types(glob: str) -> Sequence[OwnerEventType]:
    """Return the types that `glob` covers."""
    return [one for one in OwnerEventType if fnmatchcase(one.value, glob)]
