"""Events that operators may need to see. The use case emits them; logs and metrics subscribe.

Each wing has its events in a module of its own; this one has all of them.
"""

from daemon.domain.access_event import (
    AnomalyDetected,
)
from daemon.domain.daemon_event import (
    InternalError,
    SweepFailed,
    SweepFinished,
)
from daemon.domain.hook_event import (
    HookBack,
    HookCounted,
    HookDisabled,
    OwnerEventsLost,
)
from daemon.domain.mirror_event import (
    MirrorBack,
    MirrorFailed,
    MirrorRefused,
)
from daemon.domain.provider_event import (
    InFlight,
    LaneFailed,
    ProviderAnswered,
    ProviderDrifted,
    ProviderPaused,
    ProviderResumed,
    ProviderThrottled,
)
from daemon.domain.store_event import (
    StoreBack,
    StoreLost,
)
from daemon.domain.token_event import (
    ConsentFailed,
    JournalReplayed,
    LateReplyRevoked,
    TokenConnected,
    TokenEnding,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenScheduled,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)

__all__ = [
    "AnomalyDetected",
    "ConsentFailed",
    "Event",
    "HookBack",
    "HookCounted",
    "HookDisabled",
    "InFlight",
    "InternalError",
    "JournalReplayed",
    "LaneFailed",
    "LateReplyRevoked",
    "MirrorBack",
    "MirrorFailed",
    "MirrorRefused",
    "OwnerEventsLost",
    "ProviderAnswered",
    "ProviderDrifted",
    "ProviderPaused",
    "ProviderResumed",
    "ProviderThrottled",
    "StoreBack",
    "StoreLost",
    "SweepFailed",
    "SweepFinished",
    "TokenConnected",
    "TokenEnding",
    "TokenHeld",
    "TokenInDoubt",
    "TokenNeedsReauth",
    "TokenPostponed",
    "TokenRenewed",
    "TokenRevocationFailed",
    "TokenRevocationPostponed",
    "TokenRevoked",
    "TokenScheduled",
    "TokenStuck",
    "TokenSuperseded",
    "TokenUnparsed",
    "TokenUnreadable",
]

Event = (
    TokenRenewed
    | TokenPostponed
    | TokenScheduled
    | TokenNeedsReauth
    | TokenSuperseded
    | TokenUnparsed
    | TokenStuck
    | TokenUnreadable
    | TokenInDoubt
    | TokenHeld
    | TokenEnding
    | TokenRevoked
    | TokenRevocationPostponed
    | TokenRevocationFailed
    | LateReplyRevoked
    | ProviderAnswered
    | ProviderThrottled
    | ProviderDrifted
    | InFlight
    | ProviderPaused
    | ProviderResumed
    | SweepFinished
    | SweepFailed
    | LaneFailed
    | InternalError
    | JournalReplayed
    | TokenConnected
    | ConsentFailed
    | MirrorFailed
    | MirrorBack
    | MirrorRefused
    | OwnerEventsLost
    | HookCounted
    | HookBack
    | HookDisabled
    | AnomalyDetected
    | StoreLost
    | StoreBack
)

# Several come with each renewal, and only the metrics use them: no other observer is called.
COUNTED_ONLY: frozenset[type[Event]] = frozenset({ProviderAnswered, ProviderThrottled, InFlight})
