"""The page as a whole, from what needs somebody down to the versions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from daemon.runtime.status_page.attention import Readiness, attention
from daemon.runtime.status_page.facts import Facts, Fields, expired, states
from daemon.runtime.status_page.hours import last_hour, next_hour
from daemon.runtime.status_page.parts import instant, mark, moment, number, section, spaced, span, table, text
from daemon.runtime.status_page.style import STYLE
from daemon.runtime.status_page.words import OUTCOMES, OWNER, PAUSES, TIME, UNKNOWN_OUTCOME

PROSE = "{apart} ({clock})"

__all__ = ["Readiness", "render"]


def render(status: Mapping[str, object], readiness: Readiness) -> str:
    """The page for a status as `/status` tells it, and the checks as `/readyz` tells them."""
    facts = Facts(status)
    ready = all(ok for ok, _ in readiness.values())
    word = "Ready" if ready else "Not ready"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>refreshd: {word.lower()}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>refreshd</h1>{mark(word, 'good' if ready else 'bad')}<p>{_as_of(facts)}"
        '<a href="/">Reload</a></p></header><main>'
        f"{attention(facts, readiness)}{_tokens(facts)}{next_hour(facts)}{last_hour(facts)}{_providers(facts)}"
        f"{_failures(facts)}{_checks(readiness)}</main>{_footer(status)}</body></html>\n"
    )


def _as_of(facts: Facts) -> str:
    at = facts.now
    return (
        f'As of <time datetime="{text(facts.status["at"])}">{at:%Y-%m-%d %H:%M:%S} UTC</time> · '
        if at
        else ""
    )


def _tokens(facts: Facts) -> str:
    age = f"the oldest for {span(timedelta(seconds=facts.oldest_due_age))}" if facts.oldest_due_age else ""
    known = facts.counted_at is not None
    tiles = [
        *(
            (spaced(state).capitalize(), count if known else None, "")
            for state, count in facts.by_state().items()
        ),
        ("Past their expiry", facts.expired() if known else None, ""),
        ("Overdue", facts.status.get("overdue"), age),
        ("Replies in the journal", facts.journal, ""),
    ]
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{number(value)}{f'<small>{more}</small>' if more else ''}</dd></div>"
        for name, value, more in tiles
    )
    counted = moment(facts.status.get("counted_at"), facts.now, form=PROSE)
    said = f"Counted over the whole store {counted}." if known else "The store has not been counted yet."
    due = facts.status.get("next_due_at")
    upcoming = (
        f" The next token is due {moment(due, facts.now, form=PROSE)}."
        if due and not facts.oldest_due_age
        else ""
    )
    return section("tokens", "Tokens", f'<dl class="tiles">{items}</dl><p class="who">{said}{upcoming}</p>')


def _providers(facts: Facts) -> str:
    if not facts.providers:
        return section("providers", "Providers", "<p>None is configured.</p>")
    names = tuple(facts.by_state())
    heads = ("Provider", "State", *(spaced(name).capitalize() for name in names), "Expired", "In flight")
    rows = [
        (
            text(name),
            _provider_state(about),
            *(number(states(about).get(state, 0)) for state in names),
            number(expired(about)),
            number(about.get("in_flight", 0)),
        )
        for name, about in sorted(facts.providers.items())
    ]
    return section("providers", "Providers", table("Providers", heads, rows, numbers=len(names) + 2))


def _provider_state(about: Fields) -> str:
    if paused := about.get("paused"):
        who, advice = PAUSES.get(str(paused), ("", ""))
        weight = "warn" if who == TIME or paused == "operator" else "bad"
        return f"{mark(f'paused: {spaced(paused)}', weight)} <small>{advice}</small>"
    if not about.get("configured", True):
        return f"{mark('not configured', 'warn')} <small>Its tokens are not refreshed.</small>"
    return mark("working", "good")


def _failures(facts: Facts) -> str:
    if not facts.failures:
        return section("failures", "Last failures", "<p>None.</p>")
    by_kind: dict[str, list[Fields]] = {}
    for failure in facts.failures:  # newest first, and so are the kinds
        by_kind.setdefault(str(failure.get("kind")), []).append(failure)
    kinds = "".join(_kind(facts, kind, failures) for kind, failures in by_kind.items())
    return section("failures", "Last failures, and what to do", kinds)


def _kind(facts: Facts, name: str, failures: list[Fields]) -> str:
    about = OUTCOMES.get(name, UNKNOWN_OUTCOME)
    weight = {TIME: "calm", OWNER: "warn"}.get(about.who, "bad")
    rows = [
        (
            f"<code>{text(failure.get('token'))}</code>",
            moment(failure.get("at"), facts.now),
            f"<code>{text(failure.get('code'))}</code><small>{text(failure.get('message'))}</small>",
        )
        for failure in failures
    ]
    said = f"{about.means} <strong>{about.do}</strong>" if about.do else about.means
    return (
        f'<div class="kind"><h3>{mark(spaced(name), weight)}</h3><p>{said}</p>'
        f"{table(f'Last failures: {spaced(name)}', ('Token', 'When', 'Why'), rows)}</div>"
    )


def _checks(readiness: Readiness) -> str:
    rows = [
        (text(name), mark("passes" if ok else "fails", "good" if ok else "bad"), text(detail))
        for name, (ok, detail) in sorted(readiness.items(), key=lambda item: item[1][0])
    ]
    return section("checks", "Checks", table("Checks", ("Check", "Result", "Detail"), rows))


def _footer(status: Mapping[str, object]) -> str:
    versions = cast(Mapping[str, str], status.get("versions") or {})
    others = "".join(f" · {text(name)} {text(number_)}" for name, number_ in versions.items())
    return (
        f"<footer><p>refreshd {text(status.get('version'))}{others}</p>"
        f"<p>Instance <code>{text(status.get('instance'))}</code> · started {moment(status.get('started_at'), instant(status.get('at')), form=PROSE)}</p>"
        '<p>For machines: <a href="/status">status</a> · <a href="/readyz">checks</a> ·'
        ' <a href="/metrics">metrics</a></p></footer>'
    )
