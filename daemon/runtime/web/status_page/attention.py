"""The first section of the page: items that need attention, gravest first."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from daemon.runtime.web.status_page.hooks import unheard
from daemon.runtime.web.status_page.parts import ids, mark, moment, number, section, spaced, span, text
from daemon.runtime.web.status_page.snapshot import Facts, Fields, count, expired, states
from daemon.runtime.web.status_page.texts import CHECKS, COUNTED, OWNER, PAUSES, TIME, YOU

Readiness = Mapping[str, tuple[bool, str]]

OVERDUE_NEWS = timedelta(minutes=1)  # longer than a due token waits for the next sweep
WEIGHTS = ("bad", "warn", "calm")  # gravest first
_MARKS = {YOU: "You", OWNER: "Its owner", TIME: "Time"}
_NEED = {
    YOU: ("needs you", "need you"),
    OWNER: ("needs its owner", "need their owners"),
    TIME: ("needs time", "need time"),
}


class Thing(NamedTuple):
    """`who` must act on it. `said` is HTML."""

    weight: str
    who: str
    said: str


def things(facts: Facts, readiness: Readiness) -> list[Thing]:
    found = (*_checks(readiness), *_providers(facts), *_owners(facts), *_waiting(facts), *_warned(facts))
    return sorted(found, key=lambda thing: WEIGHTS.index(thing.weight))


def needs(found: Sequence[Thing]) -> str:
    """Count the items by who must act: "2 need you, 1 needs its owner". Empty if there are none."""
    by = Counter(thing.who for thing in found)
    return ", ".join(_many(by[who], one, more) for who, (one, more) in _NEED.items() if by[who])


def attention(found: Sequence[Thing]) -> str:
    if not found:
        calm = "Every check passes, no provider is paused, and no token has expired or needs a new consent."
        return section("attention", "All is well", f"<p>{mark('Nobody', 'good')} has to act. {calm}</p>")
    title = "One thing to know" if len(found) == 1 else f"{len(found)} things to know"
    items = "".join(f"<li>{mark(_MARKS[who], weight)}<div>{said}</div></li>" for weight, who, said in found)
    lead = '<p class="who unseen">Each item begins with who must act.</p>'
    return section("attention", title, f'{lead}<ul class="things">{items}</ul>')


def _checks(readiness: Readiness) -> Iterator[Thing]:
    for name, (ok, detail) in readiness.items():
        if not ok:
            said = f"The check <strong>{text(name)}</strong> fails: {text(detail)}. {CHECKS.get(name, '')}"
            yield Thing("bad", YOU, said)


def _providers(facts: Facts) -> Iterator[Thing]:
    for name, about in sorted(facts.providers.items()):
        yield from _of_provider(facts, name, about)
    for name, kind in COUNTED.items():
        counts = {provider: count(about, name) for provider, about in sorted(facts.providers.items())}
        if any(counts.values()):
            said = f"{_many(sum(counts.values()), kind.one, kind.more)}: {_each(counts)}. {kind.do}"
            yield Thing(kind.weight, kind.who, said)


def _of_provider(facts: Facts, name: str, about: Fields) -> Iterator[Thing]:
    """Yield at most one item: the reason that its tokens are not refreshed, else that some have expired."""
    provider, late = f"<strong>{text(name)}</strong>", expired(about)
    past = f"{_many(late, 'token of it is past its', 'tokens of it are past their')} expiry." if late else ""
    if paused := about.get("paused"):
        who, do = PAUSES.get(str(paused), (YOU, ""))
        weight = "bad" if late or who == YOU else "warn"
        weight = "calm" if paused == "operator" else weight
        probe = probed(facts, about)
        yield Thing(weight, who, f"{provider} is paused ({text(spaced(paused))}). {do} {past} {probe}")
    elif not about.get("configured", True):
        yield Thing("warn", YOU, f"{provider} is not configured: its tokens are not refreshed. {past}")
    elif late:
        yield Thing("bad", YOU, f"{provider}: {past} Its last failures show the reason.")


def probed(facts: Facts, about: Fields) -> str:
    """Say when a paused provider is probed next."""
    at = about.get("next_probe_at")
    return f"The next probe is due {moment(at, facts.now, form='{apart} ({clock})')}." if at else ""


def _owners(facts: Facts) -> Iterator[Thing]:
    dead = {name: states(about).get("needs_reauth", 0) for name, about in sorted(facts.providers.items())}
    if any(dead.values()):
        need = _many(sum(dead.values()), "token needs", "tokens need")
        yield Thing("calm", OWNER, f"{need} a new consent: {_each(dead)}. {ids(facts.needs_reauth)}")


def _waiting(facts: Facts) -> Iterator[Thing]:
    if facts.counted_late:
        said = "The store has not been counted yet, so this page has no figures about stored tokens."
        if facts.counted_at:
            since = moment(facts.status.get("counted_at"), facts.now, form="{apart}")
            said = (
                f"The store was last counted {since}: this page's figures about stored tokens are from then."
            )
        yield Thing(
            "bad", YOU, f"{said} See <code>count.failed</code> or <code>internal.error</code> in the log."
        )
    if facts.oldest_due_age >= OVERDUE_NEWS.total_seconds():
        age = span(timedelta(seconds=facts.oldest_due_age))
        yield Thing("warn", TIME, f"The oldest due token has waited for <strong>{age}</strong>.")
    if facts.journal:
        waiting = _many(facts.journal, "reply waits", "replies wait")
        yield Thing(
            "warn", TIME, f"{waiting} in the journal until MongoDB confirms the result. None is lost."
        )


def _warned(facts: Facts) -> Iterator[Thing]:
    for warning in facts.warnings:
        yield Thing("warn", YOU, f"{text(warning[:1].upper())}{text(warning[1:])}.")
    for said in unheard(facts):
        yield Thing("warn", YOU, said)


def _each(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"<strong>{text(name)}</strong> {number(count)}" for name, count in counts.items() if count
    )


def _many(several: int, one: str, more: str) -> str:
    return f"{number(several)} {one if several == 1 else more}"
