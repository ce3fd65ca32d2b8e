"""The habits of an access key: the networks that it comes from, and how much it reads in an hour.

A key is learned for a day. Until then nothing about it is unusual.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.domain.use import HOUR, beginning

LEARNING = timedelta(days=1)
REMEMBERED = timedelta(days=30)  # a network that was not seen for so long is new again
MOST_NETWORKS = 64  # of one key; a key that comes from so many has no usual network
USUAL_WITHIN = timedelta(days=7)
MOST_HOURS = USUAL_WITHIN // HOUR
BURST_TIMES, BURST_LEAST = 10, 100  # an hour's reads are a burst above both


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """What is stored about a key. `since`: its first use that was noted. `networks`: network -> when it was last seen.
    `reads`: beginning of an hour -> number of reads.
    """

    since: datetime | None = None
    networks: Mapping[str, datetime] = field(default_factory=dict)
    reads: Mapping[datetime, int] = field(default_factory=dict)

    def new_networks(self, seen: Mapping[str, datetime]) -> Iterator[str]:
        """Yield those of the networks `seen` that are unusual."""
        if len(self.networks) >= MOST_NETWORKS:
            return
        for network, at in seen.items():
            last = self.networks.get(network)
            if self._is_learned(at) and (last is None or at - last > REMEMBERED):
                yield network

    def usual_reads(self, hour: datetime) -> float:
        """Return the reads of a usual hour: the mean of the hours with reads in the seven days before `hour`."""
        counts = [n for at, n in self.reads.items() if hour - USUAL_WITHIN <= at < hour]
        return sum(counts) / len(counts) if counts else 0.0

    def is_burst(self, hour: datetime, count: int) -> bool:
        """Return whether `count` reads in the hour that begins at `hour` are unusual."""
        return self._is_learned(hour) and count > BURST_LEAST and count > BURST_TIMES * self.usual_reads(hour)

    def _is_learned(self, at: datetime) -> bool:
        return self.since is not None and at - self.since >= LEARNING


@dataclass(slots=True)
class Seen:
    """The uses of a key that are not stored yet. `name`: the key's. The other fields are as in `Habit`."""

    name: str
    networks: dict[str, datetime] = field(default_factory=dict)
    reads: dict[datetime, int] = field(default_factory=dict)

    def note(self, network: str | None, at: datetime, *, reads: int = 0) -> None:
        """Note a request. Networks and hours beyond the limits are left out."""
        if network is not None and (network in self.networks or len(self.networks) < MOST_NETWORKS):
            self.networks[network] = at
        if reads:
            self.add(beginning(at, HOUR), reads)

    def add(self, hour: datetime, reads: int) -> None:
        if hour in self.reads or len(self.reads) < MOST_HOURS:
            self.reads[hour] = self.reads.get(hour, 0) + reads
