"""Events of access to tokens."""

from dataclasses import dataclass
from datetime import datetime

from daemon.domain.anomaly import AnomalyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyDetected:
    """Access that a person should look at. `key`: the id of the access key, the address or the token that it concerns.
    `count`: how many of what the rule counts. `message`: a sentence about it. `name`: the access key's.
    `token`: the token that the access key was used for, if it concerns one.

    `repeated`: the same kind was reported for the same key in this hour. It is counted, and no news.
    """

    kind: AnomalyKind
    key: str
    count: int
    at: datetime
    message: str
    name: str | None = None
    token: str | None = None
    repeated: bool = False

    @property
    def id(self) -> str:
        """The same for all anomalies of one kind and key in one hour, in every process."""
        return f"anomaly:{self.kind}:{self.key}:{self.at:%Y-%m-%dT%H}"
