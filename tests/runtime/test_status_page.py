"""The status page as text: who must act, what it must never hold, and colours that can be told apart."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import product

import pytest

from daemon.domain.token import FailureKind
from daemon.runtime.health import CHECKS
from daemon.runtime.status_page import STYLE, render
from daemon.runtime.status_page.parts import moment, number, span
from daemon.runtime.status_page.words import OUTCOMES, PAUSES
from tests.runtime.statuses import FAILING, HEALTHY, ILL, WELL

STARTING = dict.fromkeys(CHECKS, (False, "starting"))
AT = datetime(2026, 11, 21, 3, 12, 40, tzinfo=UTC)
ENOUGH = 4.5  # WCAG 2.2, 1.4.3


class Page(HTMLParser):
    """Notes what a page is made of, and that its tags pair up."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def named(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def test_a_healthy_one_says_that_nobody_has_to_act() -> None:
    """One look is enough."""
    page = Page(render(HEALTHY, WELL))
    for words in (
        "Ready",
        "All is well",
        "Nobody",
        "12\u2009637",
        "Counted over the whole store 9 s ago",
        "in 4 s",
        "none was late",
    ):
        assert words in page.words
    assert "Last failuresNone." in page.words


def test_a_failing_one_says_who_must_act_and_what_to_do() -> None:
    """The failing check and the refused client are yours, the outage is time's, a dead grant its owner's."""
    page = Page(render(FAILING, ILL))
    attention = page.words[page.words.index("8 things to know") : page.words.index("Counted over")]
    assert attention.index("clock") < attention.index("old-crm") < attention.index("new consent")
    for words in (
        "Not ready",
        "Check time synchronisation",
        "hubspot is paused (outage)",
        "12 tokens of it are past their expiry.",
        "Check its client id and client secret.",
        "old-crm is not configured",
        "The oldest due token has waited for 14 min 11 s.",
        "3 replies wait in the journal",
        "21 tokens need a new consent: google 15, xero 6.",
        "2 tokens will need a new consent within a week: xero 2.",
        "refreshd add",
        "1 min 11 s too late; 21 came after the old token's expiry",
    ):
        assert words in page.words


def test_every_failure_and_pause_has_its_advice() -> None:
    """A new kind of failure must not reach an operator without a word on what to do."""
    assert {kind.value for kind in FailureKind} <= set(OUTCOMES)
    assert set(PAUSES) == {"wrong_client", "misconfigured", "outage", "operator"}
    for kind in FailureKind:
        failure = dict(FAILING["last_failures"][0], kind=kind.value)
        page = Page(render({**HEALTHY, "last_failures": [failure]}, WELL))
        assert Page(OUTCOMES[kind.value].do).words in page.words


def test_a_failure_of_an_unknown_kind_is_shown_all_the_same() -> None:
    """Another version may have written it."""
    failure = dict(FAILING["last_failures"][0], kind="novel")
    page = Page(render({**HEALTHY, "last_failures": [failure]}, WELL))
    assert "novel" in page.words
    assert "hubspot:portal-2210043" in page.words


@pytest.mark.parametrize(("status", "checks"), [(HEALTHY, WELL), (FAILING, ILL), ({}, STARTING)])
def test_it_escapes_everything_and_loads_nothing(status, checks) -> None:
    """A token id is another writer's text; the page must neither run nor fetch anything, nor name an element twice."""
    page = Page(render(status, checks))
    assert not {"script", "link", "img", "iframe", "form", "object", "use", "image"} & set(page.tags)
    assert not {"src", "style", "xlink:href"} & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert set(page.named("href")) == {"/", "/status", "/readyz", "/metrics"}
    assert len(page.named("id")) == len(set(page.named("id")))
    assert set(page.named("aria-labelledby") + page.named("aria-describedby")) <= set(page.named("id"))
    if status is FAILING:
        assert "xero:<script>alert(1)</script>" in page.words


@pytest.mark.parametrize(
    "mean", ["</style><script>", '" onload="x', "{0}{clock}", "&lt;", "2026-11-21T03:00:00", None, 7, [], {}]
)
def test_no_text_of_others_becomes_markup(mean) -> None:
    """Wherever a status has a text, even one of the wrong type, the page stays whole."""
    failure = dict.fromkeys(("token", "provider", "kind", "code", "message", "at"), mean)
    status = {
        **FAILING,
        "last_failures": [failure],
        "version": mean,
        "instance": mean,
        "started_at": mean,
        "next_due_at": mean,
        "providers": {f"{mean}": {"configured": True, "paused": mean, "states": {f"{mean}": 3}}},
    }
    page = Page(render(status, {"store": (False, f"{mean}")}))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_it_stands_without_a_status() -> None:
    """While the daemon starts or the store is away there may be nothing to tell but the checks."""
    page = Page(render({}, STARTING))
    for words in ("Not ready", "5 things to know", "None is configured.", "has not been counted yet"):
        assert words in page.words


def test_a_plot_tells_its_numbers_three_ways() -> None:
    """As columns, as one sentence for who can't see them, and as a table."""
    page = Page(render(FAILING, ILL))
    assert page.tags.count("svg") == page.tags.count("desc") == page.tags.count("details") == 4
    assert "11\u2009815 fall due; the most, 1\u2009180, from 03:17 to 03:22." in page.words
    assert "from 03:12 to 03:17612" in page.words
    assert page.named("class").count("below") == 3


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_contrast_enough(dark) -> None:
    """WCAG AA, computed from the style itself: ink, soft ink and links on card and ground, marks on their own ground."""
    light, night = (dict(re.findall(r"--([\w-]+):(#\w+)", block)) for block in re.findall(r":root\{(.*?)\}", STYLE, re.DOTALL))  # fmt: skip
    colours = {**light, **night} if dark else light
    pairs = [
        *product(("ink", "soft"), ("card", "ground")),
        *((kind, f"{kind}-bg") for kind in ("good", "bad", "warn", "calm")),
    ]
    for ink, ground in pairs:
        assert contrast(colours[ink], colours[ground]) >= ENOUGH, (ink, ground)
    for drawn in ("fill", "fail", "tick"):  # WCAG 1.4.11: what is drawn
        assert contrast(colours[drawn], colours["card"]) >= 3


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("length", "said"),
    [
        ({"seconds": 0}, "0 s"),
        ({"milliseconds": 400}, "0.4 s"),
        ({"seconds": 59}, "59 s"),
        ({"seconds": 60}, "1 min"),
        ({"seconds": 250}, "4 min 10 s"),
        ({"hours": 2, "minutes": 5, "seconds": 9}, "2 h 5 min"),
        ({"days": 41, "hours": 7}, "41 d 7 h"),
        ({"seconds": -71}, "-1 min 11 s"),
    ],
)
def test_a_span_is_told_in_two_units(length, said) -> None:
    """What a person would say."""
    assert span(timedelta(**length)) == said


def test_a_moment_is_told_by_its_distance() -> None:
    """The date only where it is another day's; nonsense as it is, but harmless."""
    assert re.sub("<.*?>", "", moment("2026-11-21T03:10:00Z", AT)) == "2 min 40 s ago 03:10:00"
    assert re.sub("<.*?>", "", moment("2026-11-20T03:12:40Z", AT)) == "1 d ago 2026-11-20 03:12:40"
    assert moment("<soon>", AT) == "&lt;soon&gt;"
    assert number(1234567) == "1\u2009234\u2009567"
