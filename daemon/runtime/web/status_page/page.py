"""The whole page, from the items that need action down to the versions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import cast

from daemon.runtime.web.status_page.attention import Readiness, attention, needs, probed, things
from daemon.runtime.web.status_page.failures import failures
from daemon.runtime.web.status_page.hooks import hooks
from daemon.runtime.web.status_page.hours import last_hour, next_hour
from daemon.runtime.web.status_page.parts import (
    instant,
    mark,
    moment,
    number,
    section,
    spaced,
    span,
    table,
    text,
)
from daemon.runtime.web.status_page.snapshot import Facts, Fields, count, expired, states
from daemon.runtime.web.status_page.style import STYLE
from daemon.runtime.web.status_page.texts import PAUSES, TIME

PROSE = "{apart} ({clock})"
RELOADED = timedelta(minutes=1)  # the browser reloads the page after this time, without a script

__all__ = ["Readiness", "render"]


def render(status: Mapping[str, object], readiness: Readiness, *, draining: bool = False) -> str:
    """Render the page for a status as `/status` returns it and checks as `/readyz` returns them."""
    facts = Facts(status)
    found = things(facts, readiness)
    ready = all(ok for ok, _ in readiness.values())
    word, kind = ("Draining", "warn") if draining else ("Ready", "good") if ready else ("Not ready", "bad")
    need = needs(found)
    called = mark(need, found[0].weight) if found else ""  # the gravest comes first
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{RELOADED.seconds}">'
        f"<title>refreshd: {word.lower()}{f', {need}' if need else ''}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>refreshd</h1>{mark(word, kind)}{called}<p>{_as_of(facts)}"
        '<a href="/">Reload</a></p></header><main>'
        f"{attention(found)}{_tokens(facts)}{next_hour(facts)}{last_hour(facts)}{_providers(facts)}"
        f"{hooks(facts)}{failures(facts)}{_checks(readiness)}</main>{_footer(status)}</body></html>\n"
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
    is_counted = facts.counted_at is not None
    tiles = [
        *(
            (spaced(state).capitalize(), count if is_counted else None, "")
            for state, count in facts.by_state().items()
        ),
        ("Past their expiry", facts.expired() if is_counted else None, ""),
        ("Overdue", facts.status.get("overdue"), age),
        ("Replies in the journal", facts.journal, ""),
    ]
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{number(value)}{f'<small>{more}</small>' if more else ''}</dd></div>"
        for name, value, more in tiles
    )
    counted = moment(facts.status.get("counted_at"), facts.now, form=PROSE)
    said = f"Counted over the whole store {counted}." if is_counted else "The store has not been counted yet."
    return section(
        "tokens", "Tokens", f'<dl class="tiles">{items}</dl><p class="who">{said}{_upcoming(facts)}</p>'
    )


def _upcoming(facts: Facts) -> str:
    """When the next token is due. The count is a few seconds old, so that time may have come."""
    due = instant(facts.status.get("next_due_at"))
    if due is None or facts.oldest_due_age:
        return ""
    if facts.now is not None and due <= facts.now:
        return " The next token is due now."
    return f" The next token is due {moment(facts.status.get('next_due_at'), facts.now, form=PROSE)}."


def _providers(facts: Facts) -> str:
    if not facts.providers:
        return section("providers", "Providers", "<p>None is configured.</p>")
    names = tuple(facts.by_state())
    heads = (
        "Provider",
        "State",
        *(spaced(name).capitalize() for name in names),
        "Expired",
        "Stuck",
        "In flight",
    )
    rows = [
        (
            text(name),
            _provider_state(facts, about),
            *(number(states(about).get(state, 0)) for state in names),
            number(expired(about)),
            number(count(about, "stuck")),
            number(about.get("in_flight", 0)),
        )
        for name, about in sorted(facts.providers.items())
    ]
    rest = (
        f'<p class="who">{number(facts.left_out)} more have stored tokens but are not configured.</p>'
        if facts.left_out
        else ""
    )
    return section("providers", "Providers", table("Providers", heads, rows, numbers=len(names) + 3) + rest)


def _provider_state(facts: Facts, about: Fields) -> str:
    if paused := about.get("paused"):
        who, _ = PAUSES.get(str(paused), ("", ""))
        weight = "warn" if who == TIME or paused == "operator" else "bad"
        return f"{mark(f'paused: {spaced(paused)}', weight)} <small>{probed(facts, about)}</small>"
    if not about.get("configured", True):
        return f"{mark('not configured', 'warn')} <small>Its tokens are not refreshed.</small>"
    if count(about, "failed_passes"):
        return f"{mark('failing', 'bad')} <small>Its tokens may not be refreshed, because of a bug. See <code>internal.error</code> in the log.</small>"
    return mark("late", "bad") if expired(about) else mark("working", "good")


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
