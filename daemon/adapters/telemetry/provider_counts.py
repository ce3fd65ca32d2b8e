"""What this process has counted for each provider since its start.

A scrape of 500 providers must stay small, so a series exists from the start only if an alert needs its zero:
Prometheus sees no increase in a series that begins with its first count. All others begin with the first count.

A counter never goes down in one process, and neither does a sum over providers. So the counts of a provider that a
reload removed stay, without their zeros, and go on if it comes back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.metrics_core import Metric

from daemon.adapters.telemetry.metric_families import UNKNOWN, Distributions, counter, gauges
from daemon.adapters.telemetry.subscriptions import Subscriptions, on
from daemon.domain.deviation import DriftKind
from daemon.domain.event import (
    InFlight,
    LaneFailed,
    LateReplyRevoked,
    ProviderAnswered,
    ProviderDrifted,
    ProviderThrottled,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.token import FailureKind

OUTCOMES = ("renewed", "unparsed", "rejected", "misconfigured", "unavailable", "superseded", "unreadable")
REVOCATION_OUTCOMES = ("revoked", "postponed", "failed", "late_reply")
DRIFT_KINDS = tuple(kind.value for kind in DriftKind)
LEAD_BUCKETS = (0.0, 15.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0)
DURATION_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # the last: the usual request timeout
# What an alert asks for with increase(). A superseded refresh isn't a failure, and only a failed revocation needs a person.
ALERTED_OUTCOMES = tuple(outcome for outcome in OUTCOMES if outcome != "superseded")
ALERTED_REVOCATIONS = ("failed",)

_OUTCOME_OF = {
    FailureKind.REJECTED: "rejected",
    FailureKind.MISCONFIGURED: "misconfigured",
    FailureKind.UNAVAILABLE: "unavailable",
    FailureKind.UNPARSED: "unparsed",
    FailureKind.IN_DOUBT: "unavailable",
    FailureKind.UNREADABLE: "unreadable",
    FailureKind.UNCONFIGURED: "unreadable",
    FailureKind.STUCK: "unavailable",
    FailureKind.UNSUPPORTED: "unreadable",
    FailureKind.DUPLICATE: "unreadable",
}
REMOVED = (
    100  # providers: a process that lost more than these forgets the first of them, or its scrapes would grow
)
_NARROW = 0.2  # of its window: a renewal that leaves less was close


class _Tally:
    """Counts of one provider since the start."""

    __slots__ = (
        "drift",
        "in_doubt",
        "in_flight",
        "late",
        "narrow",
        "outcomes",
        "passes_failed",
        "revocations",
        "throttled",
    )

    def __init__(self, *, every: bool) -> None:
        """`every`: each series exists from the start. So the labels are there to be seen, once."""
        self.outcomes = dict.fromkeys(OUTCOMES if every else ALERTED_OUTCOMES, 0)
        self.revocations = dict.fromkeys(REVOCATION_OUTCOMES if every else ALERTED_REVOCATIONS, 0)
        self.drift = dict.fromkeys(DRIFT_KINDS if every else (), 0)
        self.late: int | None = 0 if every else None
        self.narrow = 0
        self.in_doubt = 0
        self.throttled = 0
        self.passes_failed = 0
        self.in_flight: int | None = 0 if every else None

    def leave(self) -> None:
        """Keep only what was counted: its provider is removed."""
        self.outcomes, self.revocations, self.drift = (
            {label: count for label, count in counts.items() if count}
            for counts in (self.outcomes, self.revocations, self.drift)
        )
        self.in_flight = None

    def come_back(self) -> None:
        """Show every series that an alert needs at zero again."""
        self.outcomes = dict.fromkeys(ALERTED_OUTCOMES, 0) | self.outcomes
        self.revocations = dict.fromkeys(ALERTED_REVOCATIONS, 0) | self.revocations


class ProviderCounts:
    """Subscribes to the events of providers and their tokens."""

    def __init__(self, names: Iterable[str]) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._removed: dict[str, _Tally] = {}  # the last one that was removed comes last
        self._duration = Distributions(DURATION_BUCKETS)
        self._lead = Distributions(LEAD_BUCKETS)
        self.set_providers(names)

    @property
    def names(self) -> Iterable[str]:
        """Return the configured providers and `unknown`, in order."""
        return self._tallies.keys()

    def set_providers(self, names: Iterable[str]) -> None:
        ordered = sorted({*names, UNKNOWN})
        for name in [name for name in self._tallies if name not in ordered]:
            self._removed[name] = self._tallies[name]
            self._removed[name].leave()
        self._tallies = {name: self._tally(name) for name in ordered}
        for name in list(self._removed)[:-REMOVED]:
            del self._removed[name]
        self._unknown = self._tallies[UNKNOWN]
        for distributions in (self._duration, self._lead):
            distributions.keep(self._tallies)

    def _tally(self, name: str) -> _Tally:
        if (back := self._removed.pop(name, None)) is not None:
            back.come_back()
            return back
        return self._tallies.get(name) or _Tally(every=name == UNKNOWN)

    def subscriptions(self) -> Subscriptions:
        return dict(
            (
                on(InFlight, self._in_flight),
                on(ProviderAnswered, self._answered),
                on(ProviderThrottled, self._throttled),
                on(ProviderDrifted, self._drifted),
                on(LaneFailed, self._pass_failed),
                on(TokenRenewed, self._renewed),
                on(TokenPostponed, self._failed),
                on(TokenStuck, self._failed),
                on(TokenUnparsed, self._failed),
                on(TokenNeedsReauth, self._failed),
                on(TokenSuperseded, lambda event: self._ended(event.provider, "superseded")),
                on(TokenUnreadable, lambda event: self._ended(event.provider, "unreadable")),
                on(TokenInDoubt, self._in_doubt),
                on(TokenRevoked, lambda event: self._revocation(event.provider, "revoked")),
                on(TokenRevocationPostponed, lambda event: self._revocation(event.provider, "postponed")),
                on(TokenRevocationFailed, lambda event: self._revocation(event.provider, "failed")),
                on(LateReplyRevoked, lambda event: self._revocation(event.provider, "late_reply")),
            )
        )

    # ------------------------------------------------------------------ what happens

    def _of(self, provider: str) -> _Tally:
        return self._tallies.get(provider, self._unknown)

    def _label(self, provider: str) -> str:
        return provider if provider in self._tallies else UNKNOWN

    def _in_flight(self, event: InFlight) -> None:
        self._of(event.provider).in_flight = event.count

    def _answered(self, event: ProviderAnswered) -> None:
        self._duration.add(self._label(event.provider), event.duration.total_seconds())

    def _throttled(self, event: ProviderThrottled) -> None:
        self._of(event.provider).throttled += 1

    def _drifted(self, event: ProviderDrifted) -> None:
        drift = self._of(event.provider).drift
        drift[event.kind.value] = drift.get(event.kind.value, 0) + 1

    def _pass_failed(self, event: LaneFailed) -> None:
        if event.failures:  # else a pass has worked again
            self._of(event.provider).passes_failed += 1

    def _renewed(self, event: TokenRenewed) -> None:
        tally = self._of(event.provider)
        tally.outcomes["renewed"] += 1
        if event.lead is None:
            return
        left = event.lead.total_seconds()
        enough = event.window.total_seconds() * _NARROW if event.window is not None else 0.0
        if left < enough:
            tally.narrow += 1
        if left < 0:
            tally.late = (tally.late or 0) + 1
            left = 0.0
        self._lead.add(self._label(event.provider), left)

    def _failed(self, event: TokenPostponed | TokenStuck | TokenUnparsed | TokenNeedsReauth) -> None:
        self._ended(event.provider, _OUTCOME_OF[event.failure.kind])

    def _in_doubt(self, event: TokenInDoubt) -> None:
        self._of(event.provider).in_doubt += 1
        self._ended(event.provider, "unavailable")

    def _ended(self, provider: str, outcome: str) -> None:
        outcomes = self._of(provider).outcomes
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    def _revocation(self, provider: str, outcome: str) -> None:
        revocations = self._of(provider).revocations
        revocations[outcome] = revocations.get(outcome, 0) + 1

    # ------------------------------------------------------------------ laid out at each scrape

    def collect(self) -> Iterator[Metric]:
        yield self._labelled("refreshes", "Refreshes, by outcome.", "outcome", lambda one: one.outcomes)
        yield self._labelled(
            "revocations",
            "Revocations of grants, by outcome. A failed one needs an operator.",
            "outcome",
            lambda one: one.revocations,
        )
        yield self._plain(
            "late_renewals", "Renewals stored after the old token's expiry.", lambda one: one.late
        )
        yield self._plain(
            "narrow_renewals",
            "Renewals stored with less than a fifth of their window left, including the late ones.",
            lambda one: one.narrow,
        )
        yield self._plain(
            "throttled",
            "Responses in which the provider asked to slow down (HTTP 429 or equivalent).",
            lambda one: one.throttled,
        )
        yield self._labelled(
            "provider_drift",
            "Differences found between a provider's behaviour and its definition, by kind.",
            "kind",
            lambda one: one.drift,
        )
        yield self._plain(
            "in_doubt",
            "Requests without a usable reply that the provider may have processed.",
            lambda one: one.in_doubt,
        )
        yield self._duration.family("refresh_duration_seconds", "Response time of the provider.")
        yield self._lead.family(
            "refresh_lead_seconds", "Remaining lifetime of the old token when the new one was stored."
        )
        yield self._plain(
            "lane_failures",
            "Passes over a provider's tokens that failed with an unexpected error.",
            lambda one: one.passes_failed,
        )
        yield gauges("in_flight", "Requests in flight.", ["provider"], self._rows(lambda one: one.in_flight))

    def _all(self) -> Iterator[tuple[str, _Tally]]:
        yield from self._tallies.items()
        yield from self._removed.items()

    def _plain(self, name: str, documentation: str, count: Callable[[_Tally], int | None]) -> Metric:
        return counter(name, documentation, ["provider"], self._rows(count))

    def _rows(self, count: Callable[[_Tally], int | None]) -> dict[tuple[str, ...], int]:
        """Return the count of each provider that has one."""
        counts = ((provider, count(tally)) for provider, tally in self._all())
        return {
            (provider,): n for provider, n in counts if n or (n is not None and provider in self._tallies)
        }

    def _labelled(
        self, name: str, documentation: str, label: str, counts: Callable[[_Tally], Mapping[str, int]]
    ) -> Metric:
        rows: dict[tuple[str, ...], int] = {
            (provider, value): n for provider, tally in self._all() for value, n in counts(tally).items()
        }
        return counter(name, documentation, ["provider", label], rows)
