"""The parts of the running daemon, built by `bootstrap`."""

from dataclasses import dataclass

from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.counting.counter import Counter
from daemon.adapters.mongo.wishes import WishStream
from daemon.adapters.telemetry.last_hour import LastHour
from daemon.adapters.telemetry.log_sampling import SampledLog
from daemon.adapters.telemetry.metrics import Metrics
from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.refreshing.ports import Observe
from daemon.refreshing.refresher import Refresher
from daemon.refreshing.sweep import Sweeper
from daemon.runtime.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts of the running daemon."""

    clock: Clock
    mongo: Mongo
    journal: SqliteJournal
    endpoint: TokenEndpoint
    refresher: Refresher
    sweeper: Sweeper
    metrics: Metrics
    log: SampledLog
    counter: Counter
    wishes: WishStream
    last_hour: LastHour
    keys: "Keys"
    observe: Observe


class Keys:
    """The key ring in use, which a reload replaces. `wrong`: why it is not the one of this store."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self.wrong: str | None = None

    def __call__(self) -> KeyRing:
        return self.ring
