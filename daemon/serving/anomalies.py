"""Watches for anomalies of access. A request is only counted; habits are compared and stored every few seconds."""

from collections.abc import Callable
from datetime import datetime

from daemon.domain.anomaly import AnomalyKind, Once, network_of
from daemon.domain.auth_failures import EVERYWHERE, AuthFailures
from daemon.domain.claim import StoreLost
from daemon.domain.event import AnomalyDetected
from daemon.domain.habit import Habit, Seen
from daemon.domain.use import HOUR, beginning
from daemon.serving.doorkeeper import Caller
from daemon.serving.ports import Clock, Habits

MOST_KEYS = 10_000  # used between two times of storing
READ = "read"


class Anomalies:
    """`observe` receives each anomaly. What is counted for several things in one hour is reported as repeated."""

    def __init__(self, habits: Habits, clock: Clock, observe: Callable[[AnomalyDetected], None]) -> None:
        self._habits = habits
        self._clock = clock
        self._observe = observe
        self._seen: dict[str, Seen] = {}
        self._failures = AuthFailures()
        self._counted = Once()
        self._reported = Once()

    # ---------------------------------------------------------------- on the path of a request

    def used(self, caller: Caller, result: str) -> None:
        """Count a request with a valid key. `result`: as in `Usage.note`. A workload has no habits: each job of its
        platform may run in another network.
        """
        if caller.workload is not None:
            return
        key = caller.key
        seen = self._seen.get(key.id)
        if seen is None:
            if len(self._seen) >= MOST_KEYS:
                return
            seen = self._seen[key.id] = Seen(key.name)
        seen.note(network_of(caller.address), self._clock.now(), reads=int(result == READ))

    def answered(self) -> None:
        """Count any request."""
        self._failures.answered(self._clock.boot())

    def failed(self, address: str) -> None:
        """Count a request without a valid key."""
        for key, count in self._failures.failed(address, self._clock.boot()):
            everywhere = key == EVERYWHERE
            message = (
                f"{count} requests within five minutes had no valid access key, more than one in twenty"
                if everywhere
                else f"{count} requests from this address within a minute had no valid access key"
            )
            try:
                now = self._clock.now()
            except StoreLost:  # MongoDB has not answered since the start, so that no time is known
                return
            if self._counted.is_first(AnomalyKind.AUTH_FAILURES, key, hour=beginning(now, HOUR)):
                self._report(AnomalyKind.AUTH_FAILURES, key, count, now, message)

    def device_changed(self, caller: Caller, token: str) -> None:
        """A write has replaced the device or the network of a token's consent."""
        message = "a write names another device or network than the token's consent"
        self._about_token(AnomalyKind.SUBJECT_DEVICE_CHANGED, caller, token, message)

    def refused_again(self, caller: Caller, token: str) -> None:
        """The provider is said to refuse one new access token of a token after the other."""
        message = "the provider is said to have refused several new access tokens in a row"
        self._about_token(AnomalyKind.REFUSED_AGAIN, caller, token, message)

    def _about_token(self, kind: AnomalyKind, caller: Caller, token: str, message: str) -> None:
        now = self._clock.now()
        if self._counted.is_first(kind, caller.key.id, token, hour=beginning(now, HOUR)):
            self._report(kind, caller.key.id, 1, now, message, name=caller.key.name, token=token)

    # ---------------------------------------------------------------- every few seconds

    async def store(self) -> None:
        """Compare what was seen with the habits of the keys, and store it. If the store is lost, it stays in memory."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            habits = await self._habits.of(seen.keys())
            for key_id, one in seen.items():
                await self._compare(key_id, one, habits.get(key_id, Habit()))
            await self._habits.add(seen)
        except StoreLost:
            self._take_back(seen)
            raise

    async def _compare(self, key_id: str, seen: Seen, habit: Habit) -> None:
        for network in habit.new_networks(seen.networks):
            at = seen.networks[network]
            message = f"the key is used from {network}, for the first time in 30 days"
            kind = AnomalyKind.KEY_FROM_NEW_NETWORK
            if self._counted.is_first(kind, key_id, network, hour=beginning(at, HOUR)):
                claimed = await self._habits.claim(key_id, kind, beginning(at, HOUR))
                self._report(kind, key_id, 1, at, message, name=seen.name, claimed=claimed)
        for hour, reads in seen.reads.items():
            count = habit.reads.get(hour, 0) + reads
            if habit.is_burst(hour, count):
                usual = round(habit.usual_reads(hour))
                message = f"the key has read {count} times in this hour, and usually reads {usual} times"
                kind = AnomalyKind.READ_BURST
                first = self._counted.is_first(kind, key_id, hour=hour)
                if first and await self._habits.claim(key_id, kind, hour):
                    self._report(kind, key_id, count, hour, message, name=seen.name)

    def _report(
        self,
        kind: AnomalyKind,
        key: str,
        count: int,
        at: datetime,
        message: str,
        *,
        name: str | None = None,
        token: str | None = None,
        claimed: bool = True,
    ) -> None:
        """Report an anomaly. `claimed`: no other process has reported this kind for this key in this hour."""
        first = self._reported.is_first(kind, key, hour=beginning(at, HOUR))
        self._observe(
            AnomalyDetected(
                kind=kind,
                key=key,
                count=count,
                at=at,
                message=message,
                name=name,
                token=token,
                repeated=not (first and claimed),
            )
        )

    def _take_back(self, older: dict[str, Seen]) -> None:
        newer, self._seen = self._seen, older
        for key_id, one in newer.items():
            if (seen := self._seen.get(key_id)) is None:
                if len(self._seen) < MOST_KEYS:
                    self._seen[key_id] = one
                continue
            for network, at in one.networks.items():
                seen.note(network, at)
            for hour, reads in one.reads.items():
                seen.add(hour, reads)
