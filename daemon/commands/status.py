"""`refreshd status`: the facts of the status page in the terminal, from the daemon on this machine."""

import html
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import typer

from daemon.commands.support.access import read_settings
from daemon.commands.support.access_client import Answer, Foreign, ask_access
from daemon.commands.support.command import Command
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.health_client import Health, ask_health
from daemon.commands.support.options import given
from daemon.commands.support.output import Output, moment, span
from daemon.domain.visible import visible
from daemon.runtime.config.access_outline import AccessOutline, outline_access
from daemon.runtime.config.secret_places import Use
from daemon.runtime.web.status_page.attention import Thing, things
from daemon.runtime.web.status_page.parts import THIN_SPACE, instant
from daemon.runtime.web.status_page.snapshot import Facts

_WIDTH = 80  # columns
_TITLE = 17  # columns of the titles
_TAG = re.compile(r"<[^<>]*>")
_LISTS = (("</summary>", ": "), ("</li><li>", ", "))

app = typer.Typer()


@app.command(cls=Command, epilog="refreshd status")
def status(ctx: typer.Context) -> int:
    """Show whether the daemon on this machine is ready, and what needs attention.

    It asks the health server at server.host and server.port. The exit code is 0 if the daemon is ready, 1 if it is
    not, and 69 if no daemon answers.
    """
    options = given(ctx)
    health = ask_health(read_settings(options, {Use.SERVER}))
    outline = outline_access(options.config, os.environ, options.env_file)
    answer = ask_access(outline) if outline is not None else None
    ready = health.readiness.get("ready") is True
    try:
        facts, checks = Facts(health.status), _checks(health)
        found = things(facts, checks)
        record = {
            **health.status,
            "ready": ready,
            "checks": health.readiness.get("checks"),
            "access_ready": answer.ready if isinstance(answer, Answer) else None,
            "attention": [
                {"who": thing.who, "weight": thing.weight, "what": _plain(thing.said)} for thing in found
            ],
        }
        lines = [*_lines(facts, health, checks), *_access(facts, outline, answer), *_attention(facts, found)]
        Output(as_json=options.json).result(record, "\n".join(lines), keep="\n")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Failed(
            "the status of the daemon has a form that this version can't read. Use the refreshd of the daemon's version"
        ) from None
    return Exit.DONE if ready else Exit.FAILED


def _checks(health: Health) -> dict[str, tuple[bool, str]]:
    return {
        str(name): (check.get("ok") is True, str(check.get("detail", "no detail")))
        for name, check in (health.readiness.get("checks") or {}).items()
    }


def _lines(facts: Facts, health: Health, checks: Mapping[str, tuple[bool, str]]) -> Iterator[str]:
    yield from _row("Ready", _readiness(health, checks))
    if not facts.status:
        yield from _row("Status", "The daemon did not report its status in time.")
    else:
        yield from _row("Instance", f"{facts.status.get('instance')}, version {facts.status.get('version')}")
        for title, text in _tokens(facts):
            yield from _row(title, text)


def _access(facts: Facts, outline: AccessOutline | None, answer: Answer | Foreign | None) -> Iterator[str]:
    """The access services that were seen, and the one on this machine. Nothing if there is none."""
    title = "Access service"
    seen = cast(Sequence[Mapping[str, Any]], facts.status.get("access_services") or ())
    for one in seen:
        at = instant(one["seen_at"])
        ago = f", seen {moment(at, now=facts.now)}" if at and facts.now else ""
        deed = "reads and stores tokens" if one["writer_keys"] else "reads tokens"
        keys = ", ".join(one["reader_keys"])
        yield from _row(title, f"{one['id']}, version {one['version']}, {deed} (keys {keys}){ago}")
        title = ""
    if outline is None or not facts.status:
        return
    if not seen and not isinstance(answer, Answer):  # a new one is listed within a minute
        yield from _row(title, "none was seen in the last five minutes")
    if isinstance(answer, Answer):
        yield from _row("Access ready", _readiness_of(answer))
    elif seen:
        yield from _row("Access ready", "unknown: none answers on this machine")


def _readiness_of(answer: Answer) -> str:
    return "yes" if answer.ready else f"no ({', '.join(answer.failed) or 'it is shutting down'})"


def _attention(facts: Facts, found: list[Thing]) -> Iterator[str]:
    title = "Needs attention"
    for thing in found:
        yield from _row(title, f"{thing.who}: {_plain(thing.said)}")
        title = ""
    if not found and facts.status:
        yield from _row(title, "nothing")


def _readiness(health: Health, checks: Mapping[str, tuple[bool, str]]) -> str:
    if health.readiness.get("ready") is True:
        return "yes"
    reasons = [f"{name}: {detail}" for name, (ok, detail) in checks.items() if not ok]
    if health.readiness.get("draining"):
        reasons.insert(0, "it is shutting down")
    return f"no ({'; '.join(reasons)})" if reasons else "no"


def _tokens(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.counted_at is None:
        yield "Tokens", "not counted yet"
    else:
        counts = ", ".join(f"{count:,} {state}" for state, count in facts.by_state().items())
        yield "Tokens", f"{counts}; {facts.expired():,} expired"
    overdue = facts.status.get("overdue")
    if overdue:
        yield "Due", f"{overdue:,}, the oldest for {span(timedelta(seconds=facts.oldest_due_age))}"
    elif overdue == 0:
        yield "Due", "none"
    due = instant(facts.status.get("next_due_at"))
    if not overdue and due is not None and facts.now is not None:
        yield "Next due", moment(due, now=facts.now) if due > facts.now else "now"
    if facts.journal:
        yield "Journal", f"{facts.journal:,} replies that MongoDB has not confirmed"
    title = "Paused providers"
    for name, about in sorted(facts.providers.items()):
        if reason := about.get("paused"):
            at = instant(about.get("next_probe_at"))
            probe = f", next probe {moment(at, now=facts.now)}" if at and facts.now else ""
            yield title, f"{name} ({reason}{probe})"
            title = ""


def _row(title: str, text: str) -> list[str]:
    """Lines of at most `_WIDTH` columns. A word that is longer, such as an ID, is not broken."""
    return textwrap.wrap(
        visible(text),
        width=_WIDTH,
        initial_indent=f"{title:{_TITLE}} ",
        subsequent_indent=" " * (_TITLE + 1),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(markup: str) -> str:
    """Return the text of a piece of the status page, in which every value is escaped."""
    for tag, text in _LISTS:
        markup = markup.replace(tag, text)
    text = html.unescape(_TAG.sub("", markup)).replace(THIN_SPACE, ",")
    return " ".join(text.split())
