"""The list of providers: each filter, all of them together, and columns that fit."""

import pytest

from daemon.commands.support.provider_listing import Consent, Kind, Wanted, kind_of, table, ways_of
from daemon.domain.provider import Grant
from daemon.runtime.config.providers.definitions import shipped


def names(*, configured: tuple[str, ...] = (), **wanted: object) -> set[str]:
    """The shipped providers that are listed."""
    filters = Wanted(**wanted)  # type: ignore[arg-type]
    return {name for name, known in shipped().items() if filters.includes(known, configured)}


def test_without_a_filter_all_are_listed():
    assert Wanted().is_all
    assert names() == set(shipped())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("xero", "xero"),
        ("XERO", "xero"),
        ("intuit", "quickbooks"),  # the title
        ("googleapis.com", "google"),  # a host
        ("zoom server", "zoom-server"),  # all words
        ("  xero ", "xero"),
    ],
)
def test_a_search_looks_at_name_title_and_hosts(text, found):
    assert found in names(search=text)
    assert len(names(search=text)) < len(shipped()) / 2


def test_a_search_for_nothing_known_finds_nothing():
    assert names(search="no-such-provider") == set()
    assert names(search="xero no-such-word") == set()


def test_confidence_splits_the_list():
    """Each provider is in one half."""
    verified, experimental = names(verified=True), names(verified=False)
    assert verified | experimental == set(shipped())
    assert not verified & experimental
    assert "xero" in verified


@pytest.mark.parametrize(
    ("kind", "one"),
    [
        (Kind.REFRESH, "xero"),
        (Kind.EXCHANGE, "facebook"),
        (Kind.REISSUED, "zoom-server"),
        (Kind.WATCHED, "bigcommerce"),
    ],
)
def test_each_kind_has_its_providers(kind, one):
    assert one in names(kind=kind)
    assert all(kind_of(shipped()[name]) is kind for name in names(kind=kind))


def test_every_grant_has_a_kind():
    """Also one that is added to the language later."""
    assert {kind_of(known) for known in shipped().values()} <= set(Kind)
    assert len(Grant) >= len(Kind)


def test_ways_to_consent():
    """A provider may have several."""
    assert "microsoft" in names(consent=Consent.DEVICE) & names(consent=Consent.BROWSER)
    assert ways_of(shipped()["ebay"]) == {Consent.ELSEWHERE}
    assert not names(consent=Consent.ELSEWHERE) & names(consent=Consent.BROWSER)


def test_filters_hold_together():
    assert names(configured=("xero", "google"), verified=True) >= {"xero"}
    ours = ("xero", "google", "asana")  # Google's hosts have no x, and Asana is experimental
    filters = Wanted(configured=True, verified=True, search="x", kind=Kind.REFRESH, consent=Consent.BROWSER)
    assert {name for name, known in shipped().items() if filters.includes(known, ours)} == {"xero"}


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (160, ["Name", "Client", "Facts", "Refresh token", "Provider"]),
        (80, ["Name", "Client", "Facts", "Provider"]),
        (64, ["Name", "Client", "Provider"]),
        (40, ["Name", "Provider"]),
    ],
)
def test_columns_that_do_not_fit_are_left_out(width, titles):
    """What is left leaves room for the beginning of each provider's title."""
    columns, rows = table(shipped().values(), ("xero",), width=width)
    assert [column.title for column in columns] == titles
    assert all(len(row) == len(titles) for row in rows)
    assert len(rows) == len(shipped())
    widest = [max(len(cell) for cell in cells) for cells in zip(*([*rows, titles]), strict=True)]
    assert sum(widest[:-1]) + 2 * (len(titles) - 1) + 12 <= width
