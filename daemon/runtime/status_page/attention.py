"""What needs somebody, worst first: the first thing that the page says."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from daemon.runtime.status_page.facts import Facts, Fields, ending, expired, states
from daemon.runtime.status_page.parts import mark, number, section, spaced, span, text
from daemon.runtime.status_page.words import CHECKS, OWNER, PAUSES, TIME, YOU

Readiness = Mapping[str, tuple[bool, str]]

OVERDUE_NEWS = timedelta(minutes=1)  # what is due waits for the next sweep; this is longer
_MARKS = {YOU: "You", OWNER: "Its owner", TIME: "Time"}
_ORDER = ("bad", "warn", "calm")


class Thing(NamedTuple):
    weight: str
    who: str
    said: str  # HTML


def attention(facts: Facts, readiness: Readiness) -> str:
    things = sorted(_things(facts, readiness), key=lambda thing: _ORDER.index(thing.weight))
    if not things:
        calm = "Every check passes, no provider is paused, and no token has expired or needs a new consent."
        return section("attention", "All is well", f"<p>{mark('Nobody', 'good')} has to act. {calm}</p>")
    title = "One thing to know" if len(things) == 1 else f"{len(things)} things to know"
    items = "".join(f"<li>{mark(_MARKS[who], weight)}<div>{said}</div></li>" for weight, who, said in things)
    lead = '<p class="who unseen">Each item begins with who must act.</p>'
    return section("attention", title, f'{lead}<ul class="things">{items}</ul>')


def _things(facts: Facts, readiness: Readiness) -> Iterator[Thing]:
    for name, (ok, detail) in readiness.items():
        if not ok:
            said = f"The check <strong>{text(name)}</strong> fails: {text(detail)}. {CHECKS.get(name, '')}"
            yield Thing("bad", YOU, said)
    for name, about in sorted(facts.providers.items()):
        yield from _of_provider(name, about)
    known = sorted(facts.providers.items())
    dead = {name: states(about).get("needs_reauth", 0) for name, about in known}
    if any(dead.values()):
        need = _many(sum(dead.values()), "token needs", "tokens need")
        yield Thing("calm", OWNER, f"{need} a new consent: {_each(dead)}.")
    soon = {name: ending(about) for name, about in known}
    if any(soon.values()):
        need = _many(sum(soon.values()), "token will", "tokens will")
        yield Thing("calm", OWNER, f"{need} need a new consent within a week: {_each(soon)}.")
    if facts.oldest_due_age >= OVERDUE_NEWS.total_seconds():
        age = span(timedelta(seconds=facts.oldest_due_age))
        yield Thing("warn", TIME, f"The oldest due token has waited for <strong>{age}</strong>.")
    if facts.journal:
        waiting = _many(facts.journal, "reply waits", "replies wait")
        yield Thing(
            "warn", TIME, f"{waiting} in the journal until MongoDB confirms what became of it. None is lost."
        )


def _of_provider(name: str, about: Fields) -> Iterator[Thing]:
    """At most one thing: what keeps its tokens from being refreshed, or else that some have expired all the same."""
    provider, late = f"<strong>{text(name)}</strong>", expired(about)
    past = f"{_many(late, 'token of it is past its', 'tokens of it are past their')} expiry." if late else ""
    if paused := about.get("paused"):
        who, do = PAUSES.get(str(paused), (YOU, ""))
        weight = "bad" if late or who == YOU else "warn"
        weight = "calm" if paused == "operator" else weight
        yield Thing(weight, who, f"{provider} is paused ({text(spaced(paused))}). {do} {past}")
    elif not about.get("configured", True):
        yield Thing("warn", YOU, f"{provider} is not configured: its tokens are not refreshed. {past}")
    elif late:
        yield Thing("bad", YOU, f"{provider}: {past} Its last failures say why.")


def _each(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"<strong>{text(name)}</strong> {number(count)}" for name, count in counts.items() if count
    )


def _many(count: int, one: str, more: str) -> str:
    return f"{number(count)} {one if count == 1 else more}"
