"""The state of the daemon for probes, metrics and the status page. It is read-only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from platform import python_version

from daemon import __version__
from daemon.adapters.keyring import DecryptionError
from daemon.adapters.mongo.instances import SeenService
from daemon.domain.circuit_breaker import Pause
from daemon.domain.claim import StoreLost
from daemon.domain.event import Event, LaneFailed, SweepFinished
from daemon.domain.key_use import KeyUse, age_of, is_to_come
from daemon.domain.provider import Provider
from daemon.domain.statistics import Statistics
from daemon.runtime.config.settings import Settings
from daemon.runtime.jobs.mirrors import MirrorRunner
from daemon.runtime.jobs.notifying import Notifying
from daemon.runtime.parts import Parts
from daemon.runtime.web.scrape import Scrape
from daemon.runtime.web.status_json import (
    LONGEST_ID,
    date_text,
    failure_record,
    hook_record,
    hour_record,
    paused_record,
    seconds_of,
    service_record,
)

VERSIONS = {"python": python_version()} | {n: version(n) for n in ("aiohttp", "cryptography", "pymongo")}
MISSED = 3  # periods without a successful sweep, or failed passes of a lane in a row, until the daemon is not ready
STUCK_AFTER = timedelta(seconds=30)  # beyond the missed periods: a sweep that waits for MongoDB ends by then
# The next count of a large store comes after 15 times as long as the last one took.
COUNT_LATE, COUNT_LATE_SHARE = timedelta(minutes=5), 120
STRANGERS = 100  # providers that are not configured and yet named one by one
Check = tuple[bool, str]


class DaemonStatus:
    """Implements `server.HealthSource`, and observes sweeps."""

    def __init__(self, settings: Settings, *, instance: str) -> None:
        self.parts: Parts | None = None
        self.mirrors: Sequence[MirrorRunner] = ()
        self.notifying: Notifying | None = None
        self.services: Sequence[SeenService] = ()
        self.providers: Mapping[str, Provider] = {}
        self.draining = False
        self.secret_sources: Callable[[], Mapping[str, bool]] = dict  # which of them answer
        self.keys = settings.keys
        self._settings = settings
        self._instance = instance
        self._started_at: datetime | None = None
        self._swept: timedelta | None = None  # boot time of the last good sweep
        self._begun: timedelta | None = None  # ... and when the last one was started
        self._failed_passes: dict[str, int] = {}  # of each lane that does not work now: in a row
        self._statistics: Statistics | None = None
        self._started: timedelta | None = None  # by the boot clock
        self._scrape = Scrape(self.pieces)

    def use(self, providers: Mapping[str, Provider]) -> None:
        """Show these providers from now on. One that was removed and comes back has failed nowhere yet."""
        self.providers = providers
        failed = self._failed_passes.items()
        self._failed_passes = {name: failures for name, failures in failed if name in providers}

    # ---------------------------------------------------------------- events

    def __call__(self, event: Event) -> None:
        if isinstance(event, SweepFinished) and self.parts is not None:
            self._swept = self.parts.clock.boot()
        elif isinstance(event, LaneFailed):
            self._failed_passes[event.provider] = event.failures

    def sweep_begins(self) -> None:
        if self.parts is not None:
            self._begun = self.parts.clock.boot()

    def counted(self, statistics: Statistics) -> None:
        self._statistics = statistics
        if self.parts is not None:
            self.parts.metrics.set_statistics(statistics)

    def started(self, at: datetime) -> None:
        self._started_at = at
        self._started = self.parts.clock.boot() if self.parts is not None else None

    # ---------------------------------------------------------------- what it reports

    def liveness(self) -> Check:
        if self.parts is None or self._begun is None:
            return True, "starting"
        age = self.parts.clock.boot() - self._begun
        limit = MISSED * self._settings.refresh.sweep_every + STUCK_AFTER
        return age <= limit, f"the last sweep was started {age.total_seconds():.0f} s ago"

    async def readiness(self) -> Mapping[str, Check]:
        return {
            "store": await self._store(),
            "journal": self._journal(),
            "keys": self._keys(),
            "sweep": self._sweep(),
            "clock": self._clock(),
            "lanes": self._lanes(),
            "secrets": self._secrets(),
        }

    async def status(self) -> Mapping[str, object]:
        statistics = self._statistics
        ready = all(ok for ok, _ in (await self.readiness()).values()) and not self.draining
        age = self._count_age()
        return {
            "at": date_text(datetime.now(UTC)),
            "version": __version__,
            "versions": VERSIONS,
            "instance": self._instance,
            "started_at": date_text(self._started_at),
            "ready": ready,
            "warnings": [*([self._settings.caution] if self._settings.caution else []), *self._old()],
            "draining": self.draining,
            "providers": self._providers(),
            "providers_left_out": max(len(self._strangers()) - STRANGERS, 0),
            "next_due_at": date_text(statistics.next_due_at) if statistics else None,
            "oldest_due_age_seconds": seconds_of(statistics.oldest_due_age) if statistics else None,
            "journal_entries": self.parts.journal.count if self.parts else 0,
            "last_failures": [failure_record(one) for one in statistics.last_failures] if statistics else [],
            "needs_reauth": [one[:LONGEST_ID] for one in statistics.needs_reauth_tokens]
            if statistics
            else [],  # some of them
            "counted_at": date_text(statistics.at) if statistics else None,
            "counted_age_seconds": seconds_of(age) if statistics else None,
            "count_late": age
            > COUNT_LATE + COUNT_LATE_SHARE * (statistics.took if statistics else timedelta(0)),
            "overdue": statistics.overdue if statistics else None,
            "due_next_hour": list(statistics.due_soon) if statistics else None,  # every five minutes
            "access_services": [service_record(one) for one in self.services],
            "hooks": [hook_record(one) for one in self.notifying.waiting] if self.notifying else [],
            "last_hour": hour_record(self.parts.last_hour.snapshot()) if self.parts else None,
        }

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return await self._scrape.text(accept)

    def pieces(self, accept: str) -> tuple[Iterator[bytes], str]:
        """Return the metrics of this moment in pieces, and their content type."""
        parts = self.parts
        if parts is None:
            return iter(()), "text/plain"
        parts.metrics.set_journal_entries(parts.journal.count)
        parts.metrics.set_journal_bytes(parts.journal.bytes_by_state)
        parts.metrics.set_count_age(self._count_age(), looked=self._look_age())
        parts.metrics.set_secret_sources(self.secret_sources())
        parts.metrics.set_store_up(parts.mongo.up)
        parts.metrics.mirrors.set_lags({mirror.name: mirror.lag for mirror in self.mirrors})
        parts.metrics.set_ages(keys=self._key_ages(), secrets=self._secret_ages(), limit=self.keys.max_age)
        if parts.clock.skew is not None:
            parts.metrics.set_clock_skew(parts.clock.skew)
        return parts.metrics.pieces(accept)

    # ---------------------------------------------------------------- ages

    def _key_ages(self) -> Mapping[str, timedelta | None]:
        now = self._now()
        return {
            name: age_of(entry.created, now) if entry.created is not None else None
            for name, entry in self.keys.ring.items()
        }

    def _secret_ages(self) -> Mapping[str, timedelta]:
        now = self._now()
        return {
            name: age_of(created, now)
            for name, provider in self.providers.items()
            if (created := provider.client_secret_created) is not None
        }

    def _now(self) -> datetime:
        """Return the store's time; the machine's own for as long as MongoDB has not answered since the start."""
        if self.parts is None or self.parts.clock.skew is None:
            return datetime.now(UTC)
        return self.parts.clock.now()

    def _old(self) -> Iterator[str]:
        """Yield a sentence for each key and each client secret that is older than keys.max_age, or whose date is yet to
        come.
        """
        for name, age in self._key_ages().items():
            if age is not None and age > self.keys.max_age:
                do = "retire" if self.keys.ring[name].use is KeyUse.OPEN else "rotate"
                yield f"the key {name!r} is {age.days} days old: {do} it"
        for name, age in self._secret_ages().items():
            if age > self.keys.max_age:
                yield f"the client secret of {name} is {age.days} days old: make a new one"
        for what, day in self._dates():
            if is_to_come(day, self._now()):
                yield f"the date of {what}, {day}, is yet to come: correct it"

    def _dates(self) -> Iterator[tuple[str, date]]:
        """Yield each key and each client secret that has a date."""
        for name, entry in self.keys.ring.items():
            if entry.created is not None:
                yield f"the key {name!r}", entry.created
        for name, provider in self.providers.items():
            if provider.client_secret_created is not None:
                yield f"the client secret of {name}", provider.client_secret_created

    # ---------------------------------------------------------------- the checks

    async def _store(self) -> Check:
        if self.parts is None:
            return False, "starting"
        try:
            await self.parts.mongo.hello()
        except StoreLost as lost:
            return False, str(lost)
        if self.parts.mongo.misplaced is not None:
            return False, self.parts.mongo.misplaced
        return True, "MongoDB answers and has a writable primary"

    def _journal(self) -> Check:
        if self.parts is None:
            return False, "starting"
        if (trouble := self.parts.journal.trouble) is not None:
            return False, f"refreshing is suspended until replies can be kept: {trouble}"
        return True, f"{self.parts.journal.count} replies wait for MongoDB"

    def _keys(self) -> Check:
        if self.parts is None:
            return False, "starting"
        if self.parts.keys.wrong is not None:
            return False, self.parts.keys.wrong
        ring = self.parts.keys.ring
        try:
            opened = ring.open(
                ring.seal("probe", token_id="probe", field="probe"), token_id="probe", field="probe"
            )
        except DecryptionError as why:
            return False, str(why)
        return opened == "probe", f"key {ring.active} seals and opens"

    def _sweep(self) -> Check:
        if self.parts is None or self._swept is None:
            return False, "no sweep has succeeded yet"
        age = self.parts.clock.boot() - self._swept
        return (
            age <= MISSED * self._settings.refresh.sweep_every,
            f"the last successful sweep was {age.total_seconds():.0f} s ago",
        )

    def _clock(self) -> Check:
        skew = self.parts.clock.skew if self.parts else None
        if skew is None:
            return False, "MongoDB's clock is not yet known"
        agrees = abs(skew) <= self._settings.store.max_clock_skew
        return agrees, f"this machine's clock is {skew.total_seconds():+.1f} s from MongoDB's"

    def _lanes(self) -> Check:
        failing = sorted(
            name
            for name, failures in self._failed_passes.items()
            if failures >= MISSED and name in self.providers
        )
        if failing:
            return (
                False,
                f"lanes that have failed at least {MISSED} times in a row, or are stuck: {', '.join(failing)}",
            )
        return True, "no provider's lane is failing"

    def _secrets(self) -> Check:
        lacking = [one.lacking for _, one in sorted(self.providers.items()) if one.lacking is not None]
        if lacking:
            return False, f"secrets of clients have not come; {'; '.join(dict.fromkeys(lacking))}"
        return True, "every secret has come"

    def _count_age(self) -> timedelta:
        """Return the time since the start of the last count of the whole store, or since the start of the
        daemon.
        """
        if self.parts is None or self._started is None:
            return timedelta(0)
        if self._statistics is None:
            return self.parts.clock.boot() - self._started
        return self.parts.clock.now() - self._statistics.at

    def _look_age(self) -> timedelta:
        """Return the same for the look at due tokens."""
        looked = None if self._statistics is None else self._statistics.looked_at
        return self._count_age() if self.parts is None or looked is None else self.parts.clock.now() - looked

    def _pauses(self) -> Mapping[str, Pause] | None:
        """Return the paused providers as of the last sweep, or None before the first one."""
        if self.parts is None or self._swept is None:
            return None
        return self.parts.sweeper.paused

    def _providers(self) -> dict[str, object]:
        statistics = self._statistics or Statistics(at=datetime.now(UTC))
        lanes = self.parts.sweeper.lanes if self.parts else {}
        pauses = self._pauses()
        return {
            name: {
                "configured": name in self.providers,
                **paused_record(name, statistics, pauses if name in lanes else None),
                "states": dict(statistics.states.get(name, {})),
                "expired": statistics.expired.get(name, 0),
                "stuck": statistics.stuck.get(name, 0),
                "revocation_failed": statistics.revocation_failed.get(name, 0),
                "set_aside": statistics.set_aside.get(name, 0),
                "held": statistics.held.get(name, 0),
                "ending": statistics.ending.get(name, 0),
                "in_flight": len(lanes[name].in_flight) if name in lanes else 0,
                "failed_passes": self._failed_passes.get(name, 0),
            }
            for name in [*sorted(self.providers), *self._strangers()[:STRANGERS]]
        }

    def _strangers(self) -> list[str]:
        """Return providers that documents name but the configuration does not. There may be any number."""
        stored = self._statistics.states.keys() if self._statistics else set()
        return sorted(stored - self.providers.keys())
