"""The section about hooks: what waits for each receiver. There is none without a hook."""

from collections.abc import Iterator
from datetime import timedelta

from daemon.runtime.web.status_page.parts import instant, mark, moment, number, section, table, text
from daemon.runtime.web.status_page.snapshot import Facts, Fields, count

LATE = timedelta(minutes=30)  # as the alert RefreshdHookLagging has it
_HEADS = ("Hook", "State", "Oldest", "Waiting")


def hooks(facts: Facts) -> str:
    if not facts.hooks:
        return ""
    rows = [
        (
            text(one.get("name")),
            _state(facts, one),
            moment(one["oldest_at"], facts.now) if one.get("oldest_at") else text(None),
            number(count(one, "waiting")),
        )
        for one in facts.hooks
    ]
    return section("hooks", "Hooks", table("Hooks", _HEADS, rows, numbers=1))


def unheard(facts: Facts) -> Iterator[str]:
    """Yield what an operator has to know about hooks, as HTML."""
    for one in facts.hooks:
        name = f"The hook <strong>{text(one.get('name'))}</strong>"
        if one.get("disabled"):
            yield f"{name} is disabled: its receiver is gone. Correct its section, and reload."
        elif is_late(facts, one):
            yield f"{name}: its oldest event is from {moment(one['oldest_at'], facts.now, form='{apart}')}, and not delivered. See <code>refreshd hooks failed</code>."


def is_late(facts: Facts, one: Fields) -> bool:
    oldest = instant(one.get("oldest_at"))
    return oldest is not None and facts.now is not None and facts.now - oldest > LATE


def _state(facts: Facts, one: Fields) -> str:
    if one.get("disabled"):
        return mark("disabled", "bad")
    return mark("late", "warn") if is_late(facts, one) else mark("working", "good")
