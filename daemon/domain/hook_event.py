"""Events of hooks, and of what they deliver."""

from dataclasses import dataclass

from daemon.domain.hook import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerEventsLost:
    """Events of a token that no hook gets. `malformed`: another program stored them. `pushed_out`: by newer ones, while
    nothing could be put into the outbox.
    """

    token: str
    malformed: int
    pushed_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookCounted:
    """So many deliveries of a hook have had this outcome. `status`: the receiver's, if it answered. `failures`: in a row,
    with these.
    """

    hook: str
    outcome: Outcome
    count: int = 1
    status: int | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HookBack:
    """A receiver takes events again, after `failures` in a row."""

    hook: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HookDisabled:
    """A receiver said for an hour that it is gone. It gets nothing more until its configuration changes."""

    hook: str
