"""The first section of the page: items that need attention, gravest first."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from daemon.runtime.web.status_page.hooks import unheard
from daemon.runtime.web.status_page.parts import (
    ids,
    instant,
    mark,
    moment,
    number,
    section,
    spaced,
    span,
    text,
)
from daemon.runtime.web.status_page.snapshot import Facts, Fields, count, expired, states
from daemon.runtime.web.status_page.texts import CHECKS, COUNTED, MANY_PAUSES, OWNER, PAUSES, TIME, YOU

Readiness = Mapping[str, tuple[bool, str]]

OVERDUE_NEWS = timedelta(minutes=1)  # longer than a due token waits for the next sweep
APART = 3  # so many providers with the same trouble have items of their own; more share one, so that no other is buried
WEIGHTS = ("bad", "warn", "calm")  # gravest first
_UNCONFIGURED, _LATE = "not configured", "past expiry"  # no pause has such a name
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
    alike: dict[str, dict[str, Fields]] = {}
    for name, about in sorted(facts.providers.items()):
        if trouble := _trouble(about):
            alike.setdefault(trouble, {})[name] = about
    for trouble, providers in alike.items():
        if len(providers) > APART:
            yield _of_many(trouble, providers)
        else:
            yield from (_of_provider(facts, name, about) for name, about in providers.items())
    for name, kind in COUNTED.items():
        counts = {provider: count(about, name) for provider, about in sorted(facts.providers.items())}
        if any(counts.values()):
            said = f"{_many(sum(counts.values()), kind.one, kind.more)}: {_each(counts)}. {kind.do}"
            yield Thing(kind.weight, kind.who, said)


def _trouble(about: Fields) -> str:
    """Return the reason that the provider's tokens are not refreshed, else that some have expired. Empty if none."""
    if paused := about.get("paused"):
        return str(paused)
    if not about.get("configured", True):
        return _UNCONFIGURED
    return _LATE if expired(about) else ""


def _of_provider(facts: Facts, name: str, about: Fields) -> Thing:
    provider, late, trouble = f"<strong>{text(name)}</strong>", expired(about), _trouble(about)
    past = (
        f"{_many(late, 'of its tokens is past its', 'of its tokens are past their')} expiry." if late else ""
    )
    if trouble == _LATE:
        return Thing("bad", YOU, f"{provider}: {past} Its last failures show the reason.")
    if trouble == _UNCONFIGURED:
        return Thing("warn", YOU, f"{provider} is not configured: its tokens are not refreshed. {past}")
    weight, who, do = _pause(trouble, late)
    said = f"{provider} is paused ({text(spaced(trouble))}). {do} {past} {probed(facts, about)}"
    return Thing(weight, who, said)


def _of_many(trouble: str, providers: Mapping[str, Fields]) -> Thing:
    """Describe more than APART providers with the same trouble. A number behind a name counts its expired tokens."""
    late = {name: expired(about) for name, about in providers.items()}
    many, total = number(len(providers)), sum(late.values())
    each = ", ".join(
        f"<strong>{text(name)}</strong>{f' {number(n)}' if n else ''}" for name, n in late.items()
    )
    if trouble == _LATE:
        said = f"{many} providers have tokens past their expiry: {each}. The last failures show the reason."
        return Thing("bad", YOU, said)
    past = f"The numbers count their tokens past the expiry, {number(total)} in total." if total else ""
    if trouble == _UNCONFIGURED:
        said = f"{many} providers are not configured: {each}. Their tokens are not refreshed. {past}"
        return Thing("warn", YOU, said)
    weight, who, do = _pause(trouble, total)
    do = f"{do} {MANY_PAUSES.get(trouble, '')}"
    return Thing(weight, who, f"{many} providers are paused ({text(spaced(trouble))}): {each}. {do} {past}")


def _pause(reason: str, late: int) -> tuple[str, str, str]:
    """Return the weight of a pause, who must act, and the advice."""
    who, do = PAUSES.get(reason, (YOU, ""))
    weight = "bad" if late or who == YOU else "warn"
    return "calm" if reason == "operator" else weight, who, do


def probed(facts: Facts, about: Fields) -> str:
    """Say when a paused provider is probed next."""
    at = instant(stated := about.get("next_probe_at"))
    if not stated:
        return ""
    verb = "was" if at is not None and facts.now is not None and at < facts.now else "is"
    return f"The next probe {verb} due {moment(stated, facts.now, form='{apart} ({clock})')}."


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
