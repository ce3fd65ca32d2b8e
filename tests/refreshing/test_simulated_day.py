"""No good token comes late because of a bad one: days of mixed populations, in simulated time.

One seed runs with every test run. `bench/simulated_day.py --seeds 1000` runs as many as are wanted.
"""

import pytest

from daemon.domain.provider import Definition
from daemon.runtime.config.providers.definitions import shipped
from tests.providers.expectations import ROWS
from tests.providers.samples import VARIABLES
from tests.refreshing.populations import POPULATIONS, dead_words, of_definition
from tests.refreshing.simulation import HOUR, MINUTE, Day, Figures, Population, Spell

SEEDS = (1,)
LONG = {"each minute one more with a foreign client"}  # as much work as ten others
SPENT_ON_ONE = 40  # requests a day for one token that is refused; it was 550


def check(figures: Figures) -> None:
    assert figures.late == []
    assert figures.lost == []
    assert figures.condemned == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in POPULATIONS]
)
def test_no_good_token_comes_late_beside_bad_ones(name, seed):
    """Whatever the others meet, however they are spread, and through the provider's own troubles."""
    figures = Day(POPULATIONS[name], seed=seed).run()
    check(figures)
    assert figures.renewed > POPULATIONS[name].good


@pytest.mark.parametrize("name", sorted(shipped()))
def test_no_good_token_comes_late_at_any_shipped_provider(name):
    """Three refused ones of each of three kinds, and dead ones, beside twenty. The dead ones are reported with the
    provider's own code, in each of its wordings.
    """
    known, row = shipped()[name], ROWS.get(name)
    dead = dead_words(row.sandbox) if row is not None else {}
    population = of_definition(known, VARIABLES.get(name, {}), dead)
    figures = Day(population).run()
    check(figures)
    if not population.bad:
        return
    assert row is not None
    expected = row.expects("dead grant")
    assert len(dead) >= len(expected) >= 1
    for kind, verdict in zip(dead, expected * (len(dead) // len(expected)), strict=True):
        meaning, _, code = verdict.partition(",")[0].partition(" ")
        assert figures.dead.get(kind, []) == ([code] if meaning == "Rejected" else []), kind


@pytest.mark.parametrize(
    "kind", ["unauthorized client", "own words", "access denied", "invalid request", "error with 200"]
)
@pytest.mark.parametrize("turns", [None, 2 * HOUR])
def test_a_token_that_is_refused_for_good_costs_few_requests(kind, turns):
    """In a day, whether it ever was good or not: each wait grows with the time since its end."""
    population = Population(good=20, bad={kind: 5}, turns=turns)
    figures = Day(population).run()
    check(figures)
    assert figures.vain_each(population)[kind] <= SPENT_ON_ONE


@pytest.mark.parametrize("confirm_after", [MINUTE, 10 * MINUTE])
def test_a_grant_that_has_been_dead_for_days_is_reported_within_minutes(confirm_after):
    """However often it has failed: no backoff of those failures delays the second question."""
    known = Definition(
        name="acme", title="Acme", token_url="https://acme.example/token", confirm_after=confirm_after
    )
    day = Day(Population(good=30, bad={"dead": 10}, definition=known, lasts=3 * HOUR))
    check(day.run())
    assert day.asked_at.keys() == day.reported_at.keys()
    waited = [day.reported_at[account] - day.asked_at[account] for account in day.asked_at]
    assert len(waited) == 10
    assert max(waited) < confirm_after + 6 * MINUTE
    assert min(waited) >= confirm_after


@pytest.mark.parametrize(
    ("replicas", "share"),
    [
        (1, 1.0),
        (2, 0.5),
        pytest.param(1, 0.5, marks=pytest.mark.long),
        pytest.param(2, 1.0, marks=pytest.mark.long),
    ],
)
def test_a_mass_of_wrong_rejections_condemns_at_most_twenty(share, replicas):
    """Five minutes, six thousand tokens: afterwards all others are renewed, and nobody had to do anything."""
    spell = Spell(kind="rejections", begins=20 * MINUTE, lasts=5 * MINUTE, share=share)
    figures = Day(Population(good=6000, share=64, spells=[spell], replicas=replicas, lasts=1.5 * HOUR)).run()
    assert len(figures.condemned) <= 20
    assert (figures.late, figures.lost) == ([], [])


def test_a_page_in_the_place_of_replies_is_asked_for_little_and_over_soon():
    """Status 200 for five minutes while two thousand tokens are due."""
    spell = Spell(kind="page", begins=2 * MINUTE, lasts=5 * MINUTE)
    population = Population(good=2000, spread=4 * MINUTE, share=64, spells=[spell], lasts=10 * MINUTE)
    figures = Day(population).run()
    assert (figures.lost, figures.condemned) == ([], [])
    assert figures.asked_in_trouble <= 64 + 40
    assert figures.renewed == 2000
