"""The next hour and the last one, in plots: due tokens, renewals, failures, and the time that was left."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from daemon.runtime.web.status_page.parts import mark, number, section, spaced, span, table, text
from daemon.runtime.web.status_page.plots import COUNTS, DURATIONS, LAST_HOUR, NEXT_HOUR, Plot, draw
from daemon.runtime.web.status_page.snapshot import Facts
from daemon.runtime.web.status_page.texts import NOBODY, OUTCOMES, OWNER, TIME, UNKNOWN_OUTCOME

STEP = 5  # minutes; also the grain of the tables
FINE = frozenset({"renewed", "superseded"})
_WEIGHTS = {NOBODY: "good", TIME: "calm", OWNER: "warn"}


def next_hour(facts: Facts) -> str:
    if facts.counted_at is None:
        return section("next", "The next hour", "<p>The store has not been counted yet.</p>")
    return section("next", "The next hour", f'<div class="plots">{draw(_due(facts))}</div>')


def last_hour(facts: Facts) -> str:
    """Render the section about this process. Other replicas have their own pages."""
    own = '<p class="who">What this instance did since its start, at most an hour ago. Other instances have their own pages.</p>'
    fine = [name for name in facts.outcomes if name in FINE]
    failing = [name for name in facts.outcomes if name not in FINE]
    plots = (
        _outcomes(facts, "renewed", "Renewed, by minute", fine),
        _outcomes(facts, "failed", "Not renewed, by minute", failing, kind="failing"),
        _lead(facts),
    )
    drawn = "".join(map(draw, plots))
    return section(
        "last", "The last hour", f'{own}<div class="plots">{drawn}<div>{_totals(facts)}</div></div>'
    )


def _due(facts: Facts) -> Plot:
    counts = list(facts.due_next_hour)
    most = counts.index(max(counts))
    summary = "No token falls due."
    if any(counts):
        total, peak = number(sum(counts)), number(counts[most])
        summary = f"{total} tokens fall due, with a peak of {peak} {_prefetch(facts.counted_at, most)}."
    return Plot(
        name="due",
        title="Tokens that fall due, by five minutes",
        summary=summary,
        values=counts,
        axis=NEXT_HOUR,
        say=_count,
        scale=COUNTS,
        label=lambda place: _prefetch(facts.counted_at, place),
        heads=("When", "Tokens"),
        rows=[(_prefetch(facts.counted_at, place), number(count)) for place, count in enumerate(counts)],
    )


def _outcomes(facts: Facts, name: str, title: str, names: Iterable[str], *, kind: str = "") -> Plot:
    columns = [facts.outcomes[each] for each in names]
    minutes = [sum(each) for each in zip(*columns, strict=True)] or [0] * 60
    summary = "None."
    if any(minutes):
        most = minutes.index(max(minutes))
        summary = (
            f"{number(sum(minutes))} in total, at most {number(minutes[most])} in a minute ({_ago(most)})."
        )
    return Plot(
        name=name,
        title=title,
        summary=summary,
        values=minutes,
        axis=LAST_HOUR,
        say=_count,
        scale=COUNTS,
        label=_ago,
        heads=("When", "Tokens"),
        rows=_by_five(minutes, lambda five: number(round(sum(filter(None, five))))),
        kind=kind,
    )


def _lead(facts: Facts) -> Plot:
    measured = [value for value in facts.shortest_lead if value is not None]
    summary = "No token was renewed."
    if measured:
        late = (
            "none was late" if not facts.late else f"{number(facts.late)} came after the old token's expiry"
        )
        summary = f"The shortest was {_time(min(measured))}; {late}. Columns show the shortest of each minute, dashes the mean."

    def shortest(five: Sequence[float | None]) -> str:
        values = [value for value in five if value is not None]
        return _time(min(values)) if values else text(None)

    return Plot(
        name="lead",
        title="Time left when renewed, by minute",
        summary=summary,
        values=facts.shortest_lead or [None] * 60,
        ticks=facts.mean_lead,
        axis=LAST_HOUR,
        say=_time,
        scale=DURATIONS,
        label=_ago,
        heads=("When", "Shortest"),
        rows=_by_five(facts.shortest_lead or [None] * 60, shortest),
    )


def _totals(facts: Facts) -> str:
    totals = Counter({name: sum(minutes) for name, minutes in facts.outcomes.items()})
    if not totals:
        return ""
    rows = []
    for name, count in totals.most_common():
        about = OUTCOMES.get(name, UNKNOWN_OUTCOME)
        word = f"{mark(spaced(name), _WEIGHTS.get(about.who, 'bad'))}<small>{about.means}</small>"
        rows.append((word, text(about.who), number(count)))
    return f"<h3>Outcomes</h3>{table('Outcomes', ('Outcome', 'Who must act', 'Tokens'), rows, numbers=1)}"


def _by_five(
    minutes: Sequence[float | None], combine: Callable[[Sequence[float | None]], str]
) -> list[tuple[str, str]]:
    starts = range(0, len(minutes), STEP)
    return [
        (
            f"{len(minutes) - start} to {len(minutes) - start - STEP} min ago",
            combine(minutes[start : start + STEP]),
        )
        for start in starts
    ]


def _prefetch(since: datetime | None, place: int) -> str:
    if since is None:
        return f"in {place * STEP} to {(place + 1) * STEP} min"
    start, end = (since + timedelta(minutes=each * STEP) for each in (place, place + 1))
    return f"from {start:%H:%M} to {end:%H:%M}"


def _ago(minute: int) -> str:
    back = 59 - minute
    return f"{back} min ago" if back else "in this minute"


def _count(value: float) -> str:
    return number(round(value))


def _time(seconds: float) -> str:
    return (
        f"{span(timedelta(seconds=-seconds))} too late" if seconds < 0 else span(timedelta(seconds=seconds))
    )
