"""The last failures by kind, gravest first. Each kind lists every provider and reason once, with a count."""

from collections.abc import Sequence

from daemon.runtime.web.status_page.attention import WEIGHTS
from daemon.runtime.web.status_page.parts import ids, mark, moment, number, section, spaced, table, text
from daemon.runtime.web.status_page.snapshot import Facts, Fields
from daemon.runtime.web.status_page.texts import OUTCOMES, OWNER, TIME, UNKNOWN_OUTCOME

HEADS = ("Provider", "Why", "Which", "Last", "Of these")
SHOWN = 2  # ids of one reason; the others are a click away
_WEIGHTS = {TIME: "calm", OWNER: "warn"}


def failures(facts: Facts) -> str:
    if not facts.failures:
        return section("failures", "Last failures", "<p>None.</p>")
    by_kind: dict[str, list[Fields]] = {}
    for failure in facts.failures:  # newest first, and so are the kinds of one weight
        by_kind.setdefault(str(failure.get("kind")), []).append(failure)
    gravest = sorted(by_kind, key=lambda kind: WEIGHTS.index(_weight(kind)))
    kinds = "".join(_kind(facts, kind, by_kind[kind]) for kind in gravest)
    newest = (
        f'<p class="who">The newest {number(len(facts.failures))} of the whole store, grouped by kind.'
        " <code>refreshd list --failing</code> shows all tokens whose last refresh failed.</p>"
    )
    return section("failures", "Last failures and what to do", newest + kinds)


def _weight(kind: str) -> str:
    return _WEIGHTS.get(OUTCOMES.get(kind, UNKNOWN_OUTCOME).who, "bad")


def _kind(facts: Facts, name: str, alike: Sequence[Fields]) -> str:
    about = OUTCOMES.get(name, UNKNOWN_OUTCOME)
    by_reason: dict[tuple[str, str], list[Fields]] = {}
    for failure in alike:
        by_reason.setdefault((str(failure.get("provider")), str(failure.get("code"))), []).append(failure)
    most = sorted(by_reason.values(), key=len, reverse=True)
    said = f"{about.means} <strong>{about.do}</strong>" if about.do else about.means
    rows = [_reason(facts, each) for each in most]
    return (
        f'<div class="kind"><h3>{mark(spaced(name), _weight(name))}</h3><p>{said}</p>'
        f"{table(f'Last failures: {spaced(name)}', HEADS, rows, numbers=1)}</div>"
    )


def _reason(facts: Facts, alike: Sequence[Fields]) -> tuple[str, ...]:
    newest = alike[0]
    return (
        text(newest.get("provider")),
        f"<code>{text(newest.get('code'))}</code><small>{text(newest.get('message'))}</small>",
        ids([failure.get("token") for failure in alike], first=SHOWN),
        moment(newest.get("at"), facts.now),
        number(len(alike)),
    )
