"""The status page as text: who must act, what it must never hold, and colours that can be told apart."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import product
from typing import Any

import pytest

from daemon.domain.circuit_breaker import Reason
from daemon.domain.token import FailureKind
from daemon.runtime.web.server import CHECKS
from daemon.runtime.web.status_page import STYLE, render
from daemon.runtime.web.status_page.parts import moment, number, span
from daemon.runtime.web.status_page.texts import OUTCOMES, PAUSES
from tests.runtime.web.statuses import FAILING, HEALTHY, ILL, WELL, ago, provider, text

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


def test_a_token_that_has_become_due_since_the_count_is_due_now() -> None:
    """The next token is not due in the past, and there is no sentence where nothing is stored."""
    assert (
        "The next token is due now." in Page(render(HEALTHY | {"next_due_at": ago(seconds=13)}, WELL)).words
    )
    assert "The next token" not in Page(render(HEALTHY | {"next_due_at": None}, WELL)).words


def test_a_failing_one_says_who_must_act_and_what_to_do() -> None:
    """The failing check and the refused client are yours, the outage is time's, a dead grant its owner's."""
    page = Page(render(FAILING, ILL))
    attention = page.words[page.words.index("9 things to know") : page.words.index("Counted over")]
    assert attention.index("clock") < attention.index("old-crm") < attention.index("new consent")
    assert "xero:acme\\u202egpj.exe" in attention
    for words in (
        "Not ready✕ 4 need you, 2 need their owners, 3 need time",
        "refreshd: not ready, 4 need you",
        "3 tokens are stuck: xero 3.",
        "The next probe is due in 8 min (03:20:40).",
        "Check time synchronisation",
        "hubspot is paused (outage)",
        "12 of its tokens are past their expiry.",
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


@pytest.mark.parametrize(
    ("about", "many", "each"),
    [
        (
            {"expired": 2},
            "4 providers have tokens past their expiry: p0 2, p1 2, p2 2, p3 2. The last failures",
            "p2: 2 of its tokens are past their expiry.",
        ),
        (
            {"paused": "outage", "expired": 1},
            "4 providers are paused (outage): p0 1, p1 1, p2 1, p3 1. The provider does not answer.",
            "p2 is paused (outage).",
        ),
        ({"paused": "operator"}, "4 providers are paused (operator): p0, p1, p2, p3.", "p2 is paused (operator)."),
        (
            {"configured": False},
            "4 providers are not configured: p0, p1, p2, p3. Their tokens",
            "p2 is not configured",
        ),
    ],
)  # fmt: skip
def test_many_providers_with_the_same_trouble_share_an_item(
    about: dict[str, Any], many: str, each: str
) -> None:
    """In a night in which all fail, what needs an operator would be buried under a line for each of them."""
    shown = {
        count: Page(
            render({**HEALTHY, "providers": {f"p{n}": provider(7, **about) for n in range(count)}}, WELL)
        ).words
        for count in (3, 4)
    }
    assert each in shown[3]
    assert "providers are paused" not in shown[3]
    assert each not in shown[4]
    assert many in shown[4]
    assert ("machine's network" in shown[4]) == (about.get("paused") == "outage")


def test_a_probe_that_is_overdue_was_due() -> None:
    """It runs with the next sweep."""
    about = provider(7, paused="outage", next_probe_at=text(AT - timedelta(seconds=30)))
    assert (
        "The next probe was due 30 s ago" in Page(render({**HEALTHY, "providers": {"a": about}}, WELL)).words
    )


def test_every_failure_and_pause_has_its_advice() -> None:
    """A new kind of failure must not reach an operator without a word on what to do."""
    assert {kind.value for kind in FailureKind} <= set(OUTCOMES)
    assert {reason.value for reason in Reason} == set(PAUSES)
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


@pytest.mark.parametrize(
    ("what", "weight", "need"),
    [
        ({}, "good", ""),
        ({"paused": "outage"}, "warn", "1 needs time"),
        ({"paused": "outage", "expired": 2}, "bad", "1 needs time"),
        ({"paused": "rejections"}, "bad", "1 needs you"),
        ({"paused": "unparsed"}, "warn", "1 needs time"),
        ({"paused": "operator"}, "calm", "1 needs you"),
        ({"expired": 2}, "bad", "1 needs you"),
        ({"stuck": 2}, "warn", "1 needs you"),
        ({"revocation_failed": 2}, "warn", "1 needs you"),
        ({"set_aside": 1}, "warn", "1 needs you"),
        ({"held": 1}, "warn", "1 needs time"),
        ({"ending": 1}, "calm", "1 needs its owner"),
        ({"states": {"needs_reauth": 1}}, "calm", "1 needs its owner"),
        ({"configured": False}, "warn", "1 needs you"),
    ],
)
def test_ready_is_green_and_what_needs_somebody_has_a_mark_of_its_own(what, weight, need) -> None:
    """Ready means that the checks pass, so it is never red; the mark beside it has the colour of the gravest thing."""
    about = {**HEALTHY["providers"]["xero"], **what}
    page = Page(render({**HEALTHY, "providers": {"xero": about}}, WELL))
    head = page.words[page.words.index("Ready") : page.words.index("As of")]
    sign = {"bad": "✕", "warn": "!", "calm": "•"}.get(weight)
    assert head == (f"Ready{sign} {need}" if need else "Ready")
    marks = [kind for kind in page.named("class") if kind.startswith("mark ")]
    assert marks[:2] == ["mark good", f"mark {weight}"]


def test_not_ready_is_red_and_draining_is_a_warning() -> None:
    """The first mark is about this instance alone."""
    for page, head, kind in (
        (render(HEALTHY, {**WELL, "store": (False, "MongoDB is away")}), "✕ Not ready✕ 1 needs you", "bad"),
        (render(HEALTHY, WELL, draining=True), "! Draining", "warn"),
    ):
        shown = Page(page)
        assert head in shown.words
        assert next(one for one in shown.named("class") if one.startswith("mark ")) == f"mark {kind}"


def test_a_process_that_is_ending_says_so() -> None:
    """It is neither ready nor out of order."""
    page = Page(render({**HEALTHY, "draining": True}, WELL, draining=True))
    assert "refreshd: draining" in page.words
    assert "Ready" not in page.words


def test_figures_that_are_old_are_not_shown_as_todays() -> None:
    """A count that stands still needs somebody, whether there was one or never."""
    late = {"count_late": True, "counted_at": text(AT - timedelta(hours=3)), "counted_age_seconds": 10_800}
    page = Page(render({**HEALTHY, **late}, WELL))
    assert "The store was last counted 3 h ago" in page.words
    assert "1 needs you" in page.words
    assert "store has not been counted yet" in Page(render({"count_late": True}, WELL)).words


def test_a_warning_of_the_configuration_is_among_what_to_know() -> None:
    """It needs the operator, and leaves the daemon ready."""
    page = Page(render({**HEALTHY, "warnings": ["the embedded <b>MongoDB</b> is old"]}, WELL))
    assert "The embedded <b>MongoDB</b> is old." in page.words
    assert "1 needs you" in page.words


def test_failures_are_told_once_for_each_provider_and_reason_gravest_first() -> None:
    """With a count, the newest message, and the ids of all of them."""
    page = Page(render(FAILING, ILL))
    words = page.words[page.words.index("Last failures and what to do") :]
    order = [words.index(f"{sign} {kind}") for sign, kind in (("✕", "misconfigured"), ("✕", "unreadable"), ("!", "rejected"), ("•", "unavailable"), ("•", "in doubt"))]  # fmt: skip
    assert order == sorted(order)
    hubspot = words[words.index("hubspothttp_503") :]
    assert hubspot.startswith(
        "hubspothttp_503Service Unavailablehubspot:portal-2210043, hubspot:portal-1182 more"
    )
    assert hubspot.index("hubspot:portal-44102") < hubspot.index("8 s ago 03:12:324hubspottimeout")


def test_in_doubt_does_not_claim_that_no_reply_came() -> None:
    """A page, or a 503, is a reply."""
    assert "no reply came" not in OUTCOMES["in_doubt"].means


def test_it_asks_again_by_itself() -> None:
    """Each minute, without a script."""
    page = Page(render(HEALTHY, WELL))
    assert page.named("http-equiv") == ["refresh"]
    assert "60" in page.named("content")


@pytest.mark.parametrize("hostile", ["a\u202eb", "a\x1b[31mb", "a\u200bb", "a\x9bb", "a\nb", "a\ue000b"])
def test_what_is_not_seen_or_turns_text_around_is_shown_by_its_code_point(hostile: str) -> None:
    """In a token's id, a provider's name and a message alike."""
    failure = dict(FAILING["last_failures"][0], token=hostile, provider=hostile, message=hostile)
    about = {"configured": False, "states": {hostile: 1}}
    status = {**HEALTHY, "last_failures": [failure], "needs_reauth": [hostile], "providers": {hostile: about}}
    said = Page(render(status, WELL)).words
    assert hostile not in said
    assert said.count(f"a\\u{ord(hostile[1]):04x}") >= 5


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
    for words in ("Not ready", "7 things to know", "None is configured.", "has not been counted yet"):
        assert words in page.words


def test_a_plot_tells_its_numbers_three_ways() -> None:
    """As columns, as one sentence for who can't see them, and as a table."""
    page = Page(render(FAILING, ILL))
    assert page.tags.count("svg") == page.tags.count("desc") == 4
    assert page.tags.count("details") == 4 + 2  # and those of ids
    assert "11\u2009815 tokens fall due, with a peak of 1\u2009180 from 03:17 to 03:22." in page.words
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


HOOKS = [
    {"name": "crm", "waiting": 0, "oldest_at": None, "disabled": False},
    {"name": "mail", "waiting": 1200, "oldest_at": text(AT - timedelta(hours=3)), "disabled": False},
    {"name": "gone", "waiting": 2, "oldest_at": text(AT - timedelta(hours=3)), "disabled": True},
]


def test_a_hook_that_needs_its_operator_is_a_thing_to_know() -> None:
    """A disabled one, and one whose events wait. Without hooks there is no such section."""
    page = Page(render({**HEALTHY, "hooks": HOOKS}, WELL))
    assert "The hook gone is disabled" in page.words
    assert "The hook mail: its oldest event is from 3 h ago" in page.words
    assert "2 need you" in page.words
    assert page.words.count("✓ working") == Page(render(HEALTHY, WELL)).words.count("✓ working") + 1
    assert "hooks" in page.named("id")
    assert "hooks" not in Page(render(HEALTHY, WELL)).named("id")


def test_a_hooks_name_is_text() -> None:
    """It is checked at the start, and escaped all the same."""
    page = render({**HEALTHY, "hooks": [{**HOOKS[2], "name": "<script>"}]}, WELL)
    assert "script" not in Page(page).tags
