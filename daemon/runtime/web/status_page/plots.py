"""The plots: columns as inline SVG. The SVG contains no text, so that it can be stretched; the labels are
around it.

Each has a title and a description for screen readers, and its numbers as a table.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.runtime.web.status_page.parts import table, text

WIDE, HIGH = 10, 100  # of one column, in units of the drawing
LEAST = 3  # the height of a small value, so that it is visible
NEXT_HOUR = ("now", "15 min", "30 min", "45 min", "60 min")
LAST_HOUR = ("60 min ago", "45", "30", "15", "now")
COUNTS = [
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    *(step * 10**size for size in range(9) for step in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)),
]
DURATIONS = [
    10,
    20,
    30,
    45,
    *(m * 60 for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45)),
    *(h * 3600 for h in (1, 2, 4, 8, 16, 24, 48)),
]

Value = float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """`values` are the columns (negative ones hang below the line), `ticks` single values above them.

    `summary` is a one-sentence summary. `say` formats a value. `scale` lists the possible maxima of the axis.
    `rows` are the cells of the table under `heads`.
    """

    name: str
    title: str
    summary: str
    values: Sequence[Value]
    ticks: Sequence[Value] = ()
    axis: Sequence[str]
    say: Callable[[float], str]
    scale: Sequence[float]
    label: Callable[[int], str]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = ""


def draw(plot: Plot) -> str:
    numbers = [value for value in (*plot.values, *plot.ticks) if value is not None]
    top, low = _top(plot.scale, max(numbers, default=0)), min(0, *numbers, 0)
    low = max(low, -top / 2)  # columns below the line take at most a third of the drawing
    scale = HIGH / (top - low)
    zero = top * scale
    columns = "".join(
        _column(number, value, zero, scale, f"{plot.label(number)}: {plot.say(value)}")
        for number, value in enumerate(plot.values)
        if value
    )
    ticks = "".join(
        f'<rect class="tick" x="{number * WIDE + 1}" y="{zero - value * scale - 1:.1f}" width="{WIDE - 2}" height="2"/>'
        for number, value in enumerate(plot.ticks)
        if value is not None and value >= 0
    )
    width, name = len(plot.values) * WIDE, plot.name
    marks = "".join(f"<span>{text(word)}</span>" for word in plot.axis)
    return (
        f'<figure class="{plot.kind}"><figcaption><h3>{text(plot.title)}</h3><p>{text(plot.summary)}</p></figcaption>'
        f'<div class="plot"><span class="top" aria-hidden="true">{text(plot.say(top)) if numbers else ""}</span>'
        f'<svg role="img" aria-labelledby="{name}-t" aria-describedby="{name}-d" viewBox="0 0 {width} {HIGH}"'
        f' preserveAspectRatio="none"><title id="{name}-t">{text(plot.title)}</title>'
        f'<desc id="{name}-d">{text(plot.summary)}</desc>'
        f'<path class="grid" d="M0 .5H{width}M0 {zero / 2:.1f}H{width}"/>{columns}{ticks}'
        f'<path class="line" d="M0 {min(zero, HIGH - 0.5):.1f}H{width}"/></svg>'
        f'<div class="axis" aria-hidden="true">{marks}</div></div>'
        f'<details><summary>Numbers<span class="unseen"> of: {text(plot.title)}</span></summary>'
        f"{table(plot.title, plot.heads, plot.rows, numbers=len(plot.heads) - 1)}</details></figure>"
    )


def _column(number: int, value: float, zero: float, scale: float, said: str) -> str:
    tall = max(abs(value) * scale, LEAST)
    y, kind = (zero - tall, "") if value > 0 else (zero, ' class="below"')
    tall = min(tall, HIGH - y)
    return (
        f'<rect{kind} x="{number * WIDE + 1}" y="{y:.1f}" width="{WIDE - 2}" height="{tall:.1f}">'
        f"<title>{text(said)}</title></rect>"
    )


def _top(scale: Sequence[float], value: float) -> float:
    """Choose the maximum of the axis from a few values, so that it is readable and does not jump at each
    renewal.
    """
    place = bisect_left(scale, value)
    return scale[place] if place < len(scale) else value
