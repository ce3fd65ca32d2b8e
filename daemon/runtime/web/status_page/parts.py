"""The smallest pieces of the page: escaped text, marks, tables, times."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from daemon.domain.visible import visible

_SIGNS = {"good": "✓", "bad": "✕", "warn": "!", "calm": "•"}  # so that marks differ by more than their colour
THIN_SPACE = "\u2009"
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))


def text(value: object) -> str:
    """Escape `value`. Characters that are invisible or change the text direction are shown by code point."""
    if value is None:
        return "–"  # noqa: RUF001  a dash is meant
    return escape(visible(str(value), keep=THIN_SPACE))


def spaced(name: object) -> str:
    return str(name).replace("_", " ")


def number(value: object) -> str:
    """Format with thin spaces between thousands, which can't be mistaken for a decimal point."""
    return f"{value:,}".replace(",", THIN_SPACE) if isinstance(value, int) else text(value)


def mark(word: str, kind: str) -> str:
    return f'<span class="mark {kind}"><span aria-hidden="true">{_SIGNS[kind]}</span> {text(word)}</span>'


def ids(tokens: Sequence[object], *, first: int = 0) -> str:
    """List token ids: the first ones visible, the others on demand."""
    shown = ", ".join(f"<code>{text(token)}</code>" for token in tokens[:first])
    if not (more := tokens[first:]):
        return shown
    items = "".join(f"<li><code>{text(token)}</code></li>" for token in more)
    count = f"{number(len(more))} more" if first else "Their ids"
    return f"{shown}<details><summary>{count}</summary><ul>{items}</ul></details>"


def section(name: str, title: str, content: str) -> str:
    """Render a landmark that is named by its heading."""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{content}</section>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0) -> str:
    """Render a table. Cells are HTML: the first of a row is its heading, the last `numbers` are numbers.

    On a narrow screen each row becomes a block and each cell shows its column. The roles keep it a table for
    screen readers.
    """
    first = len(heads) - numbers
    kinds = ["n" if column >= first else "" for column in range(len(heads))]
    head = "".join(
        f'<th role="columnheader" scope="col" class="{kind}">{text(name)}</th>'
        for name, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(_row(heads, kinds, row) for row in rows)
    return (
        f'<table role="table"><caption class="unseen">{text(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{body}</tbody></table>'
    )


def _row(heads: Sequence[str], kinds: Sequence[str], cells: Sequence[str]) -> str:
    rest = "".join(
        f'<td role="cell" class="{kind}" data-of="{text(name)}"><div>{cell}</div></td>'
        for name, kind, cell in list(zip(heads, kinds, cells, strict=True))[1:]
    )
    return f'<tr role="row"><th role="rowheader" scope="row">{cells[0]}</th>{rest}</tr>'


def instant(value: object) -> datetime | None:
    """Parse a time in a status; None if it isn't one."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


def moment(value: object, now: datetime | None, *, form: str = "{apart} <small>{clock}</small>") -> str:
    """Render a time as its distance from now, together with the time itself, to search the log for."""
    at = instant(value)
    if at is None:
        return text(value)
    same = now is not None and at.date() == now.date()
    clock = (
        f'<time datetime="{text(value)}">{at.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S")}</time>'
    )
    if now is None:
        return clock
    apart = f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"
    return form.format(apart=apart, clock=clock)


def span(length: timedelta) -> str:
    """Format in the two largest units: "3 d 2 h", "4 min 10 s", "12 s"."""
    sign, left = ("-", -length) if length < timedelta(0) else ("", length)
    for place, (unit, size) in enumerate(_UNITS):
        if left >= size:
            whole, rest = divmod(left, size)
            smaller = (*_UNITS, ("s", timedelta(seconds=1)))[place + 1]
            parts = rest // smaller[1]
            return f"{sign}{whole} {unit}" + (f" {parts} {smaller[0]}" if parts else "")
    seconds = left.total_seconds()
    return f"{sign}{seconds:.0f} s" if seconds >= 1 or not seconds else f"{sign}{seconds:.1f} s"
